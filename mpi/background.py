"""All-reduces behind a rank's back: a thread moves them on while the rank computes.

MPI makes progress only while somebody calls it, and a matrix product calls nobody.  The thread has a communicator of its
own, and sleeps between two questions (see waiting.py), since the core it would ask on is the one that computes; the
kernel's socket buffers carry on meanwhile.  NumPy's products release the interpreter's lock, so the thread gets it.
All that were started are under way together: one goes up the tree while another comes down, and a link has two lanes.
"""

import threading
from queue import SimpleQueue

import numpy as np
from mpi4py import MPI

from dsgd.arrays import readonly
from dsgd.collectives import tree_steps
from dsgd.mpi.activity import noting
from dsgd.mpi.waiting import wait_until
from dsgd.mpi.wire import TAGS
from dsgd.pool import Pool


class Background:
    """The thread of one communicator.

    Args:
        world: an mpi4py communicator of its own.  place: see dsgd.comm.Comm.
    """

    def __init__(self, world, place):
        self.world, self.place = world, place
        self.steps = tree_steps(world.rank, world.size)
        self.pool, self.queue = Pool(np.empty), SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def start(self, x, number):
        """The request of an all-reduce of x (n,).   number: of the collective"""
        summing = Summing(self._up_and_down(x, number % TAGS), number)
        self.queue.put(summing)
        return summing

    def free(self):
        """End the thread, once all that was started is over, and give its communicator back; every rank calls this."""
        self.queue.put(None)
        self.thread.join()
        self.world.Free()

    # --- in the thread

    def _work(self):
        under_way, more = [], True
        while under_way or more:
            if not under_way or not self.queue.empty():
                new = self.queue.get()
                under_way, more = (under_way + [new], True) if new else (under_way, False)
            wait_until(lambda: any([s.advance() for s in under_way]) or not under_way or not self.queue.empty())
            under_way = [summing for summing in under_way if not summing.test()]

    def _up_and_down(self, x, tag):
        """Yields the MPI requests of one all-reduce, each when the last is done: the additions of MPIComm.allreduce."""
        out, total = self.pool.take(x.shape[0], x.dtype), x
        for act, peer in self.steps:
            if act == "send":
                yield self.world.Isend(total, self.place[peer], tag)
            else:
                other = self.pool.take(x.shape[0], x.dtype)
                yield self.world.Irecv(other, self.place[peer], tag)
                total = np.add(total, other, out=out)
        for act, peer in reversed(self.steps):  # where the sum went to, it comes from
            if act == "send":
                yield self.world.Irecv(out, self.place[peer], tag)
            else:
                yield self.world.Isend(out, self.place[peer], tag)
        return readonly(out)


class Summing:
    """An all-reduce under way.

    Attributes:
        result: the sum, read-only, once it is over.  error: what was raised in the thread instead, for the rank.
    """

    def __init__(self, steps, number):
        self.number, self.result, self.error = number, None, None
        self._steps, self._pending, self._over = steps, MPI.REQUEST_NULL, threading.Event()

    def advance(self):
        """In the thread: as far as it goes without waiting; returns whether that is any further."""
        moved = False
        try:
            while self._pending.Test():
                moved, self._pending = True, next(self._steps)
            return moved
        except StopIteration as end:
            self.result = end.value
        except Exception as error:
            self.error = error
        self._over.set()
        return True

    def test(self):
        return self._over.is_set()

    def wait(self):
        with noting("iallreduce", self.number):
            self._over.wait()
        if self.error:
            raise self.error
        return self.result
