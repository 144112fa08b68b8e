"""Solutions of notebook 6, and the mistakes that are made on the way."""

from math import log2

import numpy as np


def predict(p, n, alpha, bandwidth):
    """2(p − 1) messages of the whole vector, as many of a p-th of it, or lg p of the whole."""
    whole, part = alpha + n / bandwidth, alpha + n / p / bandwidth
    return 2 * (p - 1) * whole, 2 * (p - 1) * part, log2(p) * whole


def folded(comm, x):
    """Ranks 0 to 3 fold in pairs; 0, 2, 4 and 5 take the places 0 to 3."""
    rank, places = comm.rank, [0, 2, 4, 5]
    if rank in (1, 3):
        comm.send(x, rank - 1)
        return comm.recv(rank - 1).data
    total = x + comm.recv(rank + 1).data if rank in (0, 2) else x.copy()
    for k in (1, 2):
        peer = places[places.index(rank) ^ k]
        total = total + _exchange(comm, total, peer, peer)
    if rank in (0, 2):
        comm.send(total, rank + 1)
    return total


def reduce_scatter(comm, x):
    """In step s the chunk (rank − s) goes to the right, and (rank − s − 1) comes from the left."""
    p, rank = comm.size, comm.rank
    chunks = np.array_split(x.copy(), p)
    for step in range(p - 1):
        chunks[(rank - step - 1) % p] += _exchange(comm, chunks[(rank - step) % p], (rank + 1) % p, (rank - 1) % p)
    return chunks[(rank + 1) % p]


def _exchange(comm, x, to, source):
    sending = comm.isend(x, to)
    data = comm.recv(source).data
    sending.wait()
    return data


def one_way_only(p, n, alpha, bandwidth):
    star, ring, doubling = predict(p, n, alpha, bandwidth)
    return star / 2, ring, doubling


def ring_of_whole_vectors(p, n, alpha, bandwidth):
    star, _, doubling = predict(p, n, alpha, bandwidth)
    return star, star, doubling


def forgets_the_odd_ones(comm, x):
    """Folded ranks give their gradient, and it is not added."""
    if comm.rank in (1, 3):
        return comm.recv(comm.rank - 1).data
    total, places = x.copy(), [0, 2, 4, 5]
    for k in (1, 2):
        peer = places[places.index(comm.rank) ^ k]
        total = total + _exchange(comm, total, peer, peer)
    if comm.rank in (0, 2):
        comm.send(total, comm.rank + 1)
    return total


def hands_nothing_back(comm, x):
    """A folded rank keeps what it had."""
    total = folded(comm, x)
    return x if comm.rank in (1, 3) else total


def own_chunk(comm, x):
    """The chunk that is complete is that of the next number."""
    p, rank = comm.size, comm.rank
    chunks = np.array_split(x.copy(), p)
    for step in range(p - 1):
        chunks[(rank - step - 1) % p] += _exchange(comm, chunks[(rank - step) % p], (rank + 1) % p, (rank - 1) % p)
    return chunks[rank]


def one_step_short(comm, x):
    p, rank = comm.size, comm.rank
    chunks = np.array_split(x.copy(), p)
    for step in range(p - 2):
        chunks[(rank - step - 1) % p] += _exchange(comm, chunks[(rank - step) % p], (rank + 1) % p, (rank - 1) % p)
    return chunks[(rank + 1) % p]


MISTAKES = [
    ("predict", one_way_only, "Step 1, star"),
    ("predict", ring_of_whole_vectors, "Step 1, ring"),
    ("folded", forgets_the_odd_ones, "Step 1, worker 0, layer 0 weight"),
    ("folded", hands_nothing_back, "Step 1, worker 1, layer 0 weight"),
    ("reduce_scatter", own_chunk, "Step 1, worker 0, chunk 1"),
    ("reduce_scatter", one_step_short, "Step 1, worker 0, chunk 1"),
]
