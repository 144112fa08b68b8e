"""Ranks that are slow on purpose: the faults `slow` and `delay` (see faults.py)."""

import time

from dsgd.comm import Header
from dsgd.mpi.comm import MPIComm


class LateComm(MPIComm):
    """An MPIComm whose rank computes `slowness` times as long, and sends everything `lateness` seconds later.

    The rank sleeps meanwhile, as one would that waits for its network card.
    """

    slowness, lateness = 1.0, 0.0  # set by the backend, for this rank's communicator and all that are made of it

    def compute(self, work, step, flops, unless=None, part=1):
        began = time.perf_counter()
        result = super().compute(work, step, flops)
        time.sleep((self.slowness - 1) * (time.perf_counter() - began))
        return result

    def isend(self, x, dest, tag=0, header=Header()):
        time.sleep(self.lateness)
        return super().isend(x, dest, tag, header)

    def _count(self, kind, arrays, root=0, kept=0):
        super()._count(kind, arrays, root, kept)
        time.sleep(self.lateness)  # its part in a collective of the library
