"""Solutions of notebook 7, and the mistakes that are made on the way."""

import numpy as np


def step_time(times, b):
    """The N − b-th smallest."""
    return np.sort(times)[len(times) - b - 1]


def expected(n, b, mean):
    """Of the waits 1/N, 1/(N − 1), …, 1 the last b are spared."""
    return mean * sum(1 / i for i in range(b + 1, n + 1))


def used(times, b):
    """The first N − b, by number."""
    return np.sort(np.argsort(times)[: len(times) - b])


def waits_for_all(times, b):
    return times.max()


def one_too_few(times, b):
    return np.sort(times)[len(times) - b - 2]


def forgets_the_backups(n, b, mean):
    return mean * sum(1 / i for i in range(1, n + 1))


def mean_of_all(n, b, mean):
    return mean


def in_order_of_arrival(times, b):
    return np.argsort(times)[: len(times) - b]


def drops_the_quickest(times, b):
    return np.sort(np.argsort(times)[b:])


MISTAKES = [
    ("step_time", waits_for_all, "Step 2, seconds"),
    ("step_time", one_too_few, "Step 1, seconds"),
    ("expected", forgets_the_backups, "Step 3, seconds"),
    ("expected", mean_of_all, "Step 2, seconds"),
    ("used", in_order_of_arrival, "Step 1, workers"),
    ("used", drops_the_quickest, "Step 2, workers"),
]
