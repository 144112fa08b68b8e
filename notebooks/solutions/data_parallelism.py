"""Solutions of notebook 4, and the mistakes that are made on the way."""

import numpy as np


def step(comm, total, samples, x, lr):
    """m is a sum over the workers, too: any number that all must know can be all-reduced."""
    m = comm.allreduce(np.array([float(samples)]))[0]
    return x - lr * comm.allreduce(total / m)


def step_size(t, lr, batch, warmup):
    """η B/32, reached in `warmup` equal steps, of which the first is not 0."""
    return lr * batch / 32 * min(1, (t + 1) / warmup)


def alone(comm, total, samples, x, lr):
    return x - lr * total / (samples * comm.size)


def mean_of_means(comm, total, samples, x, lr):
    return x - lr * comm.allreduce(total / samples) / comm.size


def forgets_to_divide(comm, total, samples, x, lr):
    return x - lr * comm.allreduce(total / samples)


def different_replicas(comm, total, samples, x, lr):
    m = comm.allreduce(np.array([float(samples)]))[0]
    return x - lr * (comm.allreduce(total / m) if comm.rank < 3 else comm.allreduce(total / m) * 0.5)


def not_all_call(comm, total, samples, x, lr):
    return step(comm, total, samples, x, lr) if comm.rank else x


def starts_at_0(t, lr, batch, warmup):
    return lr * batch / 32 * min(1, t / warmup)


def not_scaled(t, lr, batch, warmup):
    return lr * min(1, (t + 1) / warmup)


def no_warm_up(t, lr, batch, warmup):
    return lr * batch / 32


def never_ends(t, lr, batch, warmup):
    return lr * batch / 32 * (t + 1) / warmup


MISTAKES = [
    ("step", alone, "Step 1, worker 0, layer 0 weight"),
    ("step", mean_of_means, "Step 9, worker 0, layer 0 weight"),
    ("step", forgets_to_divide, "Step 1, worker 0, layer 0 weight"),
    ("step", different_replicas, "Step 1, worker 3, layer 0 weight"),
    ("step", not_all_call, "Step 1, worker 0, layer 0 weight"),
    ("step_size", starts_at_0, "Step 1, step size"),
    ("step_size", not_scaled, "Step 1, step size"),
    ("step_size", no_warm_up, "Step 1, step size"),
    ("step_size", never_ends, "Step 5, step size"),
]
