"""Four ranks on two cores, three of them waiting: the speed of the one that works, and a message's round trip.

    mpirun -n 4 python -m benchmarks.waiting      the ranks, which `python -m benchmarks waiting` starts

What is waited for: a message (recv), the tree's sum (allreduce).  How: as MPI waits (block), or as mpi/waiting.py does
(sleep).  The speed is that of a rank with three that wait, as a part of that with three that are asleep for good; all
ways take turns, so that noise meets all alike.
"""

import json
import os
import time

ROUNDS, TRIPS, CORES = 9, 200, 2
BARS = {"speed": 0.95, "round trip": 300}  # of the speed alone; µs


def work():
    """Some 150 ms of a training step's kinds of work: short NumPy calls and Python."""
    x = np.ones(20000)
    for _ in range(40):
        for _ in range(60):
            x += 1.0
        sum(range(60000))


def rest(comm, world):
    """Wait for rank 0's word without disturbing anybody: the neighbours of a rank that works alone."""
    while not world.Iprobe(0):
        time.sleep(0.02)
    comm.recv(0)


def wait(comm, world, what):
    if what == "alone":
        rest(comm, world)
    elif what == "recv":
        comm.recv(0)
    else:
        comm.allreduce(np.ones(1000))


def release(comm, what):
    """Rank 0 has worked: the others need wait no longer."""
    if what == "allreduce":
        comm.allreduce(np.ones(1000))
    else:
        for rank in range(1, comm.size):
            comm.send(np.ones(1), rank)


def round_trip(comm):
    """Seconds of a message from rank 0 to rank 1 and back, while the others wait; None elsewhere."""
    if comm.rank > 1:
        comm.recv(0)
        return None
    times = []
    for _ in range(TRIPS):
        began = time.perf_counter()
        if comm.rank == 0:
            comm.send(np.ones(1), 1)
            comm.recv(1)
        else:
            comm.recv(0)
            comm.send(np.ones(1), 0)
        times.append(time.perf_counter() - began)
    if comm.rank == 0:
        for rank in range(2, comm.size):
            comm.send(np.ones(1), rank)
    return statistics.median(times)


def measure():
    """One rank's part; rank 0 prints {way: seconds} as JSON."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    world = MPI.COMM_WORLD
    comms = {way: MPIComm(world.Dup(), crowded=way == "sleep") for way in ("block", "sleep")}
    ways = [("sleep", "alone")] + [(way, what) for way in comms for what in ("recv", "allreduce")]
    seconds = {f"{way} {what}": [] for way, what in ways} | {f"{way} round trip": [] for way in comms}
    for _ in range(ROUNDS):
        for way, what in ways:
            comm = comms[way]
            world.Barrier()
            if comm.rank:
                wait(comm, comm._world, what)
                continue
            time.sleep(0.01)  # until all of them wait
            began = time.perf_counter()
            work()
            seconds[f"{way} {what}"].append(time.perf_counter() - began)
            release(comm, what)
        for way, comm in comms.items():
            world.Barrier()
            seconds[f"{way} round trip"].append(round_trip(comm))
    if world.rank == 0:
        print(json.dumps({name: statistics.median(times) for name, times in seconds.items()}))


def main():
    from benchmarks.launching import told
    from benchmarks.measure import Figure

    seconds = told("benchmarks.waiting", ranks=4)
    for way, name in (("block", "as MPI waits"), ("sleep", "as our ranks wait")):
        bars = BARS if way == "sleep" else {}
        for what in ("recv", "allreduce"):
            speed = seconds["sleep alone"] / seconds[f"{way} {what}"]
            yield Figure(f"speed of a rank while three wait, {name}", what, speed, least=bars.get("speed"))
        trip = 1e6 * seconds[f"{way} round trip"]
        yield Figure(f"a round trip while two wait, {name}", "", trip, "µs", most=bars.get("round trip"))


if __name__ == "__main__":
    from mpi4py import MPI  # before NumPy

    import statistics

    import numpy as np

    from dsgd.mpi.comm import MPIComm

    measure()
