"""The written order of a sum over workers, and the classic collectives as blocking code over send and recv.

Floating-point addition is not associative, so a sum over workers has one written order, the binary tree over worker
numbers, ((0+1)+(2+3))+((4+5)+6): MPI_Allreduce leaves the order to the library, which changes it with size and length.

The collectives are the schedules of the textbooks, for reading and comparing (`--reduction`).  In the formulas p is
the number of ranks, n the length in bytes, α + nβ the time of one message (Hockney 1994), on cards that send one
message and receive one at a time; additions cost nothing.  `dsgd.costs` has the formulas as functions.  Each takes
arrays (n,) of one length and dtype on all ranks, leaves them as they are, and returns a read-only array, with the same
bits on every rank; ring and star add in orders of their own, not in the written one.

Reference: Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication operations in MPICH".
"""

from dsgd.arrays import namespace, readonly, scratch

BLOCK = 1 << 17  # elements that are summed at a time: bounds the memory of the partial sums


def tree_sum(parts, out):
    """out ← parts[0] + parts[1] + … in tree order; the parts are not changed.

    Args:
        parts: arrays (n,), in the order of worker numbers.  out: (n,), none of the parts.

    >>> import numpy as np
    >>> parts = [np.float32([part]) for part in (1e8, 1, -1e8, 1)]
    >>> tree_sum(parts, out=np.empty(1, np.float32))  # (1e8 + 1) + (−1e8 + 1); a float32 near 1e8 has steps of 8
    array([0.], dtype=float32)
    >>> sum(parts)  # ((1e8 + 1) − 1e8) + 1: another order, another sum
    array([1.], dtype=float32)
    """
    if len(parts) == 1:
        out[:] = parts[0]
        return out
    if len(parts) == 2:
        return namespace(out).add(*parts, out=out)
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
    middle = _middle(first, last)
    left = _subtree(add, parts, first, middle, spare, depth, out)
    right = _subtree(add, parts, middle, last, spare, depth + 1, spare[depth])
    return add(left, right, out=out)


def _middle(first, last):
    """Where the subtree over first … last − 1 is halved."""
    return first + (1 << (last - first - 1).bit_length() - 1)


def subtrees(some, first, last):
    """[(first, last)] of the largest subtrees of first … last − 1 whose workers are all among `some`, in order.

    >>> subtrees({0, 1, 2, 3, 4}, 0, 6)  # of ((0+1)+(2+3))+(4+5)
    [(0, 4), (4, 5)]
    """
    if all(worker in some for worker in range(first, last)):
        return [(first, last)]
    if last - first == 1:
        return []
    middle = _middle(first, last)
    return subtrees(some, first, middle) + subtrees(some, middle, last)


def join(sums, first, last, empty):
    """The sum over first … last − 1, as tree_sum has it, from those of subtrees that make it up.

    Args:
        sums: {(first, last): (n,)}.  empty: a function that gives an array (n,) for each addition.
    """
    if (first, last) in sums:
        return sums[first, last]
    middle = _middle(first, last)
    left, right = join(sums, first, middle, empty), join(sums, middle, last, empty)
    return namespace(left).add(left, right, out=empty())


def tree_steps(rank, size):
    """The rank's part in the tree, bottom up: [("recv", from), ..., ("send", to)]; rank 0 ends with the sum.

    >>> [tree_steps(rank, 3) for rank in range(3)]
    [[('recv', 1), ('recv', 2)], [('send', 0)], [('send', 0)]]
    """
    steps, distance = [], 1
    while distance < size:
        if rank % (2 * distance):
            return steps + [("send", rank - distance)]
        if rank + distance < size:
            steps.append(("recv", rank + distance))
        distance *= 2
    return steps


# --- the classic schedules, over comm.send, recv and isend


def star_allreduce(comm, x):
    """Σ x: all send to rank 0, which adds in the order of the ranks, ((0+1)+2)+…, and sends the sum to all.

    Messages: 2(p − 1), all through the one card of rank 0.  Time: 2(p − 1)(α + nβ).
    Reference: Li et al. 2014, the parameter server; the "linear" algorithm of Open MPI.
    """
    if comm.rank:
        comm.send(x, 0)
        return _receive(comm, 0, x)
    add, total, others = namespace(x).add, x.copy(), range(1, comm.size)
    for rank in others:
        add(total, _receive(comm, rank, x), out=total)
    for sending in [comm.isend(total, rank) for rank in others]:
        sending.wait()
    return readonly(total)


def ring_allreduce(comm, x):
    """Σ x in p chunks, as even as can be, which go round the ring twice: to be summed, then to be handed out.

    Chunk i sets out at rank i and is summed in the order of its way, ((i + (i+1)) + (i+2)) + …, all mod p.

    Messages: 2p(p − 1).  Bytes: 2((p − 1)/p)n on every rank, the least possible.
    Time: 2(p − 1)α + 2((p − 1)/p)nβ; if p does not divide n, each of the 2(p − 1) steps takes its longest chunk's.
    Reference: Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations".

    >>> import numpy as np
    >>> from dsgd.simulator import simulate
    >>> simulate(lambda comm: ring_allreduce(comm, np.full(3, comm.rank + 1.0)), size=2)
    [array([3., 3., 3.]), array([3., 3., 3.])]
    """
    p, rank, add, total = comm.size, comm.rank, namespace(x).add, x.copy()
    ends = [x.shape[0] * i // p for i in range(p + 1)]
    chunks = [total[lo:hi] for lo, hi in zip(ends, ends[1:])]
    left, right = (rank - 1) % p, (rank + 1) % p
    for step in range(p - 1):  # reduce-scatter: in the end the sum of chunk rank + 1 is here
        mine = chunks[(rank - step - 1) % p]
        add(_exchange(comm, chunks[(rank - step) % p], right, left, mine), mine, out=mine)
    for step in range(p - 1):  # allgather
        mine = chunks[(rank - step) % p]
        mine[:] = _exchange(comm, chunks[(rank - step + 1) % p], right, left, mine)
    return readonly(total)


def recursive_doubling_allreduce(comm, x):
    """Σ x in ⌊lg p⌋ rounds: in round k ranks that differ in bit k swap what they have and both add it.

    With p = 2^k + r, r > 0, the first 2r ranks fold in pairs before, the even one going on for both, and the odd one
    gets the sum after.  Lower + upper on both sides: addition commutes, but which of two NaNs is passed on does not.
    For p = 2, 3, 4, 6, 7, 8, 12, 14 to 16, … this is the written order, for 5, 9, 10, … it is not.

    Messages: p lg p; with folding 2^k k + 2r.  Time: lg p (α + nβ); with folding (⌊lg p⌋ + 2)(α + nβ).
    Reference: Thakur, Rabenseifner, Gropp 2005.
    """
    rank = comm.rank
    rounds = comm.size.bit_length() - 1
    folded = comm.size - 2**rounds
    if rank < 2 * folded and rank % 2:
        comm.send(x, rank - 1)
        return _receive(comm, rank - 1, x)
    total, place = x.copy(), rank - folded
    if rank < 2 * folded:
        place = rank // 2
        total += _receive(comm, rank + 1, x)
    for k in range(rounds):
        peer = place ^ 2**k
        peer = 2 * peer if peer < folded else peer + folded
        other = _exchange(comm, total, peer, peer, total)
        lower, upper = (total, other) if rank < peer else (other, total)
        total = lower + upper  # a new array: in place, NumPy may choose the other NaN
    if rank < 2 * folded:
        comm.send(total, rank + 1)
    return readonly(total)


def binomial_bcast(comm, x, root=0):
    """root's x, down the tree of tree_steps over the ranks counted from root, the largest subtree first.

    Messages: p − 1.  Time: ⌈lg p⌉(α + nβ).
    Reference: Thakur, Rabenseifner, Gropp 2005.
    """
    data = x.copy() if comm.rank == root else x
    for act, peer in reversed(tree_steps((comm.rank - root) % comm.size, comm.size)):
        peer = (peer + root) % comm.size
        if act == "send":  # where a sum goes to, a broadcast comes from
            data = _receive(comm, peer, x)
        else:
            comm.send(data, peer)
    return readonly(data)


def binomial_reduce(comm, x, root=0):
    """Σ x in the written order, up the tree of tree_steps to rank 0 and from there to root; None elsewhere.

    Messages: p − 1, one more for root ≠ 0.  Time: ⌈lg p⌉(α + nβ), one α + nβ more for root ≠ 0.
    Reference: Thakur, Rabenseifner, Gropp 2005.
    """
    add, total = namespace(x).add, x.copy()
    for act, peer in tree_steps(comm.rank, comm.size):
        if act == "send":
            comm.send(total, peer)
        else:
            add(total, _receive(comm, peer, x), out=total)
    if root and comm.rank == 0:
        comm.send(total, root)
    elif root and comm.rank == root:
        total = _receive(comm, 0, x)
    return readonly(total) if comm.rank == root else None


REDUCTIONS = {
    "star": star_allreduce,
    "ring": ring_allreduce,
    "recursive-doubling": recursive_doubling_allreduce,
}


def _exchange(comm, x, dest, source, like):
    """Send x while a message comes in: if all sent first, and messages waited for their receives, nobody would receive."""
    sending = comm.isend(x, dest)
    data = _receive(comm, source, like)
    sending.wait()
    return data


def _receive(comm, source, like):
    """The data (n,) of the next message, which must be of the length and dtype of `like`."""
    data = comm.recv(source).data
    if data.shape == like.shape and data.dtype == like.dtype:
        return data
    raise ValueError(
        f"rank {comm.rank} has {like.shape[0]} elements of {like.dtype} here, but {data.shape[0]} of {data.dtype} came "
        f"from rank {source}: call a collective with one length and dtype on all ranks"
    )
