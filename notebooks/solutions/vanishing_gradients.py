"""Solutions of notebook 8, and the mistakes that are made on the way."""

from math import sqrt

import numpy as np


def clip(gradients, limit):
    """One factor for all arrays, and none below the limit."""
    norm = sqrt(sum(np.vdot(g, g) for g in gradients))
    return tuple(g * min(1, limit / norm) for g in gradients)


def back(delta, W, a):
    """Through the matrix, then through the slope σ′ = a (1 − a)."""
    return delta @ W.T * a * (1 - a)


def vanishing(rms):
    """A count of small ones running, that starts over with each that is not."""
    verdicts, running = [], 0
    for row in rms:
        running = running + 1 if row[0] < 1e-4 * row[-1] else 0
        verdicts.append(running >= 20)
    return np.array(verdicts)


def clips_each_array(gradients, limit):
    return tuple(g * min(1, limit / np.linalg.norm(g)) for g in gradients)


def always_scales(gradients, limit):
    norm = sqrt(sum(np.vdot(g, g) for g in gradients))
    return tuple(g * limit / norm for g in gradients)


def clips_each_number(gradients, limit):
    return tuple(np.clip(g, -limit, limit) for g in gradients)


def transposes_wrongly(delta, W, a):
    return delta @ W * a * (1 - a)


def slope_of_tanh(delta, W, a):
    return delta @ W.T * (1 - a**2)


def at_once(rms):
    return rms[:, 0] < 1e-4 * rms[:, -1]


def never_starts_over(rms):
    return np.cumsum(rms[:, 0] < 1e-4 * rms[:, -1]) >= 20


MISTAKES = [
    ("clip", clips_each_array, "Step 1, layer 0 weight"),
    ("clip", always_scales, "Step 2, layer 0 weight"),
    ("clip", clips_each_number, "Step 1, layer 0 weight"),
    ("back", transposes_wrongly, "Step 1, delta"),
    ("back", slope_of_tanh, "Step 1, delta"),
    ("vanishing", at_once, "Step 1, verdict"),
    ("vanishing", never_starts_over, "Step 2, verdict"),
]
