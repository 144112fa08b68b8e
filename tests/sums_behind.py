"""Sums that a thread makes behind its rank's back, as a rank program.

mpirun -n 3 python tests/sums_behind.py
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    from dsgd.mpi.launch import guard

import threading
import time

import numpy as np

from dsgd.collectives import tree_sum


def parts(size, n, i):
    return [np.random.default_rng([rank, n, i]).standard_normal(n) for rank in range(size)]


def check_that_a_sum_is_only_started(comm):
    """Rank 0 has started its part before the others begin theirs."""
    x = np.arange(3.0)
    comm.iallreduce(x).wait()  # the first makes a communicator, which takes all ranks
    if comm.rank:
        comm.recv(0)
    summing = comm.iallreduce(x)
    if comm.rank == 0:
        for rank in range(1, comm.size):
            comm.send(x, rank)
    assert (summing.wait() == comm.size * x).all()


def check_many_at_once(comm):
    """Of all lengths, eager and not, beside other calls, waited for in another order than they were started in."""
    lengths = [0, 1, 1000, 300_000, 5, 100_000, 300_000]
    mine = [parts(comm.size, n, i)[comm.rank] for i, n in enumerate(lengths)]
    sums = [comm.iallreduce(x) for x in mine]
    assert comm.allreduce(np.ones(2))[0] == comm.size
    for i in reversed(range(len(lengths))):
        wanted = tree_sum(parts(comm.size, lengths[i], i), np.empty(lengths[i]))
        assert sums[i].wait().tobytes() == wanted.tobytes() and not sums[i].wait().flags.writeable


def check_that_it_needs_nobody(comm):
    """The sum comes to its end on ranks that call no MPI meanwhile."""
    summing, end = comm.iallreduce(np.ones(200_000)), time.monotonic() + 30
    while not summing.test():
        assert time.monotonic() < end
        np.ones(1000).sum()
    assert summing.wait()[-1] == comm.size


def check_that_an_error_is_the_ranks(comm):
    from dsgd.mpi.background import Summing

    def fail():
        raise ZeroDivisionError
        yield

    summing = Summing(fail(), 0)
    comm._background.queue.put(summing)
    try:
        summing.wait()
    except ZeroDivisionError:
        return
    raise AssertionError("the error stayed in the thread")


def main():
    from mpi4py import MPI

    from dsgd.mpi.comm import MPIComm

    before, comm = threading.active_count(), MPIComm(MPI.COMM_WORLD.Dup())
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check(comm)
    comm.iallreduce(np.ones(300_000))  # free() waits for what nobody has waited for
    assert threading.active_count() == before + 1
    comm.free()
    assert threading.active_count() == before
    if MPI.COMM_WORLD.rank == 0:
        print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(guard(main))
