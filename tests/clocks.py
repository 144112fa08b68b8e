"""Networks for tests: gradients that take times which a test has drawn, and messages that take none."""

from collections import Counter

import numpy as np

from dsgd.simulator.network import Network

INSTANT = dict(latency=0.0, bandwidth=float("inf"))


def drawn(draw, **costs):
    """A network on which a gradient takes draw(rank, its number on that rank) seconds; messages take none unless told.

    `times` of it is {(rank, number): seconds}, of all gradients so far.
    """

    class Drawn(Network):
        times, counts = {}, Counter()

        def compute(self, rank, step, flops):
            number = self.counts[rank]
            self.counts[rank] += 1
            self.times[rank, number] = draw(rank, number)
            return self.times[rank, number]

    return Drawn(**INSTANT | costs)


def exponential(seed, mean=1.0, **costs):
    """A network of exponential times, each a function of (seed, rank, number) alone."""
    table = mean * np.random.default_rng(seed).exponential(size=(32, 4096))
    return drawn(lambda rank, number: float(table[rank % 32, number % 4096]), **costs)
