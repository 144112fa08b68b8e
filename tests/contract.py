"""The contract of the communicator: what dsgd/comm.py promises, as rank programs that every backend must pass.

    mpirun -n 4 python tests/contract.py

Each check is called on every rank and asserts there; it must hold for one rank too.  No check relies on a send that
returns before its receive.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # up here, because the guard imports MPI, which must come before NumPy
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    from dsgd.mpi.launch import guard

    def main():
        import contract

        return contract.main()

    sys.exit(guard(main))

import json

import numpy as np

from dsgd.collectives import REDUCTIONS, binomial_bcast, binomial_reduce, tree_sum
from dsgd.comm import ANY_SOURCE, ANY_TAG, Header
from dsgd.costs import allreduce_traffic, traffic
from dsgd.errors import PeerError

CHECKS = {}
SUMS = {}  # those that all-reduce: they must hold for every reduction
FLOATS = ("float32", "float64")


def main():
    """All checks on this rank of an MPI job; rank 0 prints the names of those that passed.

    With the argument "crowded" its ranks wait as where they outnumber the cores, otherwise as where they do not; with
    "checked" they compare every collective, too.
    """
    from mpi4py import MPI

    from dsgd.mpi.comm import MPIComm
    from dsgd.mpi.debug import CheckedComm

    passed = []
    for reduction, checks in SUITES.items():
        kind = CheckedComm if "checked" in sys.argv else MPIComm
        comm = kind(MPI.COMM_WORLD.Dup(), reduction=reduction, crowded=len(sys.argv) > 1)
        passed += [f"{reduction}: {name}" for name, check in checks.items() if run_one(check, comm)]
        use_up(comm)
        comm.free()
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(passed))
    return 0


def use_up(comm):
    """MPICH has 2,048 communicators: if free() kept one that a group made for itself, or a part of it, they would run out."""
    for _ in range(2100 if comm.size == 2 else 1):
        group = comm.split(0)
        group.allreduce(np.ones(3))
        group.reduce(np.ones(3))
        group.split(0)
        group.free()


def run_one(check, comm):
    """Run a check; the barrier makes the one that fails the one that is named."""
    check(comm)
    comm.barrier()
    return True


def contract(check):
    """Add a check to the suite."""
    CHECKS[check.__name__.removeprefix("check_")] = check
    return check


def sums(check):
    """Add a check to those that are made for every reduction, too."""
    SUMS[check.__name__.removeprefix("check_")] = check
    return contract(check)


SUITES = {"tree": CHECKS} | dict.fromkeys(REDUCTIONS, SUMS)


# --- what the checks are made of


def part(rank, n, dtype="float64"):
    """The vector (n,) of one rank, which every rank can work out; its sum depends on the order."""
    x = np.random.default_rng([rank, n]).standard_normal(n)
    return (x * 10.0 ** (rank % 5)).astype(dtype)


def parts(comm, n, dtype="float64"):
    return [part(rank, n, dtype) for rank in range(comm.size)]


def total(comm, n, dtype="float64"):
    """The sum of all parts in the written order."""
    return tree_sum(parts(comm, n, dtype), np.empty(n, dtype))


def in_rank_order(parts):
    """((0+1)+2)+…"""
    result = parts[0]
    for part in parts[1:]:
        result = result + part
    return result


def round_the_ring(parts):
    """Chunk i is summed from rank i on, round the ring."""
    p = len(parts)
    ends = [len(parts[0]) * i // p for i in range(p + 1)]
    return np.concatenate(
        [in_rank_order([part[ends[i] : ends[i + 1]] for part in parts[i:] + parts[:i]]) for i in range(p)]
    )


def by_doubling(parts):
    """Pairs are folded until their number is a power of two, and then the neighbours are added, again and again."""
    folded = len(parts) - (1 << len(parts).bit_length() - 1)
    sums = [parts[2 * i] + parts[2 * i + 1] for i in range(folded)] + parts[2 * folded :]
    while len(sums) > 1:
        sums = [left + right for left, right in zip(sums[::2], sums[1::2])]
    return sums[0]


ORDERS = {
    "tree": lambda parts: tree_sum(parts, np.empty_like(parts[0])),
    "star": in_rank_order,
    "ring": round_the_ring,
    "recursive-doubling": by_doubling,
}


def summed(comm, parts):
    """What an all-reduce of these parts gives on this communicator, to the bit."""
    return ORDERS[comm.reduction](parts)


def lengths(comm):
    return sorted({0, 1, comm.size - 1, 1000})


def uneven(comm):
    """Lengths that differ from rank to rank; rank 1's is 0."""
    return [0 if rank == 1 else 3 * rank + 2 for rank in range(comm.size)]


def same(x, y):
    """Equal to the bit, and of one dtype and shape."""
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def all_same(xs, ys):
    return len(xs) == len(ys) and all(map(same, xs, ys))


def neighbours(comm):
    return (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size


def swap(comm, x, tag=0, header=Header()):
    """Send x round the ring by one rank; the Message that came from the left.  With one rank, to itself."""
    left, right = neighbours(comm)
    sending = comm.isend(x, right, tag, header)
    message = comm.recv(left, tag)
    assert sending.wait() is None
    return message


def timed_out(comm, **options):
    try:
        comm.recv(timeout=1e-3, **options)
    except PeerError as error:
        return f"rank {comm.rank}" in str(error)
    return False


# --- point to point


@contract
def check_who_is_who(comm):
    assert 0 <= comm.rank < comm.size
    assert comm.workers == tuple(range(comm.size)) and comm.worker == comm.rank and comm.servers == ()
    assert len(comm.place) == comm.size
    assert comm.empty(3).shape == (3,) and comm.empty(3).dtype == comm.dtype


@contract
def check_message(comm):
    """Data, source, tag and header arrive, whatever the length and dtype."""
    left, _ = neighbours(comm)
    for dtype in (*FLOATS, "int64", "uint8"):
        for n in lengths(comm):
            header = Header(2**40 + comm.rank, -1, n, 7)
            data, source, tag, arrived = swap(comm, part(comm.rank, n).astype(dtype), 5, header)
            assert same(data, part(left, n).astype(dtype)), (dtype, n)
            assert (source, tag, arrived) == (left, 5, header._replace(version=2**40 + left))
            assert isinstance(arrived, Header)


@contract
def check_default_header(comm):
    assert swap(comm, comm.empty(2)).header == Header(0, 0, 0, 0)


@contract
def check_order_of_one_sender(comm):
    """Messages of one source and tag arrive in order, also when short ones follow long ones."""
    left, right = neighbours(comm)
    numbers = range(20)
    sizes = [20000 if i % 3 == 0 else i for i in numbers]
    sending = [comm.isend(np.full(sizes[i], i, "float64"), right, 1, Header(step=i)) for i in numbers]
    messages = [comm.recv(left, 1) for _ in numbers]
    assert [m.header.step for m in messages] == list(numbers)
    assert all(same(m.data, np.full(n, i, "float64")) for i, (m, n) in enumerate(zip(messages, sizes)))
    for request in sending:
        request.wait()


@contract
def check_tags_are_apart(comm):
    """A receive takes the tag it asks for, in whatever order the tags were sent."""
    left, right = neighbours(comm)
    sending = [comm.isend(np.array([float(tag)]), right, tag) for tag in (1, 2, 3)]
    assert [comm.recv(left, tag).data[0] for tag in (3, 1, 2)] == [3, 1, 2]
    for request in sending:
        request.wait()


@contract
def check_any_tag(comm):
    """With ANY_TAG one sender's messages come in the order in which they were sent."""
    left, right = neighbours(comm)
    sending = [comm.isend(np.array([float(tag)]), right, tag) for tag in (9, 4, 6)]
    assert [comm.recv(left, ANY_TAG).tag for _ in range(3)] == [9, 4, 6]
    for request in sending:
        request.wait()


@contract
def check_any_source(comm):
    """Rank 0 hears everyone, in any order, but each of them in order."""
    if comm.rank:
        for i in range(3):
            comm.send(np.array([comm.rank, i], "float64"), 0, tag=i)
        return
    messages = [comm.recv(ANY_SOURCE, ANY_TAG) for _ in range(3 * (comm.size - 1))]
    heard = {source: [m.tag for m in messages if m.source == source] for source in range(1, comm.size)}
    assert all(tags == [0, 1, 2] for tags in heard.values())
    assert all(same(m.data, np.array([m.source, m.tag], "float64")) for m in messages)


@contract
def check_sent_buffer_is_free(comm):
    """Once send() or wait() is over the sender may write the buffer, and the message stays what it was."""
    for n in (10, 20000):
        if comm.rank == 0:
            for dest in range(1, comm.size):
                x = part(0, n)
                comm.send(x, dest)
                x[:] = np.nan
                sending = comm.isend(part(0, n), dest)
                sending.wait()
                x[:] = np.nan
        else:
            first, second = comm.recv(0), comm.recv(0)
            assert same(first.data, part(0, n)) and same(second.data, part(0, n))


@contract
def check_buffer_of_isend_is_free(comm):
    left, right = neighbours(comm)
    for n in (10, 20000):
        x = part(comm.rank, n)
        sending = comm.isend(x, right)
        message = comm.recv(left)
        sending.wait()
        x[:] = np.nan
        comm.barrier()
        assert same(message.data, part(left, n))


@contract
def check_ring_of_large_arrays(comm):
    """Messages far above any eager limit go round the ring, each rank passing on what it received."""
    x = np.full(200000, float(comm.rank))
    for hop in range(1, comm.size + 1):
        x = swap(comm, x).data
        assert x.shape == (200000,) and (x == (comm.rank - hop) % comm.size).all()


@contract
def check_irecv_before_send(comm):
    """A receive may be started long before its message is sent, and its result asked for twice."""
    left, right = neighbours(comm)
    for n in (3, 20000):
        receiving = comm.irecv(left, 8)
        comm.barrier()
        sending = comm.isend(part(comm.rank, n), right, 8)
        message = receiving.wait()
        assert same(message.data, part(left, n)) and receiving.wait() is message
        sending.wait()


@contract
def check_irecv_then_send(comm):
    """A receive that was started takes its message while this rank waits in a send, however long the two are."""
    left, right = neighbours(comm)
    receiving = comm.irecv(left)
    comm.send(np.full(200000, float(comm.rank)), right)
    assert (receiving.wait().data == left).all()


@contract
def check_first_started_gets_first(comm):
    """Receives take messages in the order in which they were started, not in that of waiting."""
    left, right = neighbours(comm)
    sending = [comm.isend(np.array([float(tag)]), right, tag) for tag in (1, 2, 2, 1)]
    anything, second = comm.irecv(left, ANY_TAG), comm.irecv(ANY_SOURCE, 2)
    assert comm.recv(left, 2).data[0] == 2 and comm.irecv(left).wait().tag == 1
    assert second.wait().tag == 2 and anything.wait().tag == 1
    for i in range(2):
        sending += [comm.isend(np.array([float(i)]), right, 3)]
    first = comm.irecv(left, 3)
    assert (comm.recv(left, 3).data[0], first.wait().data[0]) == (1, 0)
    for request in sending:
        request.wait()


@contract
def check_unclaimed_messages_wait(comm):
    """What comes while nobody asks for it is there, in order, for those who ask later."""
    left, right = neighbours(comm)
    sending = [comm.isend(np.array([float(i)]), right, 1 + i // 4) for i in range(6)]
    last, never = comm.irecv(left, 2), comm.irecv(left, 3)
    assert last.wait().data[0] == 4
    assert [comm.recv(left, tag).data[0] for tag in (1, ANY_TAG, 2, ANY_TAG, 1)] == [0, 1, 5, 2, 3]
    sending += [comm.isend(comm.empty(0), right, 3)]
    assert never.wait().tag == 3
    for request in sending:
        request.wait()


@contract
def check_wait_any(comm):
    """Each request is handed out once done: an isend with None, an irecv with its Message."""
    peers = range(comm.size)
    requests = [comm.irecv(peer, 2) for peer in peers] + [comm.isend(part(comm.rank, 20000), peer, 2) for peer in peers]
    names = [("from", peer) for peer in peers] + [("to", peer) for peer in peers]
    seen = {}
    while requests:
        i, result = comm.wait_any(requests)
        requests.pop(i)
        seen[names.pop(i)] = result
    assert all(seen["to", peer] is None for peer in peers)
    assert all(same(seen["from", peer].data, part(peer, 20000)) for peer in peers)


@contract
def check_wait_any_takes_what_is_there(comm):
    """The request that can be done is, though one before it never will."""
    if comm.size == 1:
        return
    if comm.rank == 0:
        never, later = comm.irecv(1, 10), comm.irecv(1, 11)
        i, message = comm.wait_any([never, later])
        assert i == 1 and message.data[0] == 11
        comm.send(comm.empty(0), 1, 12)
        assert never.wait().data[0] == 10
    elif comm.rank == 1:
        comm.send(np.array([11.0]), 0, 11)
        comm.recv(0, 12)
        comm.send(np.array([10.0]), 0, 10)


@contract
def check_timeout(comm):
    """Silence raises PeerError on the rank that waits, and the receive that gave up takes no later message."""
    left, _ = neighbours(comm)
    assert timed_out(comm, source=left, tag=3) and timed_out(comm)
    comm.barrier()
    assert same(swap(comm, part(comm.rank, 4), 3).data, part(left, 4))


@contract
def check_timeout_in_time(comm):
    """A timeout that is long enough changes nothing."""
    left, right = neighbours(comm)
    sending = comm.isend(part(comm.rank, 4), right)
    assert same(comm.recv(left, timeout=60).data, part(left, 4))
    sending.wait()


# --- collectives


@contract
def check_bcast(comm):
    for dtype in (*FLOATS, "uint8"):
        for n in lengths(comm):
            for root in range(comm.size):
                mine = part(comm.rank, n).astype(dtype)
                assert same(comm.bcast(mine, root), part(root, n).astype(dtype)), (dtype, n, root)


@contract
def check_reduce(comm):
    """In the written order for every root; the inputs stay what they were."""
    for dtype in FLOATS:
        for n in lengths(comm):
            for root in range(comm.size):
                mine = part(comm.rank, n, dtype)
                result = comm.reduce(mine, root)
                assert same(mine, part(comm.rank, n, dtype))
                assert same(result, total(comm, n, dtype)) if comm.rank == root else result is None, (dtype, n, root)


@sums
def check_allreduce(comm):
    for dtype in FLOATS:
        for n in lengths(comm):
            mine = part(comm.rank, n, dtype)
            assert same(comm.allreduce(mine), summed(comm, parts(comm, n, dtype))), (dtype, n)
            assert same(mine, part(comm.rank, n, dtype))


@sums
def check_allreduce_of_blocks(comm):
    """Longer than a block of the sum, and than an eager limit."""
    assert same(comm.allreduce(part(comm.rank, 40000, "float32")), summed(comm, parts(comm, 40000, "float32")))
    ranks = comm.allreduce(np.full(300000, 1.0 + comm.rank))  # chunks of it are longer, too
    assert (ranks == comm.size * (comm.size + 1) // 2).all()


@sums
def check_allreduce_has_the_same_bits_everywhere(comm):
    """And those of a NaN, of which an addition passes on one, are bits too."""
    for n in lengths(comm):
        mine = part(comm.rank, n, "float32")
        mine[::7] = np.uint32(0x7FC00000 + comm.rank).view("float32")
        assert len({result.tobytes() for result in comm.allgather(comm.allreduce(mine))}) == 1


@contract
def check_schedules(comm):
    """Each is a function that needs only send and recv; the input stays what it was."""
    for name, schedule in REDUCTIONS.items():
        for dtype in (*FLOATS, "int64"):
            for n in lengths(comm):
                mine, before = part(comm.rank, n).astype(dtype), (comm.sent.messages, comm.sent.bytes)
                result = schedule(comm, mine)
                assert same(result, ORDERS[name]([x.astype(dtype) for x in parts(comm, n)])), (name, dtype, n)
                assert same(mine, part(comm.rank, n).astype(dtype)) and not result.flags.writeable
                wanted = result.copy()
                sent = comm.sent.messages - before[0], comm.sent.bytes - before[1]
                assert sent == allreduce_traffic(name, comm.rank, comm.size, n, mine.itemsize), (name, n)
                mine[:] = 77
                assert same(result, wanted)


@contract
def check_binomial_trees(comm):
    """They do what bcast and reduce do, with the same messages."""
    for n in lengths(comm):
        for root in range(comm.size):
            mine = part(comm.rank, n)
            for tree, call in ((binomial_bcast, comm.bcast), (binomial_reduce, comm.reduce)):
                counts = [(comm.sent.messages, comm.sent.bytes)]
                results = []
                for act in (lambda: tree(comm, mine, root), lambda: call(mine, root)):
                    results.append(act())
                    counts.append((comm.sent.messages, comm.sent.bytes))
                assert counts[1][0] - counts[0][0] == counts[2][0] - counts[1][0]
                assert counts[1][1] - counts[0][1] == counts[2][1] - counts[1][1]
                assert same(mine, part(comm.rank, n))
                if results[1] is None:
                    assert results[0] is None
                else:
                    assert same(*results) and not results[0].flags.writeable


@contract
def check_schedules_refuse_what_does_not_fit(comm):
    """Lengths or dtypes that differ would be added up all the same: broadcast, or converted."""
    if comm.size != 2:
        return
    for mine in (np.ones(1 + comm.rank), np.ones(2, FLOATS[comm.rank])):
        try:
            REDUCTIONS["recursive-doubling"](comm, mine)
        except ValueError as error:
            assert "one length and dtype on all ranks" in str(error)
        else:
            raise AssertionError(mine)


@contract
def check_reduce_scatter(comm):
    for dtype in FLOATS:
        for counts in (uneven(comm), [5] * comm.size, [0] * (comm.size - 1) + [1000]):
            mine = part(comm.rank, sum(counts), dtype)
            lo = sum(counts[: comm.rank])
            assert same(comm.reduce_scatter(mine, counts), total(comm, sum(counts), dtype)[lo : lo + counts[comm.rank]])
            assert same(mine, part(comm.rank, sum(counts), dtype))


@contract
def check_allgather_in_place(comm):
    """Twice in the same memory, which may be one for all ranks: a slice is written once all have read the last ones."""
    for counts in (uneven(comm), [5] * comm.size, [0] * (comm.size - 1) + [1000]):
        x, everyone = comm.replica(sum(counts)), total(comm, sum(counts), comm.dtype)
        lo = sum(counts[: comm.rank])
        for step in range(3):
            x[lo : lo + counts[comm.rank]] = step * everyone[lo : lo + counts[comm.rank]]
            assert comm.allgather_in_place(x, counts) is None
            assert same(x, step * everyone)
            comm.barrier()


@sums
def check_iallreduce(comm):
    """Several are under way at once, and may be waited for in any order."""
    mine = [part(comm.rank + i, 50 + i) for i in range(4)]
    requests = [comm.iallreduce(x) for x in mine]
    results = {i: requests[i].wait() for i in (2, 0, 3, 1)}
    for i in range(4):
        wanted = summed(comm, [part(rank + i, 50 + i) for rank in range(comm.size)])
        assert same(results[i], wanted) and not results[i].flags.writeable


@contract
def check_gather(comm):
    counts = uneven(comm)
    for dtype in (*FLOATS, "uint8"):
        for root in range(comm.size):
            result = comm.gather(part(comm.rank, counts[comm.rank]).astype(dtype), root)
            everyone = [part(rank, n).astype(dtype) for rank, n in enumerate(counts)]
            assert all_same(result, everyone) if comm.rank == root else result is None


@contract
def check_allgather(comm):
    for dtype in (*FLOATS, "uint8"):
        for counts in (uneven(comm), [0] * comm.size, [1000] * comm.size):
            result = comm.allgather(part(comm.rank, counts[comm.rank]).astype(dtype))
            assert all_same(result, [part(rank, n).astype(dtype) for rank, n in enumerate(counts)])


@contract
def check_scatter(comm):
    counts = uneven(comm)
    for dtype in (*FLOATS, "uint8"):
        for root in range(comm.size):
            given = [part(rank, n).astype(dtype) for rank, n in enumerate(counts)]
            assert same(comm.scatter(given if comm.rank == root else None, root), given[comm.rank])


@contract
def check_alltoall(comm):
    """Rank i has i + 2j elements for rank j: none for itself if it is rank 0."""

    def letter(source, dest):
        return part(100 * source + dest, source + 2 * dest)

    ranks = range(comm.size)
    result = comm.alltoall([letter(comm.rank, dest) for dest in ranks])
    assert all_same(result, [letter(source, comm.rank) for source in ranks])


@contract
def check_barrier(comm):
    """Nobody leaves before everybody is there: what was sent before it has arrived or can be received after it."""
    left, right = neighbours(comm)
    for number in range(3):
        sending = comm.isend(np.array([float(number)]), right)
        assert comm.barrier() is None
        assert comm.recv(left).data[0] == number
        sending.wait()


@sums
def check_results_are_readonly(comm):
    mine, ones = part(comm.rank, comm.size), [1] * comm.size
    letters = [mine] * comm.size
    results = [swap(comm, mine).data, comm.bcast(mine), comm.allreduce(mine), comm.reduce_scatter(mine, ones)]
    results += [comm.scatter(letters if comm.rank == 0 else None), *comm.allgather(mine), *comm.alltoall(letters)]
    at_root = [comm.reduce(mine), *(comm.gather(mine) or ())]
    results += at_root if comm.rank == 0 else []
    assert not any(result.flags.writeable for result in results)


@sums
def check_readonly_arrays_travel(comm):
    """What a call returned may be handed to the next one."""
    x = comm.bcast(part(comm.rank, 7))
    left, _ = neighbours(comm)
    message = swap(comm, comm.bcast(part(comm.rank, 7), root=comm.size - 1))
    assert same(swap(comm, message.data).data, part(comm.size - 1, 7))
    assert same(comm.bcast(x), part(0, 7))
    assert same(comm.allreduce(x), summed(comm, [part(0, 7)] * comm.size))
    assert all_same(comm.allgather(x), [part(0, 7)] * comm.size)
    assert all_same(comm.alltoall([x] * comm.size), [part(0, 7)] * comm.size)
    assert same(comm.scatter([x] * comm.size if comm.rank == 0 else None), part(0, 7))


@sums
def check_inputs_may_be_overwritten(comm):
    """A collective's result does not change with the arrays that were put in."""
    n = 3 * comm.size
    mine, counts = part(comm.rank, n), [3] * comm.size
    results = [comm.bcast(mine), comm.allreduce(mine), comm.reduce_scatter(mine, counts), *comm.allgather(mine)]
    results += comm.alltoall([mine] * comm.size)
    wanted = [
        part(0, n),
        summed(comm, parts(comm, n)),
        total(comm, n)[3 * comm.rank :][:3],
        *parts(comm, n),
        *parts(comm, n),
    ]
    mine[:] = np.nan
    comm.barrier()
    assert all_same(results, wanted)


@sums
def check_results_stay_valid(comm):
    """Results are valid for as long as they are held, however many later calls there are."""
    left, _ = neighbours(comm)
    held = []
    for i in range(40):
        mine = part(comm.rank + i, 6)
        held.append([comm.allreduce(mine), comm.bcast(mine), *comm.allgather(mine), swap(comm, mine).data])
    for i, results in enumerate(held):
        everyone = [part(rank + i, 6) for rank in range(comm.size)]
        assert all_same(results, [summed(comm, everyone), everyone[0], *everyone, everyone[left]]), i


@sums
def check_collectives_and_messages_are_apart(comm):
    """A message that nobody has received yet is not taken for a part of a collective, nor the other way round."""
    left, right = neighbours(comm)
    sending = comm.isend(part(comm.rank, 6), right)
    everyone = parts(comm, 6)
    for root in range(comm.size):
        assert same(comm.allreduce(everyone[comm.rank]), summed(comm, everyone))
        result = comm.reduce(everyone[comm.rank], root)
        assert comm.rank != root or same(result, total(comm, 6))
    assert same(comm.recv(left).data, part(left, 6))
    sending.wait()


@sums
def check_late_wildcard(comm):
    """A receive from anyone takes messages only, though others already sum."""
    if comm.rank == 0:
        for _ in range(comm.size - 2):
            assert comm.recv().tag == 77
    elif comm.rank > 1:
        comm.send(comm.empty(4), 0, 77)
    assert same(comm.allreduce(part(comm.rank, 4)), summed(comm, parts(comm, 4)))  # rank 1 is here at once


UNFIT = {
    "int32": np.zeros(4, "int32"),
    "big-endian": np.zeros(4, ">f8"),
    "with gaps": np.zeros(8)[::2],
    "backwards": np.zeros(8)[::-1],
    "two axes": np.zeros((2, 2)),
    "no axis": np.zeros(()),
}


@sums
def check_unfit_arrays_are_refused(comm):
    """What cannot travel as it is, is refused before anything is sent; alone, so that no other rank waits."""
    alone = comm.split(comm.rank)
    calls = [alone.bcast, alone.reduce, alone.allreduce, alone.gather, alone.allgather]
    calls += [lambda x: alone.reduce_scatter(x, [4]), lambda x: alone.scatter([x]), lambda x: alone.alltoall([x])]
    calls += [lambda x: alone.isend(x, 0), lambda x: alone.send(x, 0)]
    before = comm.sent.messages, comm.sent.bytes
    unfit = [(name, x, call) for name, x in UNFIT.items() for call in calls]
    unfit += [("a list", [0.0, 1.0], call) for call in (calls[-1], alone.allreduce)]
    for name, x, call in unfit:
        try:
            call(x)
        except (TypeError, ValueError) as error:
            assert "may be sent, not" in str(error), (name, error)
        else:
            raise AssertionError(name)
    assert (comm.sent.messages, comm.sent.bytes) == before


# --- groups


@sums
def check_split(comm):
    """A group of its own for each color, in the order of (key, rank)."""
    color = comm.rank % 2
    members = [rank for rank in range(comm.size) if rank % 2 == color]
    group = comm.split(color)
    assert (group.rank, group.size) == (members.index(comm.rank), len(members))
    assert group.workers == tuple(range(group.size)) and group.worker == group.rank and group.servers == ()
    assert group.dtype == comm.dtype and group.reduction == comm.reduction
    backwards = comm.split(color, key=-comm.rank)
    assert (backwards.rank, backwards.size) == (len(members) - 1 - members.index(comm.rank), len(members))
    alone = comm.split(comm.rank)
    assert (alone.rank, alone.size) == (0, 1) and same(alone.allreduce(part(0, 3)), part(0, 3))
    equal = comm.split(0, key=5)
    assert (equal.rank, equal.size) == (comm.rank, comm.size)


@sums
def check_split_communicates(comm):
    """Messages and collectives of a group stay in it, and count by its ranks."""
    color = comm.rank % 2
    members = [rank for rank in range(comm.size) if rank % 2 == color][::-1]
    group = comm.split(color, key=-comm.rank)
    values = [part(rank, 9) for rank in members]
    message = swap(group, values[group.rank], tag=1)
    assert same(message.data, values[message.source]) and message.source == (group.rank - 1) % group.size
    assert same(group.allreduce(values[group.rank]), summed(comm, values))
    assert same(group.bcast(values[group.rank], group.size - 1), values[-1])
    assert all_same(group.allgather(values[group.rank]), values)
    halves = group.split(group.rank // 2)
    pair = values[group.rank // 2 * 2 :][:2]
    assert all_same(halves.allgather(values[group.rank]), pair)
    for used in (halves, group):
        assert used.free() is None


@contract
def check_copy(comm):
    """A copy is read-only, keeps its values, and may be sent to many, whole or in part, again and again."""
    for n in (0, 3, 5000):  # the last is of pooled memory
        x = part(comm.rank, n)
        kept, x[:] = comm.copy(x), -1
        assert not kept.flags.writeable and (kept == part(comm.rank, n)).all()
        others = [rank for rank in range(comm.size) if rank != comm.rank]
        receiving = [comm.irecv(rank) for rank in others for _ in range(2)]
        sending = [comm.isend(sent, rank) for rank in others for sent in (kept, kept[n // 2 :])]
        for i, request in enumerate(receiving):
            assert (request.wait().data == part(others[i // 2], n)[i % 2 * (n // 2) :]).all()
        for request in sending:
            request.wait()
        comm.barrier()


# --- time and numbers


@sums
def check_clock(comm):
    """The clock does not go back, whatever the rank does."""
    times = [comm.clock()]
    for act in (
        lambda: comm.compute(int, 0, 1e6),
        lambda: swap(comm, comm.empty(5)),
        comm.barrier,
        lambda: comm.allreduce(comm.empty(5) * 0),
    ):
        act()
        times.append(comm.clock())
    assert times == sorted(times) and all(isinstance(time, float) for time in times)


@contract
def check_compute(comm):
    """compute() calls the work once and returns what it returns."""
    calls = []
    assert comm.compute(lambda: calls.append(comm.rank) or "value", step=3, flops=1000) == "value"
    assert calls == [comm.rank]


@sums
def check_counters(comm):
    """messages and bytes are the traffic of the written schedules, summed over the calls."""
    n, size, nbytes = 3 * comm.size, comm.size, 24 * comm.size
    parted = ("scatter", "alltoall", "reduce_scatter")
    mine = part(comm.rank, n)
    calls = [("allreduce", 0, lambda: comm.allreduce(mine))] * 2 + [("barrier", 0, comm.barrier)]
    for root in range(size):
        calls += [
            ("bcast", root, lambda root=root: comm.bcast(mine, root)),
            ("reduce", root, lambda root=root: comm.reduce(mine, root)),
            ("gather", root, lambda root=root: comm.gather(mine, root)),
            ("scatter", root, lambda root=root: comm.scatter([mine[:3]] * size if comm.rank == root else None, root)),
        ]
    calls += [
        ("allgather", 0, lambda: comm.allgather(mine)),
        ("alltoall", 0, lambda: comm.alltoall([mine[:3]] * size)),
        ("reduce_scatter", 0, lambda: comm.reduce_scatter(mine, [3] * size)),
    ]
    for kind, root, call in calls:
        before = comm.sent.messages, comm.sent.bytes
        call()
        put_in = nbytes if kind not in ("barrier", "scatter") or kind == "scatter" and comm.rank == root else 0
        sent = traffic(kind, comm.rank, size, root, put_in, kept=min(put_in, 24) if kind in parted else 0)
        if kind == "allreduce":
            sent = allreduce_traffic(comm.reduction, comm.rank, size, n, 8)
        assert (comm.sent.messages - before[0], comm.sent.bytes - before[1]) == sent, (kind, root)
    before = comm.sent.messages, comm.sent.bytes
    swap(comm, mine)
    swap(comm, mine[:0])
    assert (comm.sent.messages - before[0], comm.sent.bytes - before[1]) == (2, nbytes)
    # What is sent over a part of the ranks is sent by this rank.
    before, group = (comm.sent.messages, comm.sent.bytes), comm.split(comm.rank // 2)
    group.allreduce(mine)
    sent = allreduce_traffic(comm.reduction, group.rank, group.size, n, 8)
    assert (comm.sent.messages - before[0], comm.sent.bytes - before[1]) == sent
    group.free()
