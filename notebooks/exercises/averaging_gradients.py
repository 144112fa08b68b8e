"""Checks of the exercises of notebook 2."""

import numpy as np

from checking import check_calls
from dsgd.collectives import tree_sum
from watching import by_tensor, tensors, watch

WORKERS, BATCH = 4, 160  # 1,438 samples: eight batches of 160 and one of 158, which four workers cannot share evenly


def contribution(function):
    """What each worker puts into the sum, in an epoch of digits on four workers."""
    objective, calls, _ = watch(simulate=WORKERS, batch_size=BATCH, epochs=1)
    steps = [
        {
            worker: (
                (call.g / call.scale, len(call.batch), sum(len(each.batch) for each in workers), WORKERS),
                tensors(objective, call.g),
            )
            for worker, call in enumerate(workers)
        }
        for workers in calls
    ]
    return check_calls("contribution", by_tensor(objective, function), steps)


def tree(function):
    """The sum of seven workers' gradients of digits in the written order, to the bit, in float32."""
    objective, calls, _ = watch(simulate=7, batch_size=BATCH, steps=3, dtype="float32")
    steps = []
    for workers in calls:
        parts = [call.g for call in workers]
        right = tree_sum(parts, np.empty_like(parts[0]))
        steps.append({"": ((parts,), tensors(objective, right))})
    return check_calls("tree", by_tensor(objective, function), steps, rtol=0)


EXERCISES = {"contribution": contribution, "tree": tree}
