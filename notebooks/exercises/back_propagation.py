"""Checks of the exercises of notebook 1."""

import numpy as np

from checking import check_calls
from dsgd.sampling import Batch
from watching import by_tensor, tensors, watch

BLOBS = dict(data="blobs:classes=4,spread=0.5", hidden="4", batch_size=20, steps=3, optimizer="sgd")


def by_hand(objective, call):
    """What back-propagation has in its hands at a gradient of the run: {name: array} of x, a, z and the deltas of both layers."""
    p = tensors(objective, call.x)
    x, y = objective.inputs(call.batch.rows), objective.targets(call.batch.rows)
    z1 = x @ p["layer 0 weight"] + p["layer 0 bias"]
    a = np.maximum(z1, 0)
    z2 = a @ p["layer 1 weight"] + p["layer 1 bias"]
    d2 = np.empty_like(z2)
    objective.loss(z2, y, call.scale, d2)
    da = d2 @ p["layer 1 weight"].T
    return {"x": x, "y": y, "a": a, "z2": z2, "d2": d2, "da": da, "d1": da * (z1 > 0), "W1": p["layer 1 weight"]}


def linear_backward(function):
    """The gradients of both layers of a network, and what is handed from one to the other."""
    objective, steps, _ = watch(**BLOBS)

    def both(first, second):
        found = [function(*(array.copy() for array in arrays)) for arrays in (second, first)]
        if not all(isinstance(each, tuple) and len(each) == 3 for each in found):
            return found[0]
        return *found[0], *found[1][:2]

    calls = []
    for (call,) in steps:
        h, g = by_hand(objective, call), tensors(objective, call.g)
        W0 = tensors(objective, call.x)["layer 0 weight"]
        right = {name: g[name] for name in ("layer 1 weight", "layer 1 bias")} | {"layer 1 input": h["da"]}
        right |= {name: g[name] for name in ("layer 0 weight", "layer 0 bias")}
        calls.append({"": (((h["d1"], h["x"], W0), (h["d2"], h["a"], h["W1"])), right)})
    return check_calls("linear_backward", both, calls)


def relu_backward(function):
    """What reaches the hidden layer's sum z, of a run."""
    objective, steps, _ = watch(**BLOBS)
    hands = [by_hand(objective, call) for (call,) in steps]
    return check_calls(
        "relu_backward", function, [{"": ((h["da"], h["a"]), {"layer 0 delta": h["d1"]})} for h in hands]
    )


def softmax_backward(function):
    """What reaches the network's output z from the loss, of a run."""
    objective, steps, _ = watch(**BLOBS)
    hands = [by_hand(objective, call) for (call,) in steps]
    calls = [{"": ((h["z2"], h["y"]), {"layer 1 delta": h["d2"]})} for h in hands]
    return check_calls("softmax_backward", function, calls)


def central_difference(function):
    """The gradient of a run's loss, by differences; 1e-7 of the largest number is what h = 1e-5 can reach."""
    objective, steps, _ = watch(**BLOBS)
    calls = [{"": ((loss_of(objective, call.batch), call.x, 1e-5), tensors(objective, call.g))} for (call,) in steps]
    return check_calls("central_difference", by_tensor(objective, function), calls, rtol=1e-7)


def loss_of(objective, batch):
    """x ↦ the mean loss over a batch."""

    def loss(x):
        grads = np.empty_like(x)
        return float(objective.gradient(objective.views(x), objective.views(grads), Batch(batch.rows, 0), 1.0)) / len(
            batch
        )

    return loss


EXERCISES = {
    "relu_backward": relu_backward,
    "linear_backward": linear_backward,
    "softmax_backward": softmax_backward,
    "central_difference": central_difference,
}
