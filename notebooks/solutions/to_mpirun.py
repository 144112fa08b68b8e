"""Solutions of notebook 10, and the mistakes that are made on the way."""

import numpy as np


def ages(pushes):
    """into − 1 − pulled, where there is a version that it went into."""
    _, _, pulled, into = pushes.T
    return np.where(into > 0, into - 1 - pulled, -1)


def replay(x, pushes, gradients, lr):
    """One update a push, in the order of the log."""
    for worker, push, _, _ in pushes:
        x = x - lr * gradients[worker][push]
    return x


def counts_its_own_update(pushes):
    _, _, pulled, into = pushes.T
    return np.where(into > 0, into - pulled, -1)


def forgets_the_dropped(pushes):
    _, _, pulled, into = pushes.T
    return into - 1 - pulled


def in_order_of_workers(x, pushes, gradients, lr):
    """The right updates, in an order that the run did not have."""
    for worker, push, _, _ in sorted(pushes.tolist()):
        x = x - lr * gradients[worker][push]
    return x


def one_update_of_the_sum(x, pushes, gradients, lr):
    return x - lr * sum(gradients[worker][push] for worker, push, _, _ in pushes)


def first_gradient_again(x, pushes, gradients, lr):
    for worker, _, _, _ in pushes:
        x = x - lr * gradients[worker][0]
    return x


MISTAKES = [
    ("ages", counts_its_own_update, "Step 1, staleness"),
    ("ages", forgets_the_dropped, "Step 2, staleness"),
    ("replay", in_order_of_workers, "Step 3, layer 0 weight"),
    ("replay", one_update_of_the_sum, "Step 2, layer 0 weight"),
    ("replay", first_gradient_again, "Step 3, layer 0 weight"),
]
