"""The written order of the sum, what the schedules send, and how long they take."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgd.collectives import duration, traffic, tree_steps, tree_sum
from dsgd.simulator import Network, simulate

SIZES = range(1, 18)
SLOW = Network(latency=1e-3, bandwidth=1e6, speed=1e6)
KINDS = ("reduce", "bcast", "allreduce", "barrier", "gather", "allgather", "scatter", "alltoall", "reduce_scatter")


def some_parts(number, n, dtype="float32"):
    """Vectors of different magnitudes: the order of their sum shows in its last bits."""
    rng = np.random.default_rng([number, n])
    return [(rng.standard_normal(n) * 10.0 ** (i % 7)).astype(dtype) for i in range(number)]


def obvious_sum(parts):
    """((0+1)+(2+3))+…: the left half is the largest power of two that leaves something to the right."""
    if len(parts) == 1:
        return parts[0]
    half = 1
    while 2 * half < len(parts):
        half *= 2
    return obvious_sum(parts[:half]) + obvious_sum(parts[half:])


def walked_sum(parts):
    """The sum as the ranks of tree_steps make it."""
    sums = list(parts)
    for rank in reversed(range(len(parts))):  # a rank receives from larger ranks only
        for act, peer in tree_steps(rank, len(parts)):
            if act == "recv":
                sums[rank] = sums[rank] + sums[peer]
    return sums[0]


# --- the sum


@pytest.mark.parametrize("n", [0, 1, 5, 16384, 16385, 40000])
@pytest.mark.parametrize("number", SIZES)
def test_sum_is_in_the_written_order(number, n):
    parts = some_parts(number, n)
    before = [part.copy() for part in parts]
    out = np.full(n, np.nan, "float32")
    assert tree_sum(parts, out) is out
    assert out.tobytes() == obvious_sum(before).tobytes()
    assert all(part.tobytes() == old.tobytes() for part, old in zip(parts, before))


@given(st.lists(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=3, max_size=3), min_size=1, max_size=40))
def test_sum_of_any_numbers(rows):
    parts = [np.array(row, "float32") for row in rows]
    assert tree_sum(parts, np.empty(3, "float32")).tobytes() == obvious_sum(parts).tobytes()


@pytest.mark.parametrize("number", range(4, 18))
def test_order_shows(number):
    """The sum in rank order has other bits: the tests above can fail."""
    parts = some_parts(number, 1000)
    by_rank = parts[0]
    for part in parts[1:]:
        by_rank = by_rank + part
    assert by_rank.tobytes() != tree_sum(parts, np.empty(1000, "float32")).tobytes()


# --- the tree


@pytest.mark.parametrize("size", [*SIZES, 64, 100])
def test_steps_are_a_tree(size):
    """Each rank but 0 sends once, as its last step, to a smaller rank; each send has its receive."""
    steps = {rank: tree_steps(rank, size) for rank in range(size)}
    sends = {(rank, peer) for rank in steps for act, peer in steps[rank] if act == "send"}
    receives = [(peer, rank) for rank in steps for act, peer in steps[rank] if act == "recv"]
    assert sends == set(receives) and len(receives) == size - 1
    assert sorted(rank for rank, _ in sends) == list(range(1, size))
    assert all(peer < rank for rank, peer in sends)
    assert all(steps[rank][-1][0] == "send" for rank in range(1, size))
    assert len(steps[0]) == math.ceil(math.log2(size))


@pytest.mark.parametrize("size", SIZES)
def test_steps_add_in_the_written_order(size):
    parts = some_parts(size, 1000)
    assert walked_sum(parts).tobytes() == obvious_sum(parts).tobytes()


# --- traffic


@pytest.mark.parametrize("size", SIZES)
def test_traffic_of_trees(size):
    """A tree has p − 1 edges; a sum goes up to rank 0 and from there to its root; an all-reduce goes up and down."""
    for root in range(size):
        edges = size - 1 + (root != 0)
        assert total("reduce", size, root, 40) == (edges, 40 * edges)
        assert total("bcast", size, root, 40) == (size - 1, 40 * (size - 1))
    assert total("allreduce", size, 0, 40) == (2 * (size - 1), 80 * (size - 1))
    assert total("barrier", size, 0, 0) == (2 * (size - 1), 0)


@pytest.mark.parametrize("size", SIZES)
def test_traffic_of_the_others(size):
    everyone, pairs = size - 1, size * (size - 1)
    for root in range(size):
        assert total("gather", size, root, 40) == (everyone, 40 * everyone)
    assert total("allgather", size, 0, 40) == (pairs, 40 * pairs)
    for kind in ("alltoall", "reduce_scatter"):  # 40 bytes for each rank, itself included
        assert total(kind, size, 0, 40 * size, kept=40) == (pairs, 40 * pairs)
    assert traffic("scatter", 0, size, 0, 40 * size, kept=40) == (everyone, 40 * everyone)
    assert all(traffic("scatter", rank, size, 0, 0) == (0, 0) for rank in range(1, size))


def total(kind, size, root, nbytes, kept=0):
    sent = [traffic(kind, rank, size, root, nbytes, kept) for rank in range(size)]
    return sum(s.messages for s in sent), sum(s.bytes for s in sent)


# --- time


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize(("kind", "trees"), [("reduce", 1), ("bcast", 1), ("allreduce", 2)])
def test_virtual_time_of_trees(kind, trees, size):
    """⌈log₂ p⌉ · (α + nβ) for each tree, on every rank."""
    wanted = trees * math.ceil(math.log2(size)) * (1e-3 + 800 / 1e6)
    assert simulate(
        lambda comm: (getattr(comm, kind)(np.ones(100)), comm.clock())[1], size, network=SLOW
    ) == pytest.approx([wanted] * size)


def test_collective_starts_when_the_last_rank_is_there():
    def program(comm):
        comm.compute(int, 0, flops=1e6 * comm.rank)  # rank r is there at r seconds
        comm.barrier()
        return comm.clock()

    assert simulate(program, 4, network=SLOW) == pytest.approx([3 + 4e-3] * 4)


@pytest.mark.parametrize("kind", KINDS)
def test_one_rank_needs_nobody(kind):
    assert duration(kind, 1, 800, 1e-3, 1e6) == 0
