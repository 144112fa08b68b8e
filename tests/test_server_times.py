"""What theory says of the time of a step and of throughput, on the real server.

Gradients take times that the test has drawn, messages none unless told.  Checks are run on mutants, too.
"""

import numpy as np
import pytest

from clocks import TIMES, Flat, drawn, independent, pushes, serve, spread, table_of
from dsgd.algorithms import consistency
from dsgd.simulator.network import Route


def harmonic(n):
    return sum(1 / i for i in range(1, n + 1))


# --- time of a step


def seconds_per_step(model, times, steps):
    return serve(model, table_of(times), len(times), steps).summary["virtual_seconds"] / steps


def check_step_time(model, workers, late, steps=250):
    """(H_N − H_b)/μ: the N − b-th of N exponential times.  To rounding it is the mean of those that were drawn."""
    times = spread(workers, steps)
    measured = seconds_per_step(model, times, steps)
    assert measured == pytest.approx(np.sort(times, axis=0)[workers - late - 1].mean(), rel=1e-9)
    assert measured == pytest.approx(harmonic(workers) - harmonic(late), rel=0.01)


@pytest.mark.parametrize(
    "model, workers, late",
    [("bsp", 8, 0), ("ssp,bound=0", 8, 0), ("backup,b=2,cancel=true", 10, 2), ("k-sync,k=3,cancel=true", 8, 5)],
)
def test_the_time_of_a_step_is_an_order_statistic(model, workers, late):
    check_step_time(model, workers, late)


@pytest.mark.parametrize("model, workers, late", [("backup,b=2,cancel=true", 10, 2), ("k-sync,k=3,cancel=true", 8, 5)])
def test_a_server_that_waits_for_one_push_more_is_seen(model, workers, late, monkeypatch):
    monkeypatch.setattr(consistency, "Model", lambda collect, *rest, **more: made(collect + 1, *rest, **more))
    with pytest.raises(AssertionError):
        check_step_time(model, workers, late, steps=50)


made = consistency.Model


def test_late_workers_that_finish_first_cost_a_fifth(steps=200):
    """b = 2 of 10.  Without cancel a late worker joins the next step late, with its gradient for it still to come."""
    slow, fast = (seconds_per_step(f"backup,b=2,cancel={c}", spread(10, steps), steps) for c in ("false", "true"))
    assert 1.18 < slow / fast < 1.24


def check_late_pushes():
    """Every push of an update was computed on the version before it; the others are in none."""
    result = serve("backup,b=2", independent(TIMES["exponential"], 10, 60), 10, 60)
    assert result.summary["max_staleness"] == 0
    assert result.summary["pushes_dropped"] > 60


def test_late_pushes_are_dropped():
    check_late_pushes()


def test_late_pushes_that_are_not_dropped_are_seen(monkeypatch):
    def lenient(workers, *, b: int = None, cancel: bool = False):
        return consistency.k_async(workers, k=workers - b)

    monkeypatch.setitem(consistency.MODELS, "backup", lenient)
    with pytest.raises(AssertionError):
        check_late_pushes()


# --- throughput


@pytest.mark.parametrize("slowest", [1, 10])
def test_throughput_of_ssp_rises_with_its_bound_from_that_of_bsp_to_that_of_asp(slowest, workers=8, steps=100):
    times = spread(workers, 8 * steps)
    times[0] *= slowest
    bsp, *ssp, asp = (
        seconds_per_step(model, times, steps) for model in ("bsp", *(f"ssp,bound={s}" for s in (0, 1, 2, 4, 8)), "asp")
    )
    assert bsp == pytest.approx(ssp[0], rel=1e-12) == pytest.approx(times[:, :steps].max(axis=0).mean(), rel=1e-9)
    assert all(a > 1.005 * b for a, b in zip(ssp, [*ssp[1:], asp])), (bsp, *ssp, asp)


@pytest.mark.parametrize("slowest", [1, 10])
def test_asp_makes_as_many_pushes_as_its_workers_have_time_for(slowest, workers=8, steps=100):
    """Σ 1/mean: nobody waits, so a push comes when the times of its worker up to it have passed, and the log is in that
    order.  Counted up to the last N pushes, which the end of the run waits for; 800 of them, so to 1/√800 or so."""
    times = spread(workers, 8 * steps)
    times[0] *= slowest
    result = serve("asp", table_of(times), workers, steps)
    ends = times.cumsum(axis=1)
    order = sorted((end, i, k) for (i, k), end in np.ndenumerate(ends))[: workers * (steps - 1)]
    assert [(i, k) for _, i, k in order] == [(i, k) for i, k, *_ in pushes(result)[: len(order)]]
    assert len(order) / order[-1][0] == pytest.approx(workers - 1 + 1 / slowest, rel=0.04)


def check_clocks_of_ssp(bound, workers=5, steps=60):
    """Worker i ends its k-th gradient at C_i(k) = max(C_i(k−1), max_j C_j(k − 1 − s)) + what it takes: the log's order."""
    times = spread(workers, 8 * steps)
    result = serve(f"ssp,bound={bound}", table_of(times), workers, steps)
    ends = np.zeros((workers, steps * workers + 1))
    for k in range(1, ends.shape[1]):
        slowest = ends[:, k - 1 - bound].max() if k - 1 - bound > 0 else 0
        ends[:, k] = np.maximum(ends[:, k - 1], slowest) + times[:, (k - 1) % times.shape[1]]
    order = sorted((ends[i, k + 1], i, k) for i in range(workers) for k in range(ends.shape[1] - 1))
    granted = workers * (steps - 1)  # the last N pushes are granted by the end of the run
    assert [(i, k) for _, i, k in order[:granted]] == [(i, k) for i, k, *_ in pushes(result)[:granted]]


@pytest.mark.parametrize("bound", [0, 1, 2, 5])
def test_ssp_orders_pushes_as_its_recursion_does(bound):
    check_clocks_of_ssp(bound)


def test_a_bound_that_is_off_by_one_is_seen(monkeypatch):
    def generous(workers, *, bound: int = None, apply: str = "each"):
        return ssp(workers, bound=bound + 1, apply=apply)

    ssp = consistency.ssp
    monkeypatch.setitem(consistency.MODELS, "ssp", generous)
    with pytest.raises(AssertionError):
        check_clocks_of_ssp(2)


def check_saturation(workers, size=300, compute=0.01, bandwidth=1e6, pushes=960):
    """N workers make N / (compute + 2 c) pushes a second, up to 1 / c: c is what a push of 304 numbers takes on a card.

    They pass the server's card one at a time, so beyond N = (compute + 2 c)/c = 6.1 workers wait for it.
    """
    c = 8 * (size + 4) / bandwidth
    world, steps = drawn(lambda rank, number: compute, bandwidth=bandwidth), pushes // workers
    result = serve("asp", world, workers, steps, objective=Flat(pushes, size))
    expected = min(workers / (compute + 2 * c), 1 / c)
    assert pushes / result.summary["virtual_seconds"] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("workers", [1, 3, 6, 8, 15])
def test_a_server_saturates_where_the_bandwidth_of_its_card_says(workers):
    check_saturation(workers)


def test_cards_that_pass_all_at_once_are_seen(monkeypatch):
    def send(self, nbytes, action, message):
        self.kernel.at(self.kernel.now + self.seconds(nbytes), action, message)

    monkeypatch.setattr(Route, "send", send)
    check_saturation(3)
    with pytest.raises(AssertionError):
        check_saturation(15)
