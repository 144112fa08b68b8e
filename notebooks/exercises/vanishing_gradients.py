"""Checks of the exercises of notebook 8."""

import numpy as np

import dsgd
from checking import check_calls
from dsgd.layers import sigmoid, sigmoid_backward
from watching import tensors, watch

DATA = dict(data="teacher:samples=400,features=12,hidden=8,classes=4", algorithm="sgd", optimizer="sgd", lr=0.01)
LIMIT = 1.0


def clip(function):
    """The gradients of a network that would explode, and of one that is over the limit in its first steps only."""
    objective, calls, _ = watch(**DATA, hidden="16,16,16", init="he:gain=1.5", clip_norm=LIMIT, steps=6)
    steps = []
    for (call,) in calls:
        norm = np.linalg.norm(call.g)
        right = tensors(objective, call.g * min(1, LIMIT / norm))
        parts = list(tensors(objective, call.g).values())
        steps += [{"": ((parts, LIMIT), right)}, {"": ((parts, 2 * norm), tensors(objective, call.g))}]
    return check_calls("clip", function, steps)


def back(function):
    """From layer to layer of a network of sigmoids; a step is a layer, from the last one back."""
    rng, rows, n = np.random.default_rng(0), 5, 4
    weights = rng.standard_normal((3, n, n))
    delta, steps = rng.standard_normal((rows, n)), []
    for W in weights:
        a = np.empty((rows, n))
        sigmoid(rng.standard_normal((rows, n)), a)
        before = delta @ W.T
        sigmoid_backward(before, a)
        steps.append({"": ((delta, W, a), {"delta": before})})
        delta = before
    return check_calls("back", function, steps)


def vanishing(function):
    """Verdicts on runs of two depths; the second one's gradient is small, but now and then not."""
    flags = DATA | dict(activation="sigmoid", init="glorot", log_every=1, steps=60)
    rows = dsgd.run(**flags, hidden=",".join(["16"] * 20)).records
    rms = np.array([row["gradient_rms"] for row in rows if row.get("gradient_rms")])
    broken = rms.copy()
    broken[[10, 35], 0] = broken[[10, 35], -1]
    steps = [{"": ((case,), {"verdict": _verdicts(case)})} for case in (rms, broken)]
    return check_calls("vanishing", function, steps, rtol=0)


def _verdicts(rms):
    small, running = rms[:, 0] < 1e-4 * rms[:, -1], 0
    found = np.zeros(len(rms), int)
    for step, is_small in enumerate(small):
        running = running + 1 if is_small else 0
        found[step] = running >= 20
    return found


EXERCISES = {"clip": clip, "back": back, "vanishing": vanishing}
