"""What a server does about stale pushes, against the formulas in a loop over the run's log."""

from functools import cache

import numpy as np
import pytest

import dsgd
from dsgd.algorithms.staleness import LAMBDA, Correction
from dsgd.errors import UsageError
from dsgd.objectives import Quadratic
from launching import table
from order_reference import followed, gradient, problem, pushes

# 884 parameters are four blocks of keys; the last batch of an epoch has 2 samples for 4 workers.
DATA = dict(
    data="teacher:samples=302,features=12,hidden=8,classes=4",
    batch_size=30,
    hidden="40,8",
    dtype="float64",
    steps=30,
    optimizer="sgd:momentum=0.9",
    lr=0.02,
)
ASP = "parameter-server:consistency=asp"
FORMULAS = {
    "ignore": lambda g, staleness, x, then: g,
    "divide": lambda g, staleness, x, then: g / max(1, staleness),
    "compensate": lambda g, staleness, x, then: g + LAMBDA * g * g * (x - then),
    "compensate,compensation=3": lambda g, staleness, x, then: g + 3.0 * g * g * (x - then),
}


@cache
def trained(staleness, algorithm=ASP, ranks=5, **flags):
    flags = DATA | flags | dict(algorithm=f"{algorithm},staleness={staleness}", simulate=ranks)
    return flags, dsgd.run(**flags)


def digest(algorithm, staleness="ignore", ranks=5, **flags):
    return trained(staleness, algorithm, ranks, **flags)[1].summary["params_sha256"]


# --- the server's update is the formula


@pytest.mark.parametrize("optimizer", ["sgd", "sgd:momentum=0.9,nesterov=true", "adagrad", "rmsprop", "adam", "lamb"])
def test_a_servers_optimizer_steps_once_for_each_push_of_the_log(optimizer):
    flags, result = trained("ignore", optimizer=optimizer)
    assert np.array_equal(followed(flags, pushes(result)), result.params)


@pytest.mark.parametrize("staleness", FORMULAS)
def test_a_stale_push_is_changed_as_the_formula_says(staleness):
    flags, result = trained(staleness)
    entries = pushes(result)
    assert max(into - 1 - pulled for _, _, pulled, into in entries) >= 3
    assert np.array_equal(followed(flags, entries, FORMULAS[staleness]), result.params)
    assert staleness == "ignore" or digest(ASP) != result.summary["params_sha256"]


@pytest.mark.parametrize("staleness", ["divide", "compensate"])
def test_a_staleness_off_by_one_is_seen(staleness, monkeypatch):
    """To divide, that of the version after; to compensate, the x of the answer before."""
    give, correct, last = Correction.give, Correction.correct, []

    def one_late(self, worker, version, packet):
        last.append(packet)
        give(self, worker, version, last[-2:][0])

    def one_more(self, worker, message, version, packet):
        return correct(self, worker, message, version + 1, packet)

    mutant = {"divide": ("correct", one_more), "compensate": ("give", one_late)}[staleness]
    monkeypatch.setattr(Correction, *mutant)
    flags = DATA | dict(algorithm=f"{ASP},staleness={staleness}", simulate=5)
    wrong = dsgd.run(**flags)
    assert not np.array_equal(followed(flags, pushes(wrong), FORMULAS[staleness]), wrong.params)


@pytest.mark.parametrize("staleness", FORMULAS)
def test_where_no_push_is_stale_nothing_changes(staleness):
    """bsp, backup workers, whose late pushes are dropped, and a single worker."""
    for algorithm, ranks in (("bsp", 4), ("backup,b=1", 5), ("asp", 2), ("ssp,bound=2", 2)):
        server = f"parameter-server:consistency={algorithm}"
        assert digest(server, staleness, ranks) == digest(server, "ignore", ranks)


@pytest.mark.parametrize("model", ["softsync,n=2", "k-async,k=2", "ssp,bound=1", "sampled,sample=1,bound=1"])
@pytest.mark.parametrize("staleness", ["divide", "compensate,compensation=3"])
def test_any_number_of_servers_corrects_alike(staleness, model, tmp_path):
    """Under one order: that of a log, which also may be followed with another correction."""
    one = DATA | dict(algorithm=f"parameter-server:consistency={model},staleness={staleness}")
    first = dsgd.run(**one, simulate=5, faults="slow:rank=3,x=50", output=str(tmp_path / "run"), no_plot=True)
    for ranks, places in ((6, "servers=2"), (4, "colocated=true")):
        again = dsgd.run(replay=str(tmp_path / "run"), algorithm=f"{one['algorithm']},{places}", simulate=ranks)
        assert again.summary["params_sha256"] == first.summary["params_sha256"]
    changed = dsgd.run(replay=str(tmp_path / "run"), algorithm=f"parameter-server:consistency={model}")
    assert changed.order == first.order
    assert changed.summary["params_sha256"] != first.summary["params_sha256"]


def test_pushes_of_a_clock_are_divided_one_by_one():
    """They are parts of one sum, which has each at its own weight."""
    clock = "parameter-server:consistency=ssp,bound=2,apply=clock"
    slowed = dict(faults="slow:rank=2,x=10")
    flags, result = trained("divide", clock, **slowed)
    stale = [into - 1 - pulled for _, _, pulled, into in (e for e in result.order if isinstance(e, list))]
    assert max(stale) == 2
    assert digest(clock, "divide", **slowed) != digest(clock, **slowed)


def test_both_worlds_correct_alike(tmp_path):
    """A run of real processes is replayed in the simulator, to the same bits."""
    specs = [f"{ASP},staleness=divide", f"{ASP},staleness=compensate,compensation=3,servers=2"]
    rows = [DATA | dict(algorithm=spec, output=str(tmp_path / str(i)), no_plot=True) for i, spec in enumerate(specs)]
    for i, outcome in enumerate(table(4, rows)):
        assert dsgd.run(replay=str(tmp_path / str(i))).summary["params_sha256"] == outcome["hash"]


# --- what they are for


def test_dividing_converges_where_ignoring_does_not():
    """Eight equal workers: τ = 7, beyond η λ = 2 sin(π / 30) = 0.21 delayed SGD is unstable, and 0.5 / 7 is below."""
    flags = dict(
        batch_size=1000, steps=40, simulate=9, lr=0.5, dtype="float64", optimizer="sgd", hidden="", partition="shuffled"
    )

    def loss(staleness):
        run = dsgd.run(objective=Quadratic(), algorithm=f"{ASP},staleness={staleness}", **flags)
        return run.summary["test_loss"]

    least = Quadratic().evaluate(Quadratic().centres.mean(axis=0))["test_loss"]
    assert loss("divide") < 1.01 * least
    assert loss("ignore") > 1e3 * least


def test_compensation_is_closer_to_sequential_sgd_than_nothing():
    """Sequential: the pushes of the log one after the other, each gradient at the x that it goes into.

    One sample a push: g ⊙ g stands for the Hessian sample by sample, and in a mean of gradients it is too small.
    """
    apart = []
    for seed in range(5):
        few = dict(optimizer="sgd", lr=0.05, steps=10, batch_size=4, seed=seed)
        flags, ignored = trained("ignore", **few)
        entries, job = pushes(ignored), problem(flags)
        x = job.objective.start(seed, np.dtype("float64"))
        for worker, push, _, _ in entries:
            x = x - job.lr * gradient(job, x, push, worker)
        _, compensated = trained("compensate,compensation=2", **few)
        assert pushes(compensated) == entries
        apart.append([np.linalg.norm(result.params - x) for result in (compensated, ignored)])
    assert all(0 < compensated < ignored for compensated, ignored in apart)
    compensated, ignored = np.mean(apart, axis=0)
    assert compensated < 0.92 * ignored


# --- what is refused


@pytest.mark.parametrize(
    "options, said",
    [
        ("staleness=forget", "staleness=forget is not one of ignore, divide, compensate"),
        ("compensation=1", "compensation= belongs to staleness=compensate, not to ignore"),
        ("staleness=divide,compensation=1", "compensation= belongs to staleness=compensate, not to divide"),
        ("staleness=compensate,compensation=-1", "compensation=-1.0 is the factor"),
        ("staleness=compensate,compensation=nan", "compensation=nan is the factor"),
        ("consistency=ssp,bound=1,apply=clock,staleness=compensate", "whose pushes are parts of an average"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        dsgd.run(**DATA, simulate=3, algorithm=f"parameter-server:{options}")
