"""Waiting without a core: for ranks that outnumber the cores of their host.

MPI waits by asking again and again, which takes the core of a rank that has something to do.  A rank that sleeps
between two questions leaves it to others, and answers later: the shortest sleep takes 60 to 90 µs (Linux wakes a thread
up to 50 µs late, its timer slack).  So the first 50 µs are spent asking, when most answers come, and up to 300 µs it
gives its core to whoever wants it after each question: two ranks that answer each other each wait for the other's
sleep, and neither would ever find its answer at once again.  A sleep is an eighth of the time waited so far: doubled
sleeps are as long as that, and of two such ranks each makes the other's longer, up to the limit.
"""

import os
import time

import numpy as np
from mpi4py import MPI

ASK, YIELD, LONGEST = 50e-6, 300e-6, 1e-3  # seconds


def wait_until(done, end=float("inf"), ask=ASK):
    """Ask done() until it holds, ever less often; returns whether that was before the time `end`.

    ask: seconds until the core is given away after each question
    """
    began = time.monotonic()
    while not (held := done()) and (now := time.monotonic()) < end:
        if now - began > YIELD:
            time.sleep(min((now - began) / 8, LONGEST))
        elif now - began > ask:
            os.sched_yield()
    return held


def crowded(world):
    """Whether on some host the ranks outnumber the cores that they may use; all ranks of `world` call this."""
    host = world.Split_type(MPI.COMM_TYPE_SHARED)
    cores = np.zeros(os.sysconf("SC_NPROCESSORS_CONF"), np.uint8)
    cores[list(os.sched_getaffinity(0))] = 1
    host.Allreduce(MPI.IN_PLACE, cores, MPI.MAX)  # a launcher may bind each rank to cores of its own
    outnumbered = np.array([host.size > cores.sum()], np.uint8)
    host.Free()
    world.Allreduce(MPI.IN_PLACE, outnumbered, MPI.MAX)
    return bool(outnumbered[0])
