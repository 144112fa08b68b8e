"""Giving up on silent workers, so that one that was killed or stopped does not hold up the others.

    now − (when worker i was given its parameters) ≥ patience   →   worker i is given up, if nothing of it has come

The worker that has been silent for longest is the first to be given up.  Before it is, what it has sent and the server
has not looked at yet counts: a server may have been busy for longer than that itself.

Reference: Li et al. 2014 (OSDI), section 4.4, an algorithm may go on without a worker that has failed.
Exact when: nobody is silent for so long: then nothing differs from a run without patience.
"""

from dsgd.comm import ANY_SOURCE
from dsgd.errors import PeerError


class Patience:
    """The clock of one server.

    Args:
        seconds: None to wait for ever.

    Attributes:
        ends: {worker: when it is given up}, of those that compute; the first of them has begun first.
    """

    def __init__(self, comm, seconds):
        self.comm, self.seconds, self.ends = comm, seconds, {}

    def begin(self, worker):
        """The worker computes; if it did before and was silent, then since that time."""
        if self.seconds:
            self.ends.setdefault(worker, self.comm.clock() + self.seconds)

    def end(self, worker):
        """The worker asks for parameters."""
        self.ends.pop(worker, None)

    def message(self):
        """(the next message, None), or (None, the worker that has been silent for too long)"""
        if not self.ends:
            return self.comm.recv(), None
        worker, end = next(iter(self.ends.items()))
        left = end - self.comm.clock()
        for source, seconds in ((ANY_SOURCE, left), (self.comm.workers[worker], 0)):
            try:
                if seconds >= 0:
                    return self.comm.recv(source, timeout=seconds), None
            except PeerError:
                pass
        self.end(worker)
        return None, worker
