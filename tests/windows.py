"""What ranks that share memory must give: checks that need a window, and the contract suite over one.

    mpirun -n 4 python tests/windows.py crowded once

"hosts": two ranks are taken for a host, and the suite is left out; "crowded": the ranks wait as where they outnumber the
cores; "once": in the suite a replica lives once per host.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # up here, because the guard imports MPI, which must come before NumPy
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    from dsgd.mpi.launch import guard

    def main():
        import windows

        return windows.main()

    sys.exit(guard(main))

import json
from unittest.mock import patch

import numpy as np
from contract import CHECKS, FLOATS, part, parts, run_one, same, total, uneven
from mpi4py import MPI

from dsgd.collectives import BLOCK, tree_sum
from dsgd.mpi import window
from dsgd.mpi.shared import SharedComm
from dsgd.mpi.waiting import wait_until

CROWDED = "crowded" in sys.argv
if "hosts" in sys.argv:
    window.hosts = lambda world: world.Split(world.rank // 2, world.rank)


class Lagging(window.Window):
    """A window in which the rank `late` does nothing after a barrier before all others have come to the next one.

    So whatever they do in between is done first: a barrier that is missing lets them do too much.
    """

    late = None

    def barrier(self, note=0):
        super().barrier(note)
        if self.late == self.rank:
            others = [line for i, line in enumerate(self._lines_of) if i != self.rank]
            wait_until(lambda: all(self._lines[line] > self._turn for line in others))


class Copying(SharedComm):
    """For arrays from elsewhere, of a packet's length: they are copied into the packet, so that they pass the window."""

    def _reduce_scatter(self, x, counts):
        return super()._reduce_scatter(self._packed(x), counts)

    def _allreduce(self, x):
        return super()._allreduce(self._packed(x))

    def _packed(self, x):
        packet = self.window.own[self.window.rank] if self.window else x
        if (len(x), x.dtype) != (len(packet), packet.dtype):
            return x
        packet[:] = x
        return packet


def shared(n, dtype="float64", once=False, kind=SharedComm):
    """A communicator with a window for packets of n elements.   once: whether a replica lives once per host"""
    world = MPI.COMM_WORLD.Dup()
    comm = kind(world, dtype=dtype, crowded=CROWDED)
    with patch.object(window, "PRIVATE", 0 if once else 2**62), patch.object(window, "Window", Lagging):
        comm.share(window.open_window(world, n, dtype, CROWDED))
    return comm


def main():
    """All checks on this rank; rank 0 prints the names of those that passed."""
    passed = []
    for name, check in CASES.items():
        check()
        MPI.COMM_WORLD.Barrier()
        passed.append(name)
    if "hosts" not in sys.argv:
        comm = shared(1000, once="once" in sys.argv, kind=Copying)
        passed += [name for name, check in CHECKS.items() if run_one(check, comm)]
        comm.free()
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(passed))
    return 0


def case(check):
    """Add a check to the table."""
    CASES[check.__name__.removeprefix("check_")] = check
    return check


CASES = {}


def step(comm, x, packet, counts, t):
    """What sharded-update does in a step, and an all-reduce: each value is a function of rank and t."""
    n, lo = len(packet), sum(counts[: comm.rank])
    everyone = [part(10 * t + rank, n, comm.dtype) for rank in range(comm.size)]
    wanted = window_sum(everyone)
    packet[:] = everyone[comm.rank]
    mine = comm.reduce_scatter(packet, counts)
    packet[:] = np.nan  # it is this rank's again
    x[lo : lo + counts[comm.rank]] = mine
    comm.allgather_in_place(x, counts)
    assert same(x, wanted), (comm.dtype, n, counts, t)
    packet[:] = everyone[comm.rank]
    result = comm.allreduce(packet)
    assert same(packet, everyone[comm.rank])
    packet[:] = np.nan
    assert same(result, wanted) and not result.flags.writeable and not mine.flags.writeable
    return result, wanted


def window_sum(everyone):
    return tree_sum(everyone, np.empty_like(everyone[0]))


@case
def check_steps():
    """Every length, dtype and cut, step after step; results stay what they were."""
    size = MPI.COMM_WORLD.size
    for dtype in FLOATS:
        for n in (1, 3, 1003, *[BLOCK + 77] * (dtype == "float32")):
            for once in (False, True):
                comm = shared(n, dtype, once)
                packet, x = comm.empty(n), comm.replica(n)
                assert packet is comm.window.own[comm.window.rank] and (x is comm.window.replica) == once
                assert comm.empty(n) is not packet and (not once or comm.replica(n) is not x)
                some = uneven(comm)
                cuts = [[n] + [0] * (size - 1), [n * (i + 1) // size - n * i // size for i in range(size)]]
                cuts += [[*some[:-1], n - sum(some[:-1])]] if n > sum(some) else []
                held = [step(comm, x, packet, counts, t) for t, counts in enumerate(cuts)]
                assert all(same(*pair) for pair in held)
                comm.barrier()
                comm.free()


@case
def check_a_rank_that_lags():
    """Behind every barrier one rank waits until the others are at the next: none runs ahead of it, or writes what it reads."""
    for once in (False, True):
        comm = shared(1003, once=once)
        packet, x = comm.empty(1003), comm.replica(1003)
        counts = [1003 // comm.size] * (comm.size - 1)
        counts.append(1003 - sum(counts))
        mine = slice(sum(counts[: comm.rank]), sum(counts[: comm.rank + 1]))
        for late in range(comm.window.size):
            comm.window.late = late
            for t in range(4):
                step(comm, x, packet, counts, t)
                for value in (t, -t):  # one call at once after another, with nothing between
                    x[mine] = value
                    comm.allgather_in_place(x, counts)
                    assert (x == value).all()
                    if once:
                        comm.window.barrier()  # all have read it
            comm.window.late = None
            comm.window.barrier()
        comm.free()


@case
def check_arrays_from_elsewhere():
    """One rank brings an array that is not in the window: all take the plain path, with the same bits, and nobody hangs."""
    for once in (False, True):
        comm = shared(1003, once=once)
        packet, x, counts = comm.empty(1003), comm.replica(1003), [1003] + [0] * (comm.size - 1)
        for stranger in range(comm.size):
            mine = np.empty(1003) if comm.rank == stranger else packet
            for t in range(3):
                mine[:] = part(comm.rank, 1003)
                assert same(comm.allreduce(mine), total(comm, 1003))
                assert same(comm.reduce_scatter(mine, counts), total(comm, 1003)[: counts[comm.rank]])
                everywhere = np.zeros(1003) if comm.rank == stranger else x
                if comm.rank == 0:
                    everywhere[:] = t + 1
                comm.allgather_in_place(everywhere, counts)
                assert (everywhere == t + 1).all()
                comm.barrier()
        comm.free()


@case
def check_other_dtypes_and_lengths():
    """What has not the packet's length and dtype takes the plain path."""
    comm = shared(1003)
    for n, dtype in ((1003, "float32"), (1002, "float64"), (1004, "float64")):
        assert same(comm.allreduce(part(comm.rank, n, dtype)), total(comm, n, dtype))
        x, counts = np.zeros(n, dtype), [0] * (comm.size - 1) + [n]
        if comm.rank == comm.size - 1:
            x[:] = 7
        comm.allgather_in_place(x, counts)
        assert (x == 7).all()
    comm.free()


@case
def check_groups_have_no_window():
    """What is split off sums over messages, whatever its length."""
    comm = shared(1003)
    group = comm.split(comm.rank % 2)
    assert group.window is None and comm.without(()) is comm
    ranks = range(comm.rank % 2, comm.size, 2)
    assert same(group.allreduce(part(comm.rank, 1003)), window_sum([part(rank, 1003) for rank in ranks]))
    assert same(comm.allreduce(part(comm.rank, 1003)), window_sum(parts(comm, 1003)))
    comm.free()


@case
def check_hosts_that_are_no_nodes_of_the_tree():
    """Of unequal size, filled in turns, of one rank each, of three: there is no window, on any rank."""
    colors = {"unequal": lambda rank: rank == 0, "in turns": lambda rank: rank % 2, "of one": lambda rank: rank}
    colors |= {"of three": lambda rank: rank // 3}
    world = MPI.COMM_WORLD.Split(MPI.COMM_WORLD.rank < 6)  # six ranks, if there are as many, are two hosts of three
    for name, color in colors.items():
        with patch.object(window, "hosts", lambda world: world.Split(color(world.rank), world.rank)):
            found = window.open_window(world, 10, "float32", CROWDED)
        whole = len({color(rank) for rank in range(world.size)}) == 1
        assert (found is not None) == whole, name
        if found:
            found.free()
    world.Free()
