"""The written order of a sum over workers, and what each collective sends: one page for both worlds.

Floating-point addition is not associative, so a sum over workers has one written order, the binary tree over worker
numbers, ((0+1)+(2+3))+((4+5)+6): MPI_Allreduce leaves the order to the library, which changes it with size and length.
"""

from functools import lru_cache
from typing import NamedTuple

from dsgd.arrays import namespace, scratch

BLOCK = 1 << 17  # elements that are summed at a time: bounds the memory of the partial sums


def tree_sum(parts, out):
    """out ← parts[0] + parts[1] + … in tree order; the parts are not changed.

    Args:
        parts: arrays (n,), in the order of worker numbers.  out: (n,), none of the parts.
    """
    if len(parts) == 1:
        out[:] = parts[0]
        return out
    add, depth, block = namespace(out).add, len(parts).bit_length(), min(BLOCK, out.size)
    spare = scratch(out, depth * block).reshape(depth, block)
    for lo in range(0, out.size, BLOCK):
        hi = min(lo + BLOCK, out.size)
        _subtree(add, [part[lo:hi] for part in parts], 0, len(parts), spare[:, : hi - lo], 0, out[lo:hi])
    return out


def _subtree(add, parts, first, last, spare, depth, out):
    """The sum of parts[first:last]: left half (a power of two) + right half, written to `out`; a leaf is itself."""
    if last - first == 1:
        return parts[first]
    half = 1 << (last - first - 1).bit_length() - 1
    left = _subtree(add, parts, first, first + half, spare, depth, out)
    right = _subtree(add, parts, first + half, last, spare, depth + 1, spare[depth])
    return add(left, right, out=out)


def tree_steps(rank, size):
    """The rank's part in the tree, bottom up: [("recv", from), ..., ("send", to)]; rank 0 ends with the sum."""
    steps, distance = [], 1
    while distance < size:
        if rank % (2 * distance):
            return steps + [("send", rank - distance)]
        if rank + distance < size:
            steps.append(("recv", rank + distance))
        distance *= 2
    return steps


class Traffic(NamedTuple):
    """What one rank sends in one operation, by its written schedule: a model, not what the library puts on the wire."""

    messages: int
    bytes: int


@lru_cache(maxsize=4096)
def traffic(kind, rank, size, root, nbytes, kept=0):
    """Traffic of one rank's part in a collective.

    Args:
        kind: the communicator's name for it.  nbytes: what this rank puts in (root's array for bcast, its part for
        gather and allgather, all parts together for scatter, alltoall and reduce_scatter).  kept: bytes of these
        that are the rank's own part.
    """
    below = sum(act == "recv" for act, _ in tree_steps((rank - root) % size, size))  # one message down to each of them
    up = int(rank != 0 or root != 0)  # a sum goes up to rank 0, whatever the root, and rank 0 sends it there
    others, scatters = size - 1, int(rank == root)
    return {
        "reduce": Traffic(up, up * nbytes),
        "bcast": Traffic(below, below * nbytes),
        "allreduce": Traffic(up + below, (up + below) * nbytes),
        "barrier": Traffic(up + below, 0),
        "gather": Traffic(int(rank != root), int(rank != root) * nbytes),
        "allgather": Traffic(others, others * nbytes),
        "scatter": Traffic(scatters * others, scatters * (nbytes - kept)),
        "alltoall": Traffic(others, nbytes - kept),
        "reduce_scatter": Traffic(others, nbytes - kept),
    }[kind]


def duration(kind, size, nbytes, latency, bandwidth):
    """Seconds that a collective takes on a network of `latency` α (s) and `bandwidth` 1/β (byte/s).

    Trees take ⌈log₂ p⌉ rounds of α + nβ, an all-reduce and a barrier two trees; the others are sent directly, one
    after the other through each rank's own card.  nbytes: the largest that one rank puts in.
    """
    if size == 1:
        return 0.0
    rounds = (size - 1).bit_length()
    hop = latency + nbytes / bandwidth
    if kind in ("reduce", "bcast"):
        return rounds * hop
    if kind in ("allreduce", "barrier"):
        return 2 * rounds * hop
    if kind in ("gather", "allgather"):
        return latency + (size - 1) * nbytes / bandwidth
    return latency + nbytes / bandwidth
