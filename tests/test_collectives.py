"""The written order of the sum, what the schedules send, and how long they take."""

import inspect
import math
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgd import collectives
from dsgd.collectives import REDUCTIONS, binomial_bcast, binomial_reduce, tree_steps, tree_sum
from dsgd.costs import allreduce_time, allreduce_traffic, crossover, duration, traffic
from dsgd.simulator import Deadlock, Network, simulate

SIZES = range(1, 18)
ALPHA, BANDWIDTH = 1e-3, 1e6  # s, byte/s
exactly = partial(pytest.approx, rel=1e-12, abs=0)
SLOW = Network(latency=ALPHA, bandwidth=BANDWIDTH)
HOP = ALPHA + 800 / BANDWIDTH  # the time of 100 numbers
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
    assert simulate(lambda comm: (getattr(comm, kind)(np.ones(100)), comm.clock())[1], size, network=SLOW) == exactly(
        [wanted] * size
    )


def test_collective_starts_when_the_last_rank_is_there():
    def program(comm):
        comm.compute(int, 0, flops=1e10 * comm.rank)  # rank r is there at r seconds
        comm.barrier()
        return comm.clock()

    assert simulate(program, 4, network=SLOW) == exactly([3 + 4e-3] * 4)


@pytest.mark.parametrize("size", SIZES)
def test_a_sum_for_another_root_takes_one_more_hop(size):
    """Up to rank 0, whatever the root, and from there to the root."""

    def program(comm):
        comm.reduce(np.ones(100), root=comm.size - 1)
        return comm.clock()

    rounds = math.ceil(math.log2(size)) + (size > 1)
    assert simulate(program, size, network=SLOW) == exactly([rounds * HOP] * size)


def direct(comm, kind, x):
    """The collectives that are not trees, as messages: rank + 1 first, so that nobody is overrun."""
    peers = [(comm.rank + distance) % comm.size for distance in range(1, comm.size)]
    sends = {"gather": [0] * (comm.rank > 0), "scatter": peers * (comm.rank == 0)}.get(kind, peers)
    hears = {"gather": peers * (comm.rank == 0), "scatter": [0] * (comm.rank > 0)}.get(kind, peers)
    part = x if kind in ("gather", "allgather") else x[: len(x) // comm.size]
    sending = [comm.isend(part, peer) for peer in sends]
    for peer in hears:
        comm.recv(peer)
    for request in sending:
        request.wait()
    return comm.clock()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["gather", "allgather", "scatter", "alltoall", "reduce_scatter"])
def test_virtual_time_of_the_others_is_that_of_their_messages(kind, size):
    """p − 1 messages, one after the other through the busiest card."""
    x = np.ones(100 * size)
    times = simulate(lambda comm: direct(comm, kind, x), size, network=SLOW)
    assert max(times) == exactly(duration(kind, size, x.nbytes, ALPHA, BANDWIDTH))


@pytest.mark.parametrize("kind", KINDS)
def test_one_rank_needs_nobody(kind):
    assert duration(kind, 1, 800, 1e-3, 1e6) == 0


# --- the schedules: what they compute


class Outcome:
    """An all-reduce of some_parts by one schedule in the simulator."""

    def __init__(self, schedule, size, n, dtype="float64", **network):
        self.parts = some_parts(size, n, dtype)

        def program(comm):
            total = schedule(comm, self.parts[comm.rank])
            return total, comm.clock(), (comm.sent.messages, comm.sent.bytes)

        world = dict(network=SLOW._replace(**network), check=True)
        self.totals, times, self.sent = zip(*simulate(program, size, **world))
        self.seconds = max(times)  # until the last rank has its sum


@cache
def outcome(name, *args, **network):
    return Outcome(REDUCTIONS[name], *args, **network)


def lengths(size):
    return sorted({0, 1, size - 1, size, 1000})


def all_outcomes(name, size, **network):
    """[(n, dtype, outcome)]"""
    return [(n, d, outcome(name, size, n, d, **network)) for n in lengths(size) for d in ("float32", "float64")]


def assert_sum(outcome):
    """Every rank has the same bits, and they are the sum, but for its rounding."""
    assert len({total.tobytes() for total in outcome.totals}) == 1
    total, wanted = outcome.totals[0], np.sum(np.array(outcome.parts, "float64"), axis=0)
    assert total.shape == wanted.shape and total.dtype == outcome.parts[0].dtype and not total.flags.writeable
    scale = np.abs(np.array(outcome.parts, "float64")).sum(axis=0)
    assert (np.abs(total - wanted) <= (1e-12 if total.dtype == "float64" else 1e-5) * scale).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_schedules_sum(name, size):
    for _, _, result in all_outcomes(name, size):
        assert_sum(result)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_schedules_do_not_need_buffers_of_the_library(name, size):
    """Where every message waits for its receive nothing hangs, and the bits are the same."""
    eager, waiting = all_outcomes(name, size), all_outcomes(name, size, eager_limit=0)
    for (*_, one), (*_, other) in zip(eager, waiting):
        assert one.totals[0].tobytes() == other.totals[0].tobytes() and one.sent == other.sent


@pytest.mark.parametrize("size", SIZES)
def test_recursive_doubling_is_mostly_the_written_order(size):
    """Always for a power of two; from 4 on star and ring are not, or this could not fail."""
    n = 1000
    written = tree_sum(some_parts(size, n), np.empty(n, "float32")).tobytes()
    bits = {name: outcome(name, size, n, "float32").totals[0].tobytes() for name in REDUCTIONS}
    assert (bits["recursive-doubling"] == written) == (size not in (5, 9, 10, 11, 13, 17))
    assert (bits["star"] == written) == (size < 4) and (bits["ring"] == written) == (size < 3)


@pytest.mark.parametrize("size", SIZES)
def test_binomial_trees(size):
    """The same result, messages and time as bcast and reduce, for each root."""
    for root in {0, size // 2, size - 1}:
        parts = some_parts(size, 100, "float64")
        for kind, tree in (("bcast", binomial_bcast), ("reduce", binomial_reduce)):

            def program(comm):
                result = tree(comm, parts[comm.rank], root)
                return result, comm.clock(), (comm.sent.messages, comm.sent.bytes)

            results, times, sent = zip(*simulate(program, size, network=SLOW, check=True))
            assert sent == tuple(traffic(kind, rank, size, root, 800) for rank in range(size))
            assert max(times) == exactly(duration(kind, size, 800, ALPHA, BANDWIDTH, root))
            wanted = parts[root] if kind == "bcast" else obvious_sum(parts)
            for rank, result in enumerate(results):
                if kind == "reduce" and rank != root:
                    assert result is None
                else:
                    assert result.tobytes() == wanted.tobytes() and not result.flags.writeable


@pytest.mark.parametrize("size", SIZES)
def test_binomial_trees_where_messages_wait_for_their_receive(size):
    """An envelope of α goes ahead of each message.  A sum is so regular only if p is a power of two."""

    def seconds(tree):
        network = SLOW._replace(eager_limit=0)
        return max(simulate(lambda comm: (tree(comm, np.ones(100)), comm.clock())[1], size, network=network))

    wanted = exactly(math.ceil(math.log2(size)) * (ALPHA + HOP))
    assert seconds(binomial_bcast) == wanted
    assert size & (size - 1) or seconds(binomial_reduce) == wanted


# --- the schedules: what they send


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_traffic_of_schedules(name, size):
    """What each rank sent is what the closed form says."""
    for n, dtype, result in all_outcomes(name, size):
        itemsize = np.dtype(dtype).itemsize
        assert result.sent == tuple(allreduce_traffic(name, rank, size, n, itemsize) for rank in range(size)), n


@pytest.mark.parametrize("size", [*SIZES, 64, 100])
def test_closed_forms_of_traffic_add_up(size):
    """The textbook's totals: star 2(p − 1) messages, ring 2p(p − 1), recursive doubling p lg p, or with folding more."""
    n, k = 12 * size, size.bit_length() - 1
    folded = size - 2**k
    messages = {
        "tree": 2 * (size - 1),
        "star": 2 * (size - 1),
        "ring": 2 * size * (size - 1),
        "recursive-doubling": size * k if not folded else 2**k * k + 2 * folded,
    }
    for name, number in messages.items():
        sent = [allreduce_traffic(name, rank, size, n, 4) for rank in range(size)]
        nbytes = 2 * (size - 1) * 4 * n if name == "ring" else number * 4 * n
        assert (sum(s.messages for s in sent), sum(s.bytes for s in sent)) == (number, nbytes)
        if name == "ring":  # p | n: no rank sends more than another, and none could send less
            assert {s.bytes for s in sent} == {2 * (size - 1) * 4 * n // size}


# --- the schedules: how long they take


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_virtual_time_of_schedules(name, size):
    for n, dtype, result in all_outcomes(name, size):
        wanted = allreduce_time(name, size, n, np.dtype(dtype).itemsize, ALPHA, BANDWIDTH)
        assert result.seconds == exactly(wanted), (n, dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_virtual_time_of_schedules_where_messages_wait_for_their_receive(name, size):
    """The envelope of each step takes α; star's go together, once up and once down.  Empty messages have none."""
    for n, dtype, result in all_outcomes(name, size, eager_limit=0):
        envelope = ALPHA if n and size > 1 else 0
        latency, extra = (ALPHA, 2 * envelope) if name == "star" else (ALPHA + envelope, 0)
        wanted = extra + allreduce_time(name, size, n, np.dtype(dtype).itemsize, latency, BANDWIDTH)
        assert result.seconds == exactly(wanted), (n, dtype)


@pytest.mark.parametrize("size", [*SIZES, 64, 100])
def test_closed_forms_of_time(size):
    """As the textbook writes them, for a length that p divides."""
    n, lg = 100 * size, math.log2(size)
    beta = 8 / BANDWIDTH
    hop = ALPHA + n * beta
    wanted = {
        "tree": 2 * math.ceil(lg) * hop,
        "star": 2 * (size - 1) * hop,
        "ring": 2 * (size - 1) * ALPHA + 2 * (size - 1) / size * n * beta,
        "recursive-doubling": (lg if lg % 1 == 0 else math.floor(lg) + 2) * hop,
    }
    found = {name: allreduce_time(name, size, n, 8, ALPHA, BANDWIDTH) for name in wanted}
    assert found == exactly(wanted)


@pytest.mark.parametrize("size", [4, 8, 16])
def test_ring_is_faster_from_the_crossover_on(size):
    lg, others = math.log2(size), 2 * (size - 1)
    wanted = ALPHA * (others - lg) / (1 / BANDWIDTH * (lg - others / size))
    assert crossover(size, ALPHA, BANDWIDTH) == exactly(wanted)
    for factor, faster in ((0.98, "recursive-doubling"), (1.02, "ring")):
        n = round(factor * wanted / 8 / size) * size  # elements, a multiple of p
        seconds = {name: outcome(name, size, n).seconds for name in ("ring", "recursive-doubling")}
        assert min(seconds, key=seconds.get) == faster


def test_ring_and_recursive_doubling_are_equal_at_the_crossover():
    assert crossover(4, ALPHA, BANDWIDTH) == exactly(8000)
    assert outcome("ring", 4, 1000).seconds == exactly(outcome("recursive-doubling", 4, 1000).seconds)


# --- mutants: the tests above see them


MUTANTS = {  # name of the schedule: (what it says, what the mutant says)
    "a chunk is not summed to its end": ("ring", "for step in range(p - 1):  # reduce", "for step in range(p - 2):  # reduce"),
    "a chunk is not handed out": ("ring", "for step in range(p - 1):  # allg", "for step in range(p - 2):  # allg"),
    "a chunk is dropped": ("ring", "in zip(ends, ends[1:])]", "in zip(ends, ends[1:-1] + ends[-2:-1])]"),
    "a wrong chunk sets out": ("ring", "chunks[(rank - step + 1) % p]", "chunks[(rank - step) % p]"),
    "a rank is left out": ("star", "range(1, comm.size)", "range(1, comm.size - 1)"),
    "a part counts twice": ("star", "_receive(comm, rank, x), out", "_receive(comm, rank, x) * 2, out"),
    "nobody is folded in": ("recursive-doubling", "total += _receive(comm, rank + 1, x)", "_receive(comm, rank + 1, x)"),
    "one round is missing": ("recursive-doubling", "in range(rounds):", "in range(rounds - 1):"),
    "the same round twice": ("recursive-doubling", "place ^ 2**k", "place ^ 1"),
    "each adds its own first": ("recursive-doubling", "if rank < peer else", "if True else"),
    "everybody sends first": ("ring", "_exchange(", "_send_and_receive("),
}  # fmt: skip


def mutant(name, text, replacement):
    """A schedule with a mistake."""
    schedule = REDUCTIONS[name]
    source = inspect.getsource(schedule)
    assert text in source
    names = vars(collectives) | {"_send_and_receive": send_and_receive}
    exec(source.replace(text, replacement), names)
    return names[schedule.__name__]


def send_and_receive(comm, x, dest, source, like):
    comm.send(x, dest)
    return comm.recv(source).data


def bits_with_nans(schedule, size):
    """The bits that the ranks have of a sum of NaNs, each rank's its own."""

    def program(comm):
        x = np.full(5, 0x7FC00000 + comm.rank, "uint32").view("float32")
        return schedule(comm, x).tobytes()

    return set(simulate(program, size))


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_seen(name):
    schedule = mutant(*MUTANTS[name])
    if name == "each adds its own first":  # addition commutes: it shows only in which NaN is passed on
        assert_sum(Outcome(schedule, 4, 5))
        assert len(bits_with_nans(schedule, 4)) > 1
    elif name == "everybody sends first":
        assert_sum(Outcome(schedule, 5, 7))
        with pytest.raises(Deadlock):
            Outcome(schedule, 5, 7, eager_limit=0)
    else:
        with pytest.raises((AssertionError, ValueError, Deadlock)):
            assert_sum(Outcome(schedule, 5, 7))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_ranks_agree_on_a_nan(name, size):
    assert len(bits_with_nans(REDUCTIONS[name], size)) == 1


# --- the schedules behind a communicator


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_communicator_all_reduces_as_it_was_told(name):
    """The same sum, counts and virtual time as the function's own, in a group of the ranks too."""

    def program(comm):
        group = comm.split(comm.rank % 2)
        begun = comm.clock()
        total = comm.allreduce(outcome(name, 5, 1000).parts[comm.rank])
        sent, seconds = (comm.sent.messages, comm.sent.bytes), comm.clock() - begun
        group.barrier()
        before = group.sent.messages, group.sent.bytes
        group.allreduce(np.ones(6))
        in_group = group.sent.messages - before[0], group.sent.bytes - before[1]
        assert group.sent is comm.sent  # one count for the ranks and for a part of them
        return total.tobytes(), sent, seconds, in_group

    alone = outcome(name, 5, 1000)
    totals, sent, seconds, groups = zip(*simulate(program, 5, network=SLOW, reduction=name))
    assert set(totals) == {alone.totals[0].tobytes()} and sent == alone.sent
    assert max(seconds) == exactly(alone.seconds)
    assert groups == tuple(allreduce_traffic(name, rank // 2, 3 - rank % 2, 6, 8) for rank in range(5))


def test_an_unknown_reduction_is_not_the_tree():
    with pytest.raises(KeyError, match="rings"):
        simulate(lambda comm: None, 2, reduction="rings")
