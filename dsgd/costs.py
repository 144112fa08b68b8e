"""What each collective sends and how long it takes, in closed form.

One model throughout: a card sends one message and receives one at a time, each for α + nβ (Hockney 1994: n bytes on a
network of `latency` α in s and `bandwidth` 1/β in byte/s), and additions cost nothing.  p is the number of ranks.

Reference: Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication operations in MPICH".
"""

from functools import lru_cache
from math import log2
from typing import NamedTuple

from dsgd.collectives import tree_steps


class Traffic(NamedTuple):
    """What one rank sends in one operation, by its written schedule: a model, not what the library puts on the wire."""

    messages: int
    bytes: int


class Sent:
    """What a rank has sent so far: one count for a communicator and all that are split from it."""

    def __init__(self):
        self.messages = self.bytes = 0

    def add(self, messages, nbytes):
        self.messages += messages
        self.bytes += nbytes


# --- the collectives of the communicator


@lru_cache(maxsize=4096)
def traffic(kind, rank, size, root, nbytes, kept=0):
    """Traffic of one rank's part in a collective.

    Args:
        kind: the communicator's name for it.  nbytes: what this rank puts in (root's array for bcast, its part for
        gather and both allgathers, all parts together for scatter, alltoall and reduce_scatter).  kept: bytes of these
        that are the rank's own part.

    >>> traffic("allreduce", rank=0, size=4, root=0, nbytes=800)  # down the tree, to ranks 1 and 2
    Traffic(messages=2, bytes=1600)
    """
    below = sum(act == "recv" for act, _ in tree_steps((rank - root) % size, size))  # one message down to each of them
    up = int(rank != 0 or root != 0)  # a sum goes up to rank 0, whatever the root, and rank 0 sends it there
    others, scatters = size - 1, int(rank == root)
    return {
        "reduce": Traffic(up, up * nbytes),
        "bcast": Traffic(below, below * nbytes),
        "allreduce": Traffic(up + below, (up + below) * nbytes),
        "iallreduce": Traffic(up + below, (up + below) * nbytes),
        "barrier": Traffic(up + below, 0),
        "gather": Traffic(int(rank != root), int(rank != root) * nbytes),
        "allgather": Traffic(others, others * nbytes),
        "allgather_in_place": Traffic(others, others * nbytes),
        "scatter": Traffic(scatters * others, scatters * (nbytes - kept)),
        "alltoall": Traffic(others, nbytes - kept),
        "reduce_scatter": Traffic(others, nbytes - kept),
    }[kind]


def duration(kind, size, nbytes, latency, bandwidth, root=0):
    """Seconds that a collective takes from the moment when the last rank calls it, on cards that are free.

    Of those that are only started, each begins when the one before is done.

    A tree takes ⌈lg p⌉ rounds of α + nβ, and a sum one more to a root other than 0.  An all-reduce, a barrier and a
    split are a tree up and a tree down.  The others are p − 1 messages, one after the other through the busiest card:
    of n bytes each for gather and allgather, of n/p for those that hand out what one rank has for all.

    nbytes: the largest n that one rank puts in.

    >>> duration("allreduce", size=4, nbytes=1_000_000, latency=1e-3, bandwidth=1e9)  # 4 (α + nβ)
    0.008
    """
    if size == 1:
        return 0.0
    rounds, others = (size - 1).bit_length(), size - 1
    messages, longest = {
        "bcast": (rounds, nbytes),
        "reduce": (rounds + (root != 0), nbytes),
        "allreduce": (2 * rounds, nbytes),
        "iallreduce": (2 * rounds, nbytes),
        "barrier": (2 * rounds, 0),
        "split": (2 * rounds, 0),
        "gather": (others, nbytes),
        "allgather": (others, nbytes),
        "allgather_in_place": (others, nbytes),
    }.get(kind, (others, nbytes / size))
    return messages * (latency + longest / bandwidth)


# --- the ways to all-reduce, by the names of --reduction


def allreduce_traffic(reduction, rank, size, n, itemsize):
    """Traffic of one rank in an all-reduce of n elements.

    Over all ranks: tree and star 2(p − 1) messages; ring 2p(p − 1), of 2(p − 1)n elements together; recursive doubling
    2^k k + 2r for p = 2^k + r, which is p lg p for r = 0.
    """
    if reduction == "ring":
        hops = 2 * (size - 1)
        # all chunks but one to be summed, and all but one to be handed out
        elements = 2 * n - _chunk(rank + 1, size, n) - _chunk(rank + 2, size, n)
        return Traffic(hops, elements * itemsize if hops else 0)
    rounds = size.bit_length() - 1
    folded = 2 * (size - 2**rounds)  # ranks
    messages = {
        "tree": traffic("allreduce", rank, size, 0, 0).messages,
        "star": 1 if rank else size - 1,
        "recursive-doubling": 1 if rank < folded and rank % 2 else rounds + (rank < folded),
    }[reduction]
    return Traffic(messages, messages * n * itemsize)


def allreduce_time(reduction, size, n, itemsize, latency, bandwidth):
    """Seconds until the last rank has the sum of n elements, if all start at once on cards that are free.

    Tree 2⌈lg p⌉(α + nβ); star 2(p − 1)(α + nβ); ring 2(p − 1)(α + cβ), c the longest chunk, ⌈n/p⌉ elements; recursive
    doubling lg p (α + nβ), and (⌊lg p⌋ + 2)(α + nβ) if p is not a power of two.  For messages up to the eager limit:
    over it each step's α becomes 2α (an envelope goes ahead), except for star, which takes 2α more in all.

    >>> [allreduce_time(way, 4, 1_000_000, 4, latency=1e-3, bandwidth=1e9) for way in ("tree", "star", "ring")]
    [0.02, 0.03, 0.012]
    """
    rounds, longest = size.bit_length() - 1, -(-n // size) if reduction == "ring" else n
    steps = {
        "tree": 2 * (size - 1).bit_length(),
        "star": 2 * (size - 1),
        "ring": 2 * (size - 1),
        "recursive-doubling": rounds + 2 * (size != 2**rounds),
    }[reduction]
    return steps * (latency + longest * itemsize / bandwidth)


def crossover(size, latency, bandwidth):
    """Bytes n* from which a ring is faster than recursive doubling; p is a power of two, 4 or more.

    2(p − 1)α + 2((p − 1)/p)nβ = lg p (α + nβ)   ⇒   n* = α (2(p − 1) − lg p) / (β (lg p − 2(p − 1)/p))

    >>> round(crossover(8, latency=20e-6, bandwidth=1.25e9))  # bytes
    220000
    """
    rounds, others = log2(size), 2 * (size - 1)
    return latency * (others - rounds) / (rounds - others / size) * bandwidth


def _chunk(i, size, n):
    """Elements in chunk i mod p of n, as ring_allreduce cuts them."""
    i %= size
    return n * (i + 1) // size - n * i // size
