"""Checks of the exercises of notebook 9."""

import numpy as np

from checking import check_calls, check_ranks
from dsgd.algorithms.model_parallel import dealt

RANKS, ROWS, WIDTH = 4, 6, 5


def deal(function):
    """The layers of each rank, as the algorithm deals them; a step for each network."""
    cases = [(4, 4), (5, 2), (7, 3), (20, 6)]
    steps = [
        {rank: ((depth, size, rank), {"layers": np.array(group)}) for rank, group in enumerate(dealt(depth, size))}
        for depth, size in cases
    ]
    return check_calls("deal", function, steps, rtol=0)


def bubble(function):
    """A step for each pipeline."""
    cases = [(4, 1), (4, 8), (1, 3), (32, 128)]
    steps = [{"": ((p, m), {"idle": (p - 1) / (m + p - 1), "speed-up": p * m / (m + p - 1)})} for p, m in cases]
    return check_calls("bubble", function, steps)


def stage(function):
    """Four ranks with a layer each, three steps of sgd."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, ROWS, WIDTH))
    weights, steps = rng.standard_normal((RANKS, WIDTH, WIDTH)) / np.sqrt(WIDTH), []
    for _ in range(3):
        gradients = _gradients(weights, x, y)
        steps.append({rank: ((weights[rank], x, y), {"gradient": gradients[rank]}) for rank in range(RANKS)})
        weights = weights - 0.01 * gradients
    return check_ranks("stage", function, steps)


def _gradients(weights, x, y):
    """∂L/∂W (RANKS, n, n) of all layers, on one machine."""
    inputs, gradients = [x], np.empty_like(weights)
    for W in weights[:-1]:
        inputs.append(np.maximum(inputs[-1] @ W, 0))
    delta = inputs[-1] @ weights[-1] - y
    for rank in reversed(range(RANKS)):
        gradients[rank] = inputs[rank].T @ delta
        delta = delta @ weights[rank].T * (inputs[rank] > 0)
    return gradients


EXERCISES = {"deal": deal, "bubble": bubble, "stage": stage}
