"""A server on a clock for tests: gradients take times that a test has drawn, and messages none unless told."""

from collections import Counter

import numpy as np

import dsgd
from dsgd.network import Network
from dsgd.objectives import Quadratic

INSTANT = dict(latency=0.0, bandwidth=float("inf"))


def drawn(draw, **costs):
    """A world in which worker i's gradient takes draw(i + 1, its number) seconds; messages take none unless told."""
    counts = Counter()

    def timing(worker, step, flops):
        counts[worker] += 1
        return draw(worker + 1, counts[worker] - 1)

    return dict(network=Network(**INSTANT | costs), timing=timing)


def exponential(seed, mean=1.0, **costs):
    """A world of exponential times, each a function of (seed, rank, number) alone."""
    table = mean * np.random.default_rng(seed).exponential(size=(32, 4096))
    return drawn(lambda rank, number: float(table[rank % 32, number % 4096]), **costs)


class Flat(Quadratic):
    """½ ‖x‖² for every sample: curvature 1, and no noise.   at: |x_0| of each x that a gradient was computed on"""

    def __init__(self, samples, size=1):
        super().__init__(size=size, samples=samples)
        self.centres[:] = 0
        self.at = []

    def gradient(self, params, grads, batch, scale):
        self.at.append(abs(float(params[0])))
        return super().gradient(params, grads, batch, scale)


def serve(model, world, workers, steps, lr=0.01, objective=None, **flags):
    """A run of one server; worker i is rank i + 1."""
    objective = objective or Flat(workers * steps)  # as many as the run needs: one epoch
    flags = dict(optimizer="sgd", dtype="float64", batch_size=workers, lr=lr, steps=steps) | flags
    algorithm = f"parameter-server:consistency={model}"
    return dsgd.run(algorithm=algorithm, simulate=workers + 1, objective=objective, world=world, **flags)


def pushes(result):
    return [entry for entry in result.order if isinstance(entry, list)]


def independent(draw, workers, steps, seed=0):
    """Times that are drawn one by one, draw(random, shape): a world for pushes of any number on each worker."""
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


TIMES = {
    "exponential": lambda random, shape: random.exponential(size=shape),
    "lognormal": lambda random, shape: random.lognormal(0, 1.5, size=shape),
    "heterogeneous": lambda random, shape: (
        random.uniform(0.9, 1.1, size=shape) * np.geomspace(0.3, 3, shape[0])[:, None]
    ),
}
