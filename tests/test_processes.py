"""N simulated ranks on p processes are the same N ranks on one: every bit, message, byte and virtual second."""

import gc
from functools import cache
from threading import Barrier, BrokenBarrierError, Thread

import numpy as np
import pytest
from launching import TRAIN, mpirun, script, table
from table import run_row

from dsgd.collectives import subtrees
from dsgd.comm import Header
from dsgd.errors import UsageError
from dsgd.mpi.link import pack, unpack
from dsgd.network import Network
from dsgd.simulator import CollectiveMismatch, World, simulate
from dsgd.simulator.processes import blocks

SMALL = {"data": "digits", "hidden": "16", "steps": 6, "batch_size": 48, "log_every": 3, "no_plot": True, "timed": True}
LATE = {"compute": "lognormal:mean=1e-4,sigma=1"}  # workers come at different times
LONG = {"network": "uniform:eager_limit=100,jitter=1e-5"}  # messages wait for their receives, and are late
ROWS = [
    SMALL | row
    for row in (
        {"algorithm": "data-parallel", "simulate": 5, "clip_norm": 0.1, "partition": "dirichlet:alpha=0.1"},
        {"algorithm": "data-parallel", "simulate": 13, "dropout": 0.2, **LATE},
        {"algorithm": "data-parallel", "simulate": 6, "reduction": "ring", **LONG},
        {"algorithm": "data-parallel", "simulate": 7, "reduction": "recursive-doubling"},
        {"algorithm": "data-parallel", "simulate": 7, "faults": "slow:rank=5,x=9", "check_replicas": 2},
        {"algorithm": "dsgd", "simulate": 7, "optimizer": "adam", **LATE},
        {"algorithm": "sharded-update", "simulate": 7, "optimizer": "adam", "clip_norm": 0.1},
        {"algorithm": "overlapped", "simulate": 5, "hidden": "8,8", **LATE},
        {"algorithm": "grouped:size=2", "simulate": 8, **LONG},
        {"algorithm": "parameter-server", "simulate": 6},
        {"algorithm": "parameter-server:servers=3", "simulate": 13, **LONG},
        {"algorithm": "parameter-server:colocated=true", "simulate": 5, "clip_norm": 0.1, **LATE},
        {"algorithm": "model-parallel", "simulate": 4, "hidden": "8,8,8"},
    )
]
ON = {2: ROWS, 3: ROWS[1::4], 4: ROWS[4:8]}  # processes: rows


def same(row, outcome, expected):
    """Whether an outcome is the expected one but for the processes that hosted it."""
    outcome, expected = ({**some, "pids": None} for some in (outcome, expected))
    assert outcome == expected, (
        row,
        {key: (outcome[key], expected[key]) for key in outcome if outcome[key] != expected[key]},
    )


@cache
def alone(index):
    """The outcome of a row on one process."""
    return run_row(ROWS[index])


@pytest.mark.parametrize("processes", ON)
def test_the_same_bits_messages_and_times_on_any_number_of_processes(processes, tmp_path):
    rows, begun, begins = list(ON[processes]), tmp_path / "begun", tmp_path / "begins"
    if processes == 3:  # which ends a run of one process, and begins one for one process to end
        run_row(ROWS[1] | {"output": str(begun), "steps": 3})
        rows += [ROWS[1] | {"output": str(begun), "resume": True}, ROWS[1] | {"output": str(begins), "steps": 3}]
    outcomes = table(processes, rows)
    for row, outcome in zip(ON[processes], outcomes):
        same(row, outcome, alone(ROWS.index(row)))
    assert outcomes[0]["pids"] == processes
    if processes == 3:
        same(rows[-2], outcomes[-2], alone(1))
        same(rows[-1], run_row(rows[-1] | {"steps": 6, "resume": True}), alone(1))


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [7, 8, 13, 64, 1000])
def test_blocks_are_even_and_few_subtrees(size, processes):
    place = blocks(size, processes)
    sizes = [place.count(process) for process in range(processes)]
    assert list(place) == sorted(place) and len(place) == size
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= max(1, size // (4 * processes))
    if processes in (2, 4) and size == 64:
        assert all(len(subtrees({r for r in range(size) if place[r] == p}, 0, size)) == 1 for p in range(processes))


class ThreadLink:
    """A link between worlds in threads of one process."""

    def __init__(self, process, shared, barrier):
        self.process, self.processes, self.shared, self.barrier = process, len(shared), shared, barrier

    def exchange(self, next, outbox):
        outbox = [(to, *unpack(np.concatenate(pack([item])))[0]) for to, *item in outbox]  # as MPI's link has it
        self.shared[self.process] = next, outbox
        self.barrier.wait(timeout=20)
        everything = list(self.shared)
        self.barrier.wait(timeout=20)
        earliest = min(next for next, _ in everything)
        inbox = [
            (source, facts, arrays)
            for source, (_, box) in enumerate(everything)
            for to, facts, arrays in box
            if to == self.process
        ]
        return earliest, inbox if any(box for _, box in everything) else None


def simulate_on(processes, program, size, **options):
    """What simulate(program, size) gives, from so many worlds that share out the ranks."""
    shared, barrier, found, errors = [None] * processes, Barrier(processes), [None] * size, []

    def host(process):
        try:
            world = World(size, link=ThreadLink(process, shared, barrier), **options)
            for rank, result in enumerate(world.run(lambda rank: program(world.comm(rank)))):
                if world.place[rank] == process:
                    found[rank] = result
        except BrokenBarrierError:
            pass  # another world has failed
        except Exception as error:
            errors.append(error)
            barrier.abort()

    threads = [Thread(target=host, args=(process,)) for process in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


def crossing(comm):
    """All send messages, of one length and then of different ones, to all at one moment; the clocks show who was first."""
    rank, size, seen = comm.rank, comm.size, []
    for turn in range(3):
        others = [other for other in range(size) if other != rank]
        sending = [comm.isend(np.full(1 + turn * (7 * rank + 3 * other) % 40, rank), other) for other in others]
        coming = [comm.irecv(source) for source in (others if rank % 2 else others[::-1])]
        seen += [(int(request.wait().data[0]), comm.clock()) for request in coming]
        seen += [(request.wait(), comm.clock()) for request in sending]
        comm.barrier()
    return seen


@pytest.mark.parametrize("eager_limit", [0, 100, 10**6])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_messages_of_one_moment_are_served_in_the_order_of_one_process(processes, eager_limit):
    options = {"network": Network(1e-3, 1e5, eager_limit)}
    assert simulate_on(processes, crossing, 7, **options) == simulate(crossing, 7, **options)


def leaving(comm):
    """Rank 0 sends in a group that rank 1, in another process, has left."""
    part = comm.split(0)
    if comm.rank == 0:
        return part.isend(np.arange(3.0), 1).wait()
    del part
    gc.collect()  # a group and its communicators are a cycle
    return comm.clock()


def test_a_message_may_come_after_its_group_was_dropped():
    assert simulate_on(2, leaving, 2) == simulate(leaving, 2)


def numpy_integers(comm):
    """Tags and headers may be what NumPy counts with."""
    one = np.int64(1)
    if comm.rank:
        return [(message.tag, message.header) for message in (comm.recv(0, one) for _ in range(2))]
    for n in (1, 100):  # eager, and asked for
        comm.send(np.ones(n), 1, one, Header(one, one, one, one))


def test_tags_and_headers_may_be_numpy_integers():
    options = {"network": Network(eager_limit=100)}
    assert simulate_on(2, numpy_integers, 2, **options) == simulate(numpy_integers, 2, **options)


def cutting(comm):
    """Rank 2 cuts the sum in another way than the others, to a tuple whose hash ends in the same six digits."""
    return comm.reduce_scatter(np.ones(60), (0, 54, 6) if comm.rank < 2 else (41, 7, 12))


def test_two_cuts_are_told_apart_in_different_processes():
    with pytest.raises(CollectiveMismatch, match="reduce_scatter"):
        simulate_on(3, cutting, 3)


def test_a_random_order_of_events_is_refused_on_several_processes():
    with pytest.raises(UsageError, match=r"^world={'shuffle': 1} cannot be simulated by 2 processes together.*mpirun$"):
        simulate_on(2, crossing, 4, shuffle=1)


WAITS = """
import sys
from dsgd.algorithms import data_parallel
from dsgd.local import Local
gradient = Local.gradient
def stray(self, x, t, *args, **options):
    if self.comm.rank > 1 and t == 1:
        {act}
    return gradient(self, x, t, *args, **options)
Local.gradient = stray
"""


@pytest.mark.parametrize(
    "act, code, said",
    [
        ("self.comm.recv(0)", 70, "nothing is left to happen at virtual time"),
        ("self.comm.barrier()", 70, "calls barrier #1"),
        ("raise MemoryError('no room')", 70, "out of memory (no room)"),
    ],
    ids=["deadlock", "another collective", "an error"],
)
def test_what_goes_wrong_in_one_process_ends_all_with_one_message(act, code, said, tmp_path):
    flags = ("--simulate", "4", "--steps", "4", "--hidden", "8", "--quiet")
    ended = mpirun(2, script(tmp_path, WAITS.format(act=act)), *flags, cwd=tmp_path)
    assert ended.code == code and ended.err.count(said) == 1, ended
    assert sum(line.startswith(("dsgd:", "[rank")) and said in line for line in ended.lines) == 1


@pytest.mark.parametrize(
    "flags, said",
    [
        (("--simulate", "1"), "leaves some without a rank; start it with mpirun -n 1 at most"),
        (("--simulate", "4", "--algorithm", "easgd"), "asynchronous, cannot be simulated by 2 processes together"),
        (("--simulate", "4", "--faults", "drop:p=0.1"), "--faults drop cannot be simulated by 2 processes together"),
    ],
    ids=["too few ranks", "asynchronous", "faults of messages"],
)
def test_what_one_process_must_simulate_alone_is_refused_in_one_line(flags, said, tmp_path):
    ended = mpirun(2, *TRAIN, *flags, cwd=tmp_path)
    assert (ended.code, len(ended.lines)) == (2, 1) and said in ended.lines[0], ended
