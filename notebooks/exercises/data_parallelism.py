"""Checks of the exercises of notebook 4."""

import numpy as np

from checking import check_calls, check_ranks
from watching import by_tensor, tensors, watch

LR, WARMUP = 0.05, 4


def step_size(function):
    """η of each step, and what it does to a run with linear scaling and a warm-up: batches of 128 on four workers."""
    batch = 128
    flags = dict(lr=LR, lr_scaling="linear", warmup_steps=WARMUP, batch_size=batch, optimizer="sgd")
    objective, calls, result = watch(simulate=4, steps=8, **flags)
    after = [workers[0].x for workers in calls[1:]] + [result.params]
    steps = []
    for t, (workers, x) in enumerate(zip(calls, after)):
        g = sum(call.g for call in workers)
        taken = np.vdot(workers[0].x - x, g) / np.vdot(g, g)  # the run's own η
        steps.append({"": ((t, LR, batch, WARMUP), {"step size": np.float64(taken)})})
    return check_calls("step_size", function, steps)


def step(function):
    """A step of data parallelism on four ranks, with the gradients of an epoch."""
    objective, calls, result = watch(simulate=4, batch_size=160, epochs=1, optimizer="sgd", lr=LR)
    after = [workers[0].x for workers in calls[1:]] + [result.params]
    steps = [
        {
            rank: ((call.g / call.scale, len(call.batch), call.x, LR), tensors(objective, x))
            for rank, call in enumerate(workers)
        }
        for workers, x in zip(calls, after)
    ]
    return check_ranks("step", by_tensor(objective, function), steps)


EXERCISES = {"step": step, "step_size": step_size}
