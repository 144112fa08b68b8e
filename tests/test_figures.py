"""The pictures of the pages are what docs/figures.json says they are: the runs made again end in the hashes that it keeps."""

import hashlib
import json
import platform
import re
import shlex
import sys

import pytest
from fences import GUIDE, README, ROOT

import dsgd
from dsgd.arguments import read_arguments
from dsgd.versions import versions

sys.path[:0] = [str(ROOT / "docs")]
import figures  # noqa: E402

KEPT = json.loads(figures.KEPT.read_text(encoding="utf-8"))
DEAR = {"docs/consistency.png": ["bsp-0.3-False-0", "asp-0.01875-True-0"]}  # of 60 runs, those that are made again
AGAIN = [(picture, name) for picture, kept in KEPT.items() for name in DEAR.get(picture, kept["runs"])]


@pytest.fixture(scope="module")
def again():
    """(picture, run) -> the Result of the command that figures.json keeps."""
    done = {}

    def result(picture, name):
        command = KEPT[picture]["runs"][name]["command"]
        if command not in done:
            words = shlex.split(command.removeprefix("python -m dsgd.train "))
            done[command] = dsgd.run(read_arguments([*words, "--quiet", "--no-plot"])[0])
        return done[command]

    return result


def test_every_picture_of_the_pages_is_kept_and_is_the_one_that_was_drawn():
    """docs/benchmarks.png is drawn of benchmarks/results/reference.json."""
    shown = {
        (page.parent / name).resolve().relative_to(ROOT).as_posix()
        for page in (README, *GUIDE)
        for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert shown - {"docs/benchmarks.png"} == set(KEPT) == set(figures.PICTURES)
    for picture, kept in KEPT.items():
        assert hashlib.sha256((ROOT / picture).read_bytes()).hexdigest() == kept["sha256"], f"make figures: {picture}"


@pytest.mark.parametrize("picture, name", AGAIN)
def test_a_run_of_a_picture_ends_in_its_hash(picture, name, again, tmp_path, monkeypatch):
    """On another machine, or with another NumPy, in its loss."""
    monkeypatch.chdir(tmp_path)
    kept, summary = KEPT[picture]["runs"][name], again(picture, name).summary
    here = versions() | {"machine": platform.machine()}
    if all(kept[fact] == here[fact] for fact in figures.FACTS):
        assert summary["params_sha256"] == kept["params_sha256"]
    assert summary["train_loss"] == pytest.approx(kept["train_loss"], rel=1e-3)


def test_the_first_picture_draws_the_losses_of_its_runs(again):
    records = {name: again("docs/first.png", name).records for name in ("one-worker", "four-workers")}
    above, below = figures.one_curve(records).axes
    for line, rows in zip(above.lines, records.values(), strict=True):
        assert list(line.get_ydata()) == [row["train_loss"] for row in rows]
    assert 0 < max(below.lines[0].get_ydata()) < below.get_ylim()[1]  # all dots can be seen


def test_a_command_is_written_that_makes_the_run():
    config, _ = read_arguments(["--simulate", "3", "--faults", "slow:rank=1,x=2", "--trace", "--output", "a b"])
    written = figures.command(config.__dict__)
    assert written == "python -m dsgd.train --simulate 3 --faults slow:rank=1,x=2 --trace"
