"""Checks of the exercises of notebook 3."""

import numpy as np

from checking import check_calls, check_ranks
from dsgd.sampling import Shuffled
from watching import by_tensor, tensors, watch

BATCH, LR = 160, 0.1


def part(function):
    """Who has which samples: two epochs of 1,438 samples, on four workers."""
    sampler = Shuffled(n=1438, batch=BATCH, seed=0, workers=4)
    steps = []
    for t in range(2 * sampler.steps_per_epoch):
        order = sampler.permutation(t // sampler.steps_per_epoch)
        steps.append({i: ((order, t, BATCH, i, 4), {"samples": sampler.part(t, i).rows}) for i in range(4)})
    return check_calls("part", function, steps, rtol=0)


def step(function):
    """A step of the article's algorithm on four ranks, rank 0 the server, with the gradients of a run."""
    objective, calls, result = watch(simulate=4, algorithm="dsgd", batch_size=BATCH, steps=4, optimizer="sgd", lr=LR)
    after = [workers[0].x for workers in calls[1:]] + [result.params]
    steps = [
        {rank: ((call.g, call.x, LR), tensors(objective, x)) for rank, call in enumerate(workers)}
        for workers, x in zip(calls, after)
    ]
    return check_ranks("step", by_tensor(objective, function), steps)


def traffic(function):
    """Messages and bytes of a step, counted in runs of 1 to 8 workers; the packets carry four numbers more."""
    steps = []
    for workers in range(1, 9):
        objective, _, result = watch(simulate=workers, algorithm="dsgd", batch_size=BATCH, steps=2)
        sent = result.summary["messages_sent"] / 2, result.summary["bytes_sent"] / 2
        right = {"messages": np.float64(sent[0]), "bytes": np.float64(sent[1])}
        steps.append({"": ((workers, 8 * (objective.layout.size + 4)), right)})
    return check_calls("traffic", function, steps, rtol=0)


EXERCISES = {"part": part, "step": step, "traffic": traffic}
