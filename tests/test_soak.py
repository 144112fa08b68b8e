"""A short soak (make soak is the long one), and that it sees what it looks for."""

import random

import soak
import pytest

from launching import ROOT, python


@pytest.mark.fault("K1")
@pytest.mark.fault("P1")
def test_a_short_soak():
    ended = python(
        ROOT / "tests" / "soak.py", "saves=5", "saves-mpirun=1", "ranks=3", "chaos=3", "fuzz=20", timeout=120
    )
    assert ended.code == 0, ended
    said = [line for line in ended.out.splitlines() if not line.startswith(" ")]
    assert [line.partition(" (")[0] for line in said] == [
        "saves: 0 of 5 kills lost a run",
        "saves-mpirun: 0 of 1 kills lost a run",
        "ranks: 0 of 3 kills left something",
        "chaos: 0 of 3 seeds broke a promise",
        "fuzz: 0 of 20 inputs for each reader were not survived",
        "soak: nothing was lost, nothing left",
    ]


def test_a_run_that_ends_elsewhere_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "forked", lambda **fields: 0)
    monkeypatch.setattr(soak.os, "waitpid", lambda pid, options: (pid, 0))
    monkeypatch.setattr(soak, "killed", lambda moment, **fields: True)
    kills, lost = soak.saves(3, random.Random(0), tmp_path)
    assert kills == len(lost) == 3


def test_a_soak_that_failed_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(soak.tempfile, "tempdir", str(tmp_path))  # what failed is kept
    monkeypatch.setitem(soak.RUN, "saves", lambda count, chance, folder: (count, ["data-parallel in 3"]))
    assert soak.main(["saves=7"]) == 1
    assert "saves: 1 of 7 kills lost a run" in capsys.readouterr().out
    monkeypatch.setitem(soak.RUN, "saves", lambda count, chance, folder: (count - 1, []))
    assert soak.main(["saves=7"]) == 1  # too few were in time
    assert capsys.readouterr().out.splitlines()[-1] == "soak: FAILED"


def test_what_was_left_out_is_in_the_last_line(monkeypatch, capsys):
    monkeypatch.delenv("DSGD_OPENMPI", raising=False)
    assert soak.main(["ranks-openmpi"]) == 0
    assert ", without Open MPI" in capsys.readouterr().out.splitlines()[-1]


def test_what_chaos_and_fuzz_find_is_counted(tmp_path, monkeypatch):
    """Also when they end without having said what."""
    monkeypatch.setattr(soak, "ROOT", tmp_path)
    (tmp_path / "finds.py").write_text("print('seed 3 failed: x'); raise SystemExit(1)")
    assert soak.said(5, " failed: ", "finds") == (5, ["seed 3 failed: x"])
    (tmp_path / "breaks.py").write_text("raise SystemExit(1)")
    assert len(soak.said(5, " failed: ", "breaks")[1]) == 1
