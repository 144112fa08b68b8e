"""Waiting without a core: for ranks that outnumber the cores of their host.

MPI waits by asking again and again, which takes the core of a rank that has something to do.  A rank that sleeps
between two questions leaves it to others, and answers later: a sleep of t takes t and some 60 µs (Linux wakes a thread
up to 50 µs late, its timer slack).  So the first 50 µs are spent asking: that is when most answers come.
"""

import os
import time

import numpy as np
from mpi4py import MPI

ASK, LONGEST = 50e-6, 1e-3  # seconds


def wait_until(done, end=float("inf")):
    """Ask done() until it holds, after 50 µs ever less often; returns whether that was before the time `end`."""
    began, pause = time.monotonic(), ASK
    while not (held := done()) and (now := time.monotonic()) < end:
        if now - began > ASK:
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)
    return held


def crowded(world):
    """Whether the ranks on this host outnumber the cores that they may use; all ranks of `world` call this."""
    host = world.Split_type(MPI.COMM_TYPE_SHARED)
    cores = np.zeros(os.sysconf("SC_NPROCESSORS_CONF"), np.uint8)
    cores[list(os.sched_getaffinity(0))] = 1
    host.Allreduce(MPI.IN_PLACE, cores, MPI.MAX)  # a launcher may bind each rank to cores of its own
    outnumbered = host.size > cores.sum()
    host.Free()
    return bool(outnumbered)
