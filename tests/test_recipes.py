"""The code on docs/recipes.md runs, in order, in one folder; trackers that are not installed are stood in for."""

import csv
import json
import re
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipes.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
RUN, CSV, PANDAS, WANDB, MLFLOW = BLOCKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recipes")


@pytest.fixture
def records(folder, monkeypatch):
    """The records of the page's run; the folder that its code is run in is the current one."""
    monkeypatch.chdir(folder)
    if not Path("runs/recipe").exists():
        exec(RUN, {})
    return [json.loads(line) for line in Path("runs/recipe/metrics.jsonl").read_text().splitlines()]


def test_the_csv_has_every_record(records):
    exec(CSV, {})
    with open("runs/recipe/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [record["step"] for record in records]
    assert [float(row["train_loss"]) for row in rows] == [record["train_loss"] for record in records]


def test_pandas_reads_the_records(records, capsys):
    pytest.importorskip("pandas")
    exec(PANDAS, {})
    assert str(records[-1]["step"]) in capsys.readouterr().out


@pytest.mark.parametrize("name, code", [("wandb", WANDB), ("mlflow", MLFLOW)])
def test_a_tracker_is_told_every_number(name, code, records, monkeypatch):
    tracker = MagicMock()
    monkeypatch.setitem(sys.modules, name, tracker)
    exec(code, {})
    log = tracker.init().__enter__().log if name == "wandb" else tracker.log_metrics
    told = [(call.args[0]["train_loss"], call.kwargs["step"]) for call in log.call_args_list]
    assert told == [(record["train_loss"], record["step"]) for record in records]
    assert all(None not in call.args[0].values() for call in log.call_args_list)
