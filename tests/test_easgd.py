"""Elastic averaging against independent workers, which it is at beta=0, and against algorithm 1 by hand."""

from unittest.mock import patch

import numpy as np
import pytest

import dsgd
from dsgd.algorithms.easgd import exchanges
from dsgd.algorithms.history import find_impossible
from dsgd.checkpoint import load
from dsgd.errors import UsageError
from dsgd.norms import Norms
from dsgd.optimizers import OPTIMIZERS
from dsgd.records import read_records
from dsgd.specs import build
from launching import table
from order_reference import gradient, problem, pushes
from table import outcome, stop_wished_in, timeless

DATA = dict(
    data="teacher:samples=302,features=12,hidden=8,classes=4",
    batch_size=30,
    hidden="40,8",
    dtype="float64",
    steps=24,
    optimizer="sgd:momentum=0.9",
    lr=0.05,
    no_plot=True,
)


def own(folder, rank, name="x"):
    """What a rank had for itself at the last checkpoint."""
    return load(folder)[0][f"{rank}/own/{name}"]


@pytest.mark.identity("easgd")
@pytest.mark.parametrize("optimizer", ["sgd", "sgd:momentum=0.9", "adam"])
@pytest.mark.parametrize("ranks, places", [(5, "servers=1"), (5, "servers=2"), (3, "colocated=true")])
def test_without_elasticity_it_is_independent_sgd(ranks, places, optimizer, tmp_path):
    """Each worker on its own parts, to the bit, and the centre stays where it was."""
    flags = DATA | dict(simulate=ranks, optimizer=optimizer, output=str(tmp_path / "run"))
    result = dsgd.run(**flags, algorithm=f"easgd:beta=0,tau=4,{places}")
    job = problem(flags | dict(algorithm=f"easgd:beta=0,tau=4,{places}"))
    start = job.objective.start(job.config.seed, np.dtype("float64"))
    assert np.array_equal(result.params, start)
    for worker, rank in enumerate(job.roles.workers):
        x, optimize = np.array(start), build(optimizer, OPTIMIZERS)
        for t in range(24):
            optimize.step(x, gradient(job, x, t, worker), job.lr)
        assert np.array_equal(own(tmp_path / "run", rank), x)
        assert not np.array_equal(x, start)


def by_hand(flags, entries, beta, tau, fresh=True):
    """({worker: x_i}, centre) of algorithm 1 on the versions of a log.   fresh: false takes the centre of the pull before"""
    job = problem(flags)
    workers, norms = len(job.roles.workers), Norms(job.objective.layout).lengths
    centres = [job.objective.start(job.config.seed, np.dtype("float64"))]
    x = {worker: np.array(centres[0]) for worker in range(workers)}
    optimizers = {worker: build(flags["optimizer"], OPTIMIZERS) for worker in range(workers)}
    seen = dict.fromkeys(range(workers), 0)
    for worker, push, pulled, _ in entries:
        for t in range(push * tau, (push + 1) * tau):
            optimizers[worker].step(x[worker], gradient(job, x[worker], t, worker), job.lr, norms)
        seen[worker], before = pulled, seen[worker]
        e = beta / workers * (x[worker] - centres[pulled if fresh else before])
        x[worker] -= e
        centres.append(centres[-1] + e)
    return x, centres[-1]


@pytest.mark.parametrize("tau, optimizer", [(1, "sgd"), (4, "sgd:momentum=0.9"), (4, "adam"), (4, "lamb")])
def test_it_is_algorithm_1(tau, optimizer, tmp_path):
    """With lamb, too: a worker has whole layers, however many servers there are."""
    flags = DATA | dict(simulate=6, optimizer=optimizer, output=str(tmp_path / "run"))
    flags |= dict(algorithm=f"easgd:tau={tau},servers=2")
    result = dsgd.run(**flags)
    entries = pushes(result)
    assert len(entries) == 4 * 24 // tau
    x, centre = by_hand(flags, entries, 0.9, tau)
    assert np.array_equal(centre, result.params)
    for worker in range(4):
        assert np.array_equal(own(tmp_path / "run", 2 + worker), x[worker])
    assert not np.array_equal(by_hand(flags, entries, 0.9, tau, fresh=False)[1], centre)


def test_all_workers_make_as_many_steps_and_the_slow_one_is_waited_for():
    result = dsgd.run(**DATA, simulate=5, algorithm="easgd:tau=4", faults="slow:rank=2,x=50", checkpoint_every=12)
    assert result.summary["pushes_per_worker"] == [6, 6, 6, 6]
    shares = [worker["samples"] for worker in result.summary["samples_per_worker"]]
    assert result.records[-1]["samples"] == sum(shares)
    assert [worker for worker, *_ in pushes(result)[:12]].index(1) == 9


def test_the_centre_learns():
    flags = DATA | dict(steps=200, simulate=5)
    elastic = dsgd.run(**flags, algorithm="easgd:tau=5").summary
    assert elastic["test_accuracy"] > dsgd.run(**flags, algorithm="easgd:tau=5,beta=0").summary["test_accuracy"] + 0.3


@pytest.mark.parametrize("places", ["servers=2", "colocated=true"])
def test_a_run_goes_on_from_a_cut(places, tmp_path, monkeypatch):
    """Broken off while it writes its third checkpoint: each worker has its x, its velocity and its clip again."""
    flags = DATA | dict(simulate=4, algorithm=f"easgd:tau=2,{places}", checkpoint_every=4, log_every=1, clip_norm=0.1)
    flags |= dict(faults="slow:rank=3,x=20")
    unbroken, saved = dsgd.run(**flags), []

    def break_off(*args, save=dsgd.rank.save):
        if len(saved) == 2:
            raise KeyError("broken off")
        saved.append(save(*args))

    monkeypatch.setattr("dsgd.rank.save", break_off)
    with pytest.raises(KeyError):
        dsgd.run(**flags, output=str(tmp_path / "run"))
    monkeypatch.undo()
    assert load(tmp_path / "run")[1]["step"] == 8
    resumed = dsgd.run(**flags, output=str(tmp_path / "run"), resume=True)
    assert outcome(resumed) == outcome(unbroken)
    assert timeless(read_records(tmp_path / "run")) == timeless(unbroken.records)
    with patch("dsgd.algorithms.easgd.SLOT", "forgotten"):  # a mutant that starts with fresh velocities
        dsgd.run(**flags | dict(steps=8), output=str(tmp_path / "mutant"))
    mutant = dsgd.run(**flags, output=str(tmp_path / "mutant"), resume=True)
    assert mutant.summary["params_sha256"] != unbroken.summary["params_sha256"]


def test_a_run_that_was_stopped_goes_on_where_each_worker_was(tmp_path):
    """At the stop some workers have made steps that they have not exchanged; they are neither lost nor made twice."""
    flags = DATA | dict(simulate=5, algorithm="easgd:tau=4", output=str(tmp_path / "run"), faults="slow:rank=2,x=50")
    with stop_wished_in(6):
        stopped = dsgd.run(**flags)
    assert stopped.summary["steps"] < 24
    made = {int(own(tmp_path / "run", rank, "made")[0]) for rank in range(1, 5)}
    assert max(made) > stopped.summary["steps"]
    result = dsgd.run(**flags, resume=True)
    assert np.array_equal(by_hand(flags, pushes(result), 0.9, 4)[1], result.params)
    again = dsgd.run(replay=str(tmp_path / "run"), algorithm="easgd:tau=4,servers=2", simulate=6)
    assert again.summary["params_sha256"] == result.summary["params_sha256"]
    shares = [worker["samples"] for worker in result.summary["samples_per_worker"]]
    assert result.records[-1]["samples"] == sum(shares)


def test_both_worlds_follow_one_order(tmp_path):
    """A run of real processes, replayed in the simulator with other servers, and on processes again."""
    first, second = (str(tmp_path / name) for name in ("first", "second"))
    row = DATA | dict(algorithm="easgd:tau=2", checkpoint_every=8)
    outcomes = table(4, [row | dict(output=first), row | dict(output=second, replay=first)])
    assert outcomes[0]["hash"] == outcomes[1]["hash"]
    for ranks, places in ((4, "servers=1"), (5, "servers=2"), (3, "colocated=true")):
        again = dsgd.run(replay=first, algorithm=f"easgd:tau=2,{places}", simulate=ranks)
        assert again.summary["params_sha256"] == outcomes[0]["hash"]
    stiffer = dsgd.run(replay=first, algorithm="easgd:tau=2,beta=0.5")
    assert stiffer.summary["params_sha256"] != outcomes[0]["hash"]


def test_a_replay_stands_still_where_its_run_did(tmp_path):
    """Workers stop at a rest within their steps between two exchanges: with other rests they would exchange another x."""
    dsgd.run(**DATA | dict(checkpoint_every=8), simulate=3, algorithm="easgd:tau=2", output=str(tmp_path / "run"))
    with pytest.raises(UsageError, match="its run had --checkpoint-every 8, not 12; its workers exchange"):
        dsgd.run(replay=str(tmp_path / "run"), checkpoint_every=12)


def test_an_order_in_which_a_worker_exchanges_less_often_cannot_have_been():
    result = dsgd.run(**DATA, simulate=5, algorithm="easgd:tau=4")
    model, entries = exchanges(4, tau=4), pushes(result)
    assert find_impossible(result.order, model, 4) is None
    less = [*entries[:-1], {"rest": len(entries) - 1, "step": 24}]
    assert "has not made all the pushes that belong together" in find_impossible(less, model, 4)[1]


@pytest.mark.parametrize(
    "algorithm, flags, said",
    [
        ("easgd:beta=-0.1", {}, "beta=-0.1: with 0 nobody"),
        ("easgd:beta=1.5", {}, "beta=1.5: with 0 nobody"),
        ("easgd:beta=nan", {}, "beta=nan: with 0 nobody"),
        ("easgd:tau=0", {}, "tau=0: an exchange follows 1 step or more"),
        ("easgd:tau=5", {}, "whole periods of 5 steps, and the run has 24, which is no multiple"),
        ("easgd:tau=4", dict(checkpoint_every=6), "and --checkpoint-every is 6, which is no multiple"),
        ("easgd:servers=2,colocated=true", {}, "every rank is a server"),
    ],
)
def test_what_cannot_be_meant_is_refused(algorithm, flags, said):
    with pytest.raises(UsageError, match=said):
        dsgd.run(**DATA | flags, simulate=3, algorithm=algorithm)
