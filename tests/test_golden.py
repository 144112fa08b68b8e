"""The traces of three steps, line by line: what an algorithm sends, when and in which order, cannot change unseen.

DSGD_GOLDEN=write python -m pytest tests/test_golden.py     writes them anew; then read the difference
"""

import os
from pathlib import Path

import pytest

import dsgd
from dsgd.simulator.trace import lines

FOLDER = Path(__file__).parent / "golden"
RUNS = {
    "sgd": {"algorithm": "sgd", "simulate": 1},
    "data-parallel": {"algorithm": "data-parallel"},
    "data-parallel-recursive-doubling": {"algorithm": "data-parallel", "reduction": "recursive-doubling"},
    "overlapped": {"algorithm": "overlapped:bucket=1", "hidden": "8,8"},  # a bucket for each of three layers
    "sharded-update": {"algorithm": "sharded-update"},
    "dsgd": {"algorithm": "dsgd"},
    "parameter-server": {"algorithm": "parameter-server"},
    "parameter-server-asp": {"algorithm": "parameter-server:consistency=asp"},
    "downpour": {"algorithm": "downpour:push=1,fetch=2", "steps": 4},
    "easgd": {"algorithm": "easgd:tau=2", "steps": 4},
    "grouped": {"algorithm": "grouped", "simulate": 4},  # a group of two and one of one
    "model-parallel": {"algorithm": "model-parallel", "hidden": "8,8"},  # a layer for each rank
}


@pytest.mark.parametrize("name", RUNS)
def test_trace(name):
    small = {"simulate": 3, "steps": 3, "data": "digits", "hidden": "8", "batch_size": 12}
    result = dsgd.run(**small | RUNS[name], world={"trace": True})
    text = "".join(line + "\n" for line in lines(result.trace))
    file = FOLDER / f"{name}.trace"
    if os.environ.get("DSGD_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


def test_every_file_belongs_to_a_run():
    assert {file.stem for file in FOLDER.glob("*.trace")} == set(RUNS)
