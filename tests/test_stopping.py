"""What ends a run: its number of steps, convergence, or a signal; all ranks in one step, said in the last line."""

import json

import pytest

import dsgd
from dsgd.errors import UsageError
from launching import TRAIN, mpirun, python, table
from table import run_row

# 256 training samples: eight steps an epoch.
DATA = dict(data="teacher:samples=320,features=12,hidden=8,classes=4", batch_size=32, hidden="16", no_plot=True)


def converged_at(losses, tolerance, patience):
    """The number of the period after which a run with these mean losses stops, by the definition; None if it goes on."""
    best, running = float("inf"), 0
    for number, loss in enumerate(losses, 1):
        running = 0 if loss < best - tolerance else running + 1
        best = min(best, loss)
        if running == patience:
            return number
    return None


@pytest.mark.parametrize("log_every, period", [(0, 8), (3, 3)])
def test_a_run_stops_when_the_mean_loss_of_a_period_no_longer_falls(log_every, period):
    flags = DATA | dict(algorithm="dsgd", simulate=3, log_every=log_every, epochs=60)
    unbroken = dsgd.run(**flags)
    single = [row["train_loss"] for row in dsgd.run(**flags | dict(log_every=1)).records]
    losses = [sum(single[t : t + period]) / period for t in range(0, len(single), period)]  # every batch has 32 samples
    result = dsgd.run(**flags, tolerance=0.01, patience=3)
    steps = result.summary["steps"]
    assert result.summary["ended_by"] == "convergence" and steps % period == 0 and steps < unbroken.summary["steps"]
    assert steps == period * converged_at(losses, 0.01, 3)
    assert [row["train_loss"] for row in result.records] == [
        row["train_loss"] for row in unbroken.records[: len(result.records)]
    ]


def test_the_default_patience_is_ten():
    flags = DATA | dict(algorithm="sgd", epochs=60)
    given, default = (dsgd.run(**flags, tolerance=0.02, patience=patience) for patience in (10, 0))
    assert given.summary["steps"] == default.summary["steps"] < 480
    assert given.config.patience == 10


def test_a_tolerance_of_0_is_one():
    """The loss must not fall at all: the tolerance is given, and 0."""
    result = dsgd.run(**DATA, epochs=60, lr=1e-12, tolerance=0.0, patience=2, dtype="float32")
    assert result.summary["ended_by"] == "convergence" and result.summary["steps"] < 480
    with pytest.raises(UsageError, match="mean loss of 500 steps at a time, and the run has 50"):
        dsgd.run(**DATA, steps=50, log_every=500, tolerance=0.1)


def test_no_tolerance_never_stops_early():
    assert dsgd.run(**DATA, epochs=30, lr=1e-9).summary["ended_by"] == "steps"
    assert dsgd.run(**DATA, epochs=30, lr=1e-9, tolerance=1e-3).summary["steps"] == 8 * 11  # the first is the best


ALGORITHMS = ("data-parallel", "dsgd", "parameter-server", "parameter-server:servers=2", "grouped", "model-parallel")


def test_all_ranks_of_both_worlds_stop_in_one_step():
    """A rank that went on would wait for the others for ever."""
    # Two layers, for two ranks at least: model-parallel on 4 needs four of them.
    rows = [
        DATA | dict(algorithm=a, hidden="16,8,8", epochs=60, tolerance=0.03, patience=2, dtype="float64")
        for a in ALGORITHMS
    ]
    simulated, mpi = [run_row(row | dict(simulate=4)) for row in rows], table(4, rows)
    for row, ours, theirs in zip(rows, simulated, mpi):
        assert {**ours, "pids": 0} == {**theirs, "pids": 0}, row["algorithm"]
    assert len({outcome["steps"] for outcome in mpi}) == 1  # the losses are the same to rounding
    assert 16 < mpi[0]["steps"] < 480


def test_a_converged_run_that_is_resumed_says_so_at_once(tmp_path):
    flags = DATA | dict(algorithm="data-parallel", simulate=2, output=str(tmp_path), tolerance=0.03, patience=2)
    first = dsgd.run(**flags, epochs=60)
    again = dsgd.run(**flags, epochs=80, resume=True)
    assert again.summary["ended_by"] == "convergence"
    assert again.summary["params_sha256"] == first.summary["params_sha256"]


@pytest.mark.parametrize(
    "flags, end", [(["--epochs", 3], "24 steps done"), (["--epochs", 60, "--tolerance", 0.03], "converged at step ")]
)
def test_the_last_line_says_what_ended_the_run(tmp_path, flags, end):
    words = ["--data", DATA["data"], "--hidden", "16", "--output", tmp_path / "run", *flags]
    last = python(*TRAIN, *words).out.splitlines()[-1]
    assert end in last
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert str(summary["steps"]) in last and summary["ended_by"] in ("steps", "convergence")


def test_under_mpirun_it_is_said_once(tmp_path):
    words = ["--data", DATA["data"], "--epochs", 60, "--tolerance", 0.03, "--output", tmp_path / "run"]
    ended = mpirun(3, *TRAIN, *words)
    assert ended.code == 0 and ended.out.count("converged at step") == 1


@pytest.mark.fault(
    "N3",
    "the loss diverges, and stays finite",
    "`--stop-on-divergence K` ends the run after K epochs over 10 times the best loss, on all ranks, with code 70; it is saved",
)
@pytest.mark.parametrize("ranks", [0, 2])
def test_a_run_that_diverges_stops_and_says_so(ranks, tmp_path):
    words = ["--data", "linear:samples=200", "--hidden", "", "--epochs", 40, "--batch-size", 16, "--log-every", 1]
    words += ["--lr", 1.2, "--init", "glorot", "--no-plot", "--output", tmp_path / "run", "--stop-on-divergence", 3]
    ended = mpirun(ranks, *TRAIN, *words) if ranks else python(*TRAIN, *words)
    assert ended.code == 70 and "diverged at step" in ended.out, ended
    assert [line for line in ended.lines if "the loss has diverged" in line] == ended.lines[-1:], ended
    assert (tmp_path / "run" / "checkpoint.npz").exists()
