"""One rank works while the others wait for it; prints what part of a core each of these took, {way: [part of each rank]}.

mpirun -n 4 python tests/waits.py crowded
"""

import json
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent)]

WORKS = 0.3  # seconds


def waits(comm, worker, call):
    """The part of a core that this rank takes during its call, which waits for `worker`; 0 on that rank."""
    comm.barrier()
    if comm.rank == worker:
        time.sleep(WORKS)
        call()
        return 0.0
    began, used = time.perf_counter(), time.process_time()
    call()
    return (time.process_time() - used) / (time.perf_counter() - began)


def main():
    import numpy as np
    from mpi4py import MPI

    from dsgd.mpi.comm import MPIComm

    comm = MPIComm(MPI.COMM_WORLD.Dup(), crowded="crowded" in sys.argv)
    short, long = np.ones(10), np.ones(300_000)
    comm.allreduce(short)  # the first one makes communicators for the others

    def receive():
        if comm.rank:
            return comm.recv(0)
        for rank in range(1, comm.size):
            comm.send(long, rank)

    def send():
        if comm.rank:
            return comm.send(long, 0)
        for _ in range(1, comm.size):
            comm.recv()

    ways = {"receive": (0, receive), "send": (0, send)}
    for worker in (0, comm.size - 2):
        ways[f"sum for {worker}"] = worker, lambda: comm.allreduce(short)
        ways[f"long sum for {worker}"] = worker, lambda: comm.allreduce(long)
    parts = {way: np.concatenate(comm.allgather(np.array([waits(comm, *how)]))) for way, how in ways.items()}
    if comm.rank == 0:
        print(json.dumps({way: part.tolist() for way, part in parts.items()}))
    comm.free()
    return 0


if __name__ == "__main__":
    from dsgd.mpi.launch import guard

    sys.exit(guard(main))
