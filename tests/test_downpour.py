"""Downpour against the asynchronous parameter server, which it is at push=1,fetch=1, and against algorithm 7.1 by hand."""

import numpy as np
import pytest

import dsgd
from dsgd.algorithms.downpour import ahead
from dsgd.algorithms.history import find_impossible
from dsgd.errors import UsageError
from launching import table
from order_reference import gradient, problem, pushes

DATA = dict(
    data="teacher:samples=302,features=12,hidden=8,classes=4",
    batch_size=30,
    hidden="40,8",
    dtype="float64",
    steps=24,
    optimizer="adagrad",
    no_plot=True,
)


def digest(algorithm, ranks, **flags):
    return dsgd.run(**DATA | flags, algorithm=algorithm, simulate=ranks).summary["params_sha256"]


WHOLE = dict(clip_norm=0.05, dropout=0.3, l2=0.01, optimizer="adam", schedule="cosine", warmup_steps=3)


@pytest.mark.identity("downpour")
@pytest.mark.parametrize("flags", [{}, dict(optimizer="sgd:momentum=0.9", batch_size=3), WHOLE])
@pytest.mark.parametrize("ranks, places", [(2, "servers=1"), (5, "servers=1"), (6, "servers=3"), (4, "colocated=true")])
def test_one_gradient_a_push_is_the_asynchronous_parameter_server(ranks, places, flags):
    """Its workers send the same messages, so that the order is the same too."""
    asp = digest(f"parameter-server:consistency=asp,{places}", ranks, **flags)
    assert digest(f"downpour:{places}", ranks, **flags) == asp
    assert digest(f"downpour:{places},fetch=2", ranks, **flags) != asp


def by_hand(flags, entries, n_push, n_fetch):
    """Algorithm 7.1 on the versions of a log, with adagrad on the server; gradients of a worker are counted by it alone."""
    job = problem(flags)
    versions = [job.objective.start(job.config.seed, np.dtype("float64"))]
    total, local = np.zeros_like(versions[0]), {}
    for worker, push, pulled, _ in entries:
        if push * n_push % n_fetch == 0:
            local[worker] = np.array(versions[pulled])
        accrued = np.zeros_like(total)
        for t in range(push * n_push, (push + 1) * n_push):
            g = gradient(job, local[worker], t, worker)
            accrued += g
            local[worker] -= job.lr * g
        total += accrued * accrued
        versions.append(versions[-1] - job.lr * (accrued / (np.sqrt(total) + 1e-10)))
    return versions[-1]


@pytest.mark.parametrize("n_push, n_fetch", [(1, 3), (4, 4), (2, 6)])
def test_it_is_algorithm_7_1(n_push, n_fetch):
    flags = DATA | dict(simulate=5, algorithm=f"downpour:push={n_push},fetch={n_fetch}")
    result = dsgd.run(**flags)
    entries = pushes(result)
    assert len(entries) == 4 * 24 // n_push and max(into - 1 - pulled for *_, pulled, into in entries) >= 3
    np.testing.assert_allclose(by_hand(flags, entries, n_push, n_fetch), result.params, rtol=0, atol=1e-12)
    forgotten = by_hand(flags, entries, n_push, n_push)  # a mutant that fetches with every push
    assert n_push == n_fetch or np.abs(forgotten - result.params).max() > 1e-6


def test_every_gradient_is_counted_once_whatever_the_order():
    flags = DATA | dict(algorithm="downpour:push=2,fetch=4", faults="slow:rank=2,x=50", simulate=5)
    result = dsgd.run(**flags)
    shares = [worker["samples"] for worker in result.summary["samples_per_worker"]]
    assert result.records[-1]["samples"] == sum(shares)
    made = result.summary["pushes_per_worker"]
    assert sum(made) == 48 and made[1] < 12 and all(number % 2 == 0 for number in made)


def test_both_worlds_follow_one_order(tmp_path):
    """A run of real processes, replayed in the simulator with other servers, and on processes again."""
    spec = "downpour:push=2,fetch=4"
    first, second = (str(tmp_path / name) for name in ("first", "second"))
    row = DATA | dict(algorithm=spec, checkpoint_every=8)
    outcomes = table(4, [row | dict(output=first), row | dict(output=second, replay=first)])
    assert outcomes[0]["hash"] == outcomes[1]["hash"]
    for ranks, places in ((4, "servers=1"), (5, "servers=2"), (3, "colocated=true")):
        again = dsgd.run(replay=first, algorithm=f"{spec},{places}", simulate=ranks)
        assert again.summary["params_sha256"] == outcomes[0]["hash"]


@pytest.mark.parametrize(
    "spoilt, said",
    [
        (lambda pushes: pushes.remove(pushes[-1]), "has not made all the pushes that belong together"),
        (lambda pushes: pushes[-1].__setitem__(2, pushes[-1][3] - 1), "is computed on version 47, after version "),
    ],
)
def test_an_order_without_whole_periods_cannot_have_been(spoilt, said):
    result = dsgd.run(**DATA, simulate=5, algorithm="downpour:push=2,fetch=4")
    model, entries = ahead(4, push=2, fetch=4), pushes(result)
    assert find_impossible([*entries, result.order[-1]], model, 4) is None
    spoilt(entries)
    assert said in find_impossible([*entries, result.order[-1]], model, 4)[1]


@pytest.mark.parametrize(
    "algorithm, flags, said",
    [
        ("downpour:push=0", {}, "push=0, fetch=1: push is 1 or more"),
        ("downpour:push=2", {}, "push=2, fetch=1: .* a multiple of it"),
        ("downpour:push=2,fetch=3", {}, "push=2, fetch=3: .* a multiple of it"),
        ("downpour:fetch=5", {}, "whole periods of 5 steps, and the run has 24, which is no multiple"),
        ("downpour:fetch=4", dict(checkpoint_every=6), "and --checkpoint-every is 6, which is no multiple"),
        ("downpour:servers=3", {}, "3 servers of 3 ranks leave no worker"),
    ],
)
def test_what_cannot_be_meant_is_refused(algorithm, flags, said):
    with pytest.raises(UsageError, match=said):
        dsgd.run(**DATA | flags, simulate=3, algorithm=algorithm)
