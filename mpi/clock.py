"""One clock for all ranks: how far each rank's is ahead of rank 0's, from a few messages there and back."""

import numpy as np
from mpi4py import MPI

ROUNDS = 10
TAG = 1


def common_clock(comm):
    """(clock, error): clock() is rank 0's MPI.Wtime() on every rank, to about `error` s.  Every rank calls this.

    Of ROUNDS round trips the shortest counts: the answer is taken to be of its middle, which is wrong by half of it at
    most.  A clock that differs by less than that is left as it is: the ranks of one machine share theirs.
    """
    mine = np.zeros(2)  # offset, error
    for rank in range(1, comm.size):
        if comm.rank == 0:
            trips = [_ask(comm, rank) for _ in range(ROUNDS)]
            length, offset = min(trips)
            comm.send(np.array([offset if abs(offset) > length / 2 else 0.0, length / 2]), rank, TAG)
        elif comm.rank == rank:
            for _ in range(ROUNDS):
                comm.recv(0, TAG)
                comm.send(np.array([MPI.Wtime()]), 0, TAG)
            mine = np.array(comm.recv(0, TAG).data)
    offset, _ = mine.tolist()
    error = max(float(part[1]) for part in comm.allgather(mine))
    return lambda: MPI.Wtime() - offset, error


def _ask(comm, rank):
    """(length of the round trip, how far the rank's clock is ahead), s"""
    sent = MPI.Wtime()
    comm.send(np.zeros(1), rank, TAG)
    theirs = float(comm.recv(rank, TAG).data[0])
    back = MPI.Wtime()
    return back - sent, theirs - (sent + back) / 2
