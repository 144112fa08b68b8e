"""Checks of the exercises of notebook 10."""

import numpy as np

import dsgd
from checking import check_calls
from dsgd.algorithms.replay import is_push
from watching import by_tensor, tensors, watch

LR, WORKERS, STEPS = 0.05, 3, 4
FLAGS = dict(simulate=WORKERS + 1, optimizer="sgd", lr=LR)


def ages(function):
    """The staleness of the pushes of asp, and of backup, which drops some."""
    steps = []
    for model in ("asp", "backup,b=1"):
        flags = FLAGS | dict(compute="exponential:mean=1e-3", algorithm=f"parameter-server:consistency={model}")
        pushes = _pushes(dsgd.run(**flags, steps=6).order)
        pulled, into = pushes[:, 2], pushes[:, 3]
        steps.append({"": ((pushes,), {"staleness": np.where(into > 0, into - 1 - pulled, -1)})})
    return check_calls("ages", function, steps, rtol=0)


def replay(function):
    """All of an asynchronous run, and its beginnings: a step has one push more, the last one the run's own bits."""
    spec = "parameter-server:consistency=asp"
    objective, calls, result = watch(**FLAGS, algorithm=spec, compute="exponential:mean=1e-3", steps=STEPS)
    pushes, x = _pushes(result.order), calls[0][0].x
    firsts = [call.batch.first for call in calls[0]]  # where a worker's part of the batch begins tells whose it is
    gradients = [[call.g for made in calls for call in made if call.batch.first == first] for first in firsts]
    steps, right = [], x.copy()
    for count, (worker, push, *_) in enumerate(pushes, 1):
        right = right - LR * gradients[worker][push]
        steps.append({"": ((x, pushes[:count], gradients, LR), tensors(objective, right))})
    assert right.tobytes() == result.params.tobytes()
    return check_calls("replay", by_tensor(objective, function), steps, rtol=0)


def _pushes(order):
    return np.array([entry for entry in order if is_push(entry)])


EXERCISES = {"ages": ages, "replay": replay}
