"""What theory says of staleness, and of the largest step size with it, on the real server.

Gradients take times that the test has drawn, messages none, so that workers are always busy.  Checks are run on mutants
of the server, too, which they must catch.
"""

from math import pi, sin

import numpy as np
import pytest

import dsgd
from clocks import TIMES, Flat, drawn, independent, pushes, serve
from dsgd.algorithms import consistency
from dsgd.algorithms.server import Server
from dsgd.local import Local


# --- staleness


def check_staleness_of_asp(times, workers=8, steps=100):
    """N − 1, whatever the times: between a worker's pull and its push the others make N − 1 updates, on average.

    Exactly: staleness + 1 of a worker's push is into − (into of its push before), so it adds up to the last `into` of
    each.  The last N pushes of a run are one of each worker, P, P − 1, …, P − N + 1 of P = N · steps.
    """
    result = serve("asp", independent(times, workers, steps), workers, steps)
    expected = (workers - 1) * (1 - 1 / (2 * steps))
    assert result.summary["mean_staleness"] == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(workers - 1, rel=1 / steps)
    return result


@pytest.mark.parametrize("name", TIMES)
def test_mean_staleness_of_asp_is_n_minus_1_for_any_times(name):
    result = check_staleness_of_asp(TIMES[name])
    assert result.summary["max_staleness"] > 14  # the mean does not move, the greatest does


def test_the_greatest_staleness_depends_on_the_times():
    greatest = [check_staleness_of_asp(times).summary["max_staleness"] for times in TIMES.values()]
    assert max(greatest) > 2 * min(greatest)


@pytest.mark.parametrize("n, c", [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_mean_staleness_of_n_softsync_is_about_n(n, c, workers=8, steps=100):
    """(N − 1)/c for c = N/n pushes an update, n − 1/c: Zhang et al. 2016, section 3.1, say n.  The rest is the ends."""
    result = serve(f"softsync,n={n}", independent(TIMES["exponential"], workers, steps), workers, steps)
    ends = ((n - 1) / 2 + (c - 1) / c) / steps
    assert result.summary["mean_staleness"] == pytest.approx((workers - 1) / c - ends, rel=1e-12)


def check_staleness_of_k_async(k, workers=8, steps=100):
    """N/k − 1: a worker goes on with the update that its push is in, and N/k updates on it is in one again."""
    result = serve(f"k-async,k={k}", independent(TIMES["exponential"], workers, steps), workers, steps)
    ends = (workers / k - 1) / 2 / steps
    assert result.summary["mean_staleness"] == pytest.approx(workers / k - 1 - ends, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_mean_staleness_of_k_async_is_n_over_k_minus_1(k):
    check_staleness_of_k_async(k)


def test_a_staleness_that_counts_the_own_update_is_seen(monkeypatch):
    count = dsgd.order.staleness
    monkeypatch.setattr("dsgd.order.staleness", lambda entries: [s + 1 for s in count(entries)])
    with pytest.raises(AssertionError):
        check_staleness_of_asp(TIMES["exponential"])


def test_a_k_async_that_lets_workers_go_early_is_seen(monkeypatch):
    """It is softsync."""
    monkeypatch.setitem(consistency.MODELS, "k-async", early_k_async)
    with pytest.raises(AssertionError):
        check_staleness_of_k_async(4)


def early_k_async(workers, *, k: int = None):
    return consistency.softsync(workers, n=workers // k)


# --- stability


def growing(model, lr, workers, updates=160):
    """Whether |x| grows, on workers of one speed, which take turns."""
    objective = Flat(workers * updates)
    result = serve(model, drawn(lambda rank, number: 1.0), workers, updates // workers, lr, objective)
    quarter = len(objective.at) // 4
    return max(objective.at[3 * quarter :]) > max(objective.at[quarter : 2 * quarter]), objective, result


def largest_step(model, workers):
    """η λ at which |x| begins to grow, by bisection to 0.5 %."""
    low, high = 0.0, 2.5
    while high - low > 0.005 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if growing(model, middle, workers)[0] else (middle, high)
    return (low + high) / 2


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 5])
def test_the_largest_stable_step_size_with_a_fixed_delay(delay):
    """x_{t+1} = x_t − η λ x_{t−τ} is stable for η λ < 2 sin(π / (2 (2 τ + 1))): 2, 1, 0.618, 0.445, …, 0.285"""
    limit = 2 * sin(pi / (2 * (2 * delay + 1)))
    assert largest_step("asp", delay + 1) == pytest.approx(limit, rel=0.01)


@pytest.mark.parametrize("delay", [1, 2, 3, 5])
def test_workers_that_take_turns_have_a_delay_of_n_minus_1(delay, lr=0.2):
    """From the log; and the iterates are those of the recursion."""
    _, objective, result = growing("asp", lr, delay + 1)
    stale = [into - 1 - pulled for _, _, pulled, into in pushes(result)]
    assert stale == [min(t, delay) for t in range(len(stale))]
    x = [1.0] * (delay + 1)
    for _ in stale:
        x.append(x[-1] - lr * x[-1 - delay])
    np.testing.assert_allclose(objective.at, np.abs(x[: len(stale)]), rtol=1e-9, atol=1e-30)


def test_an_answer_that_is_one_update_old_is_seen(monkeypatch):
    """Staleness off by one, in x and not in the log: the limit for τ = 1 becomes that for τ = 2."""
    monkeypatch.setattr(Server, "_update", one_behind)
    assert largest_step("asp", 2) == pytest.approx(2 * sin(pi / 10), rel=0.01) != pytest.approx(1, rel=0.01)


update, gradient = Server._update, Local.gradient


def one_behind(self, key, samples):
    before = self.comm.copy(self.whole)
    for what in update(self, key, samples):
        self._copy = before
        yield what


def test_bsp_is_stable_up_to_the_limit_of_one_worker():
    """2: nothing is late, and the average over N workers is no larger than one gradient."""
    assert largest_step("bsp", 4) == pytest.approx(2, rel=0.01)


def test_a_forgotten_1_over_n_is_seen(monkeypatch):
    monkeypatch.setattr(Local, "gradient", lambda self, x, t, scale, **rest: gradient(self, x, t, 4 * scale, **rest))
    assert largest_step("bsp", 4) == pytest.approx(2 / 4, rel=0.01)


# at η λ = 0.25, beyond 2 sin(π/30) = 0.209, the limit for a fixed delay of 7, at 0.5, and at 1.5; bsp's limit is 2
DIVERGES = {
    "one speed": (lambda random, shape: np.ones(shape), (True, True, True)),
    "exponential": (TIMES["exponential"], (False, False, True)),
    "heterogeneous": (TIMES["heterogeneous"], (False, False, True)),
}


@pytest.mark.parametrize("name", DIVERGES)
def test_step_sizes_at_which_asp_diverges_and_bsp_does_not(name, workers=8, steps=50):
    """Delays of 7 on average throughout.  Random ones are gentler than a fixed one: 0.25 is too much for it alone."""
    draw, diverges = DIVERGES[name]
    for lr, expected in zip((0.25, 0.5, 1.5), diverges):
        asp, bsp = (
            abs(serve(model, independent(draw, workers, steps), workers, steps, lr).params[0])
            for model in ("asp", "bsp")
        )
        assert bsp < 1e-6 and (asp > 100 if expected else asp < 2), (lr, asp)
