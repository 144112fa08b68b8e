"""Checks of the exercises of notebook 7."""

import numpy as np

from checking import check_calls
from dsgd.timing import make_timing

WORKERS, STEPS = 10, 6
BACKUPS = (0, 2, 5)


def step_time(function):
    """When the N − b-th worker is done, in steps of a run with b of 0, 2 and 5."""
    steps = [{"": ((times, b), {"seconds": np.sort(times)[WORKERS - b - 1]})} for times, b in _drawn()]
    return check_calls("step_time", function, steps)


def expected(function):
    """(H_N − H_b) · mean; a step for each case."""
    cases = [(1, 0, 1.0), (8, 0, 1e-3), (18, 2, 1e-3), (64, 8, 0.5)]
    steps = [{"": ((n, b, mean), {"seconds": mean * sum(1 / i for i in range(b + 1, n + 1))})} for n, b, mean in cases]
    return check_calls("expected", function, steps)


def used(function):
    """Who was among the first N − b."""
    steps = [{"": ((times, b), {"workers": np.sort(np.argsort(times)[: WORKERS - b])})} for times, b in _drawn()]
    return check_calls("used", function, steps, rtol=0)


def _drawn():
    """[(times (N,), b)] of the steps of a run with exponential times, as the simulator draws them."""
    seconds = make_timing("exponential:mean=1e-3", seed=0, workers=WORKERS)
    times = [np.array([seconds(worker, step, 0) for worker in range(WORKERS)]) for step in range(STEPS)]
    return [(row, BACKUPS[step % len(BACKUPS)]) for step, row in enumerate(times)]


EXERCISES = {"step_time": step_time, "expected": expected, "used": used}
