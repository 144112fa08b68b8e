"""Solutions of notebook 9, and the mistakes that are made on the way."""

import numpy as np


def deal(depth, size, rank):
    """From L r / p on, rounded down, to where the next rank begins."""
    return range(depth * rank // size, depth * (rank + 1) // size)


def bubble(p, m):
    """m + p − 1 turns, in m of which a rank works."""
    return (p - 1) / (m + p - 1), p * m / (m + p - 1)


def stage(comm, W, x, y):
    """The activation comes from the rank before, the error from the one behind."""
    first, last = comm.rank == 0, comm.rank == comm.size - 1
    a = x if first else comm.recv(comm.rank - 1).data.reshape(x.shape)
    z = a @ W
    if last:
        delta = z - y
    else:
        comm.send(np.maximum(z, 0).reshape(-1), comm.rank + 1)
        delta = comm.recv(comm.rank + 1).data.reshape(x.shape) * (z > 0)
    if not first:
        comm.send((delta @ W.T).reshape(-1), comm.rank - 1)
    return a.T @ delta


def same_for_all(depth, size, rank):
    """The last ones have what is left over, but it is not even."""
    share = depth // size
    return range(share * rank, share * (rank + 1) if rank < size - 1 else depth)


def in_turns(depth, size, rank):
    return range(rank, depth, size)


def counts_one_turn_less(p, m):
    return p / (m + p), p * m / (m + p)


def no_slope(comm, W, x, y):
    """The error comes through a maximum, whose slope is 0 or 1."""
    first, last = comm.rank == 0, comm.rank == comm.size - 1
    a = x if first else comm.recv(comm.rank - 1).data.reshape(x.shape)
    z = a @ W
    if last:
        delta = z - y
    else:
        comm.send(np.maximum(z, 0).reshape(-1), comm.rank + 1)
        delta = comm.recv(comm.rank + 1).data.reshape(x.shape)
    if not first:
        comm.send((delta @ W.T).reshape(-1), comm.rank - 1)
    return a.T @ delta


def transposed(comm, W, x, y):
    return stage(comm, W, x, y).T


def waits_for_the_wrong_side(comm, W, x, y):
    return comm.recv((comm.rank + 1) % comm.size).data


MISTAKES = [
    ("deal", same_for_all, "Step 4, worker 2, layers"),
    ("deal", in_turns, "Step 2, worker 0, layers"),
    ("bubble", counts_one_turn_less, "Step 1, idle"),
    ("stage", no_slope, "Step 1, worker 0, gradient"),
    ("stage", transposed, "Step 1, worker 0, gradient"),
    ("stage", waits_for_the_wrong_side, "Step 1, worker 0, gradient: it raised Deadlock"),
]
