"""What theory says of parameter servers, on the real server: staleness, stability, time of a step, throughput.

Gradients take times that the test has drawn, messages none, so that workers are always busy.  Each check is run on a
mutant of the server, too, which it must catch.
"""

from math import pi, sin

import numpy as np
import pytest

import dsgd
from clocks import drawn
from dsgd.algorithms import consistency
from dsgd.algorithms.server import Server
from dsgd.local import Local
from dsgd.objectives import Quadratic
from dsgd.simulator.network import Card


class Flat(Quadratic):
    """½ ‖x‖² for every sample: curvature 1, and no noise.   at: |x_0| of each x that a gradient was computed on"""

    def __init__(self, samples, size=1):
        super().__init__(size=size, samples=samples)
        self.centres[:] = 0
        self.at = []

    def gradient(self, params, grads, batch, scale):
        self.at.append(abs(float(params[0])))
        return super().gradient(params, grads, batch, scale)


def serve(model, network, workers, steps, lr=0.01, objective=None, **flags):
    """A run of one server; worker i is rank i + 1."""
    objective = objective or Flat(workers * steps)  # as many as the run needs: one epoch
    flags = dict(optimizer="sgd", dtype="float64", batch_size=workers, lr=lr, steps=steps) | flags
    algorithm = f"parameter-server:consistency={model}"
    return dsgd.run(
        algorithm=algorithm, simulate=workers + 1, objective=objective, world=dict(network=network), **flags
    )


def pushes(result):
    return [entry for entry in result.order if isinstance(entry, list)]


def harmonic(n):
    return sum(1 / i for i in range(1, n + 1))


def independent(draw, workers, steps, seed=0):
    """Times that are drawn one by one, draw(random, shape): a network for pushes of any number on each worker."""
    table = draw(np.random.default_rng(seed), (workers + 1, 8 * steps))
    return drawn(lambda rank, number: float(table[rank, number % (8 * steps)]))


def spread(workers, steps, seed=0):
    """Exponential times of mean 1, (workers, steps), whose order statistics have the means of the law.

    The i-th gap between sorted exponentials is exponential of mean 1/(N − i) (Rényi 1953).  Each gap takes every quantile
    of its law once (a Latin hypercube), and workers are shuffled anew in each step.  A mean over 250 steps is then within
    0.2 % of the law's; of independent times it would take some 50,000 steps.
    """
    random = np.random.default_rng(seed)
    quantiles = -np.log1p(-(np.arange(steps) + 0.5) / steps)
    gaps = np.array([random.permutation(quantiles) / (workers - i) for i in range(workers)])
    return random.permuted(gaps.cumsum(axis=0), axis=0)


def table_of(times):
    return drawn(lambda rank, number: float(times[rank - 1, number % times.shape[1]]))


# --- staleness

TIMES = {
    "exponential": lambda random, shape: random.exponential(size=shape),
    "lognormal": lambda random, shape: random.lognormal(0, 1.5, size=shape),
    "heterogeneous": lambda random, shape: (
        random.uniform(0.9, 1.1, size=shape) * np.geomspace(0.3, 3, shape[0])[:, None]
    ),
}


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
    network, steps = drawn(lambda rank, number: compute, bandwidth=bandwidth), pushes // workers
    result = serve("asp", network, workers, steps, objective=Flat(pushes, size))
    expected = min(workers / (compute + 2 * c), 1 / c)
    assert pushes / result.summary["virtual_seconds"] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("workers", [1, 3, 6, 8, 15])
def test_a_server_saturates_where_the_bandwidth_of_its_card_says(workers):
    check_saturation(workers)


def test_cards_that_pass_all_at_once_are_seen(monkeypatch):
    def send(self, to, cost, action, message):
        self.kernel.at(self.kernel.now + cost, action, message)

    monkeypatch.setattr(Card, "send", send)
    check_saturation(3)
    with pytest.raises(AssertionError):
        check_saturation(15)
