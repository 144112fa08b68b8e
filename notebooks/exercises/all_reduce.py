"""Checks of the exercises of notebook 6."""

import numpy as np

from checking import check_calls, check_ranks
from dsgd.collectives import recursive_doubling_allreduce
from dsgd.costs import allreduce_time
from dsgd.simulator import simulate
from watching import by_tensor, tensors, watch

RANKS = 6
TIMES = ("star", "ring", "recursive-doubling")


def predict(function):
    """The times of three all-reduces, as dsgd.costs has them; a step for each case."""
    cases = [(2, 8, 1e-3, 1e6), (4, 64, 20e-6, 1.25e9), (8, 8000, 1e-3, 1e6), (64, 51200, 5e-6, 1e9)]
    steps = [
        {"": (case, {name: allreduce_time(name, case[0], case[1], 1, *case[2:]) for name in TIMES})} for case in cases
    ]
    return check_calls("predict", function, steps)


def folded(function):
    """Six workers' gradients of digits, to the bits of recursive doubling."""
    objective, gradients = _gradients()
    steps = []
    for parts in gradients:
        totals = simulate(lambda comm: recursive_doubling_allreduce(comm, parts[comm.rank]), RANKS)
        steps.append({rank: ((parts[rank],), tensors(objective, totals[rank])) for rank in range(RANKS)})
    return check_ranks("folded", by_tensor(objective, function), steps)


def reduce_scatter(function):
    """One chunk of the sum of six workers' gradients on each of them."""
    _, gradients = _gradients()
    steps = []
    for parts in gradients:
        chunks = np.array_split(np.sum(parts, axis=0), RANKS)
        steps.append({r: ((parts[r],), {f"chunk {(r + 1) % RANKS}": chunks[(r + 1) % RANKS]}) for r in range(RANKS)})
    return check_ranks("reduce_scatter", function, steps)


def _gradients():
    """(objective, [[g (n,) of each worker] of each step]) of a short run."""
    objective, calls, _ = watch(simulate=RANKS, steps=3)
    return objective, [[call.g for call in workers] for workers in calls]


EXERCISES = {"predict": predict, "folded": folded, "reduce_scatter": reduce_scatter}
