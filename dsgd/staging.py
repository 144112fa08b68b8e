"""Messages of arrays on a device: copied to the host, sent by the communicator that is there, and copied back.

Neither a simulated rank nor an MPI that knows nothing of cards may see device memory.  Every copy to the host waits until
all that computes the array is done, so nobody reads a buffer that is still being written.
"""

import numpy as np

from dsgd.arrays import on_host, pinned, to_host
from dsgd.comm import ANY_SOURCE, ANY_TAG, Header, own_slice


class Staged:
    """See dsgd.comm.Comm.  What an algorithm sends from the device it gets back there; a host array's answer is on the host.

    A message of the run's dtype comes to the device, as parameters and gradients do; others, numbers of steps, stay.

    Args:
        inner: the communicator, of any backend.  xp: the module of the device's arrays.
    """

    def __init__(self, inner, xp):
        self.inner, self._xp = inner, xp
        self._kept = {}  # (n, dtype) -> pinned memory for a call that blocks

    def __getattr__(self, name):
        """Rank, size, workers, clock, … are the inner one's."""
        return getattr(self.inner, name)

    # --- up and down

    def _down(self, x):
        """x on the host, until the next call."""
        if on_host(x):
            return x
        key = x.shape[0], x.dtype
        if key not in self._kept:
            self._kept[key] = pinned(self._xp, *key)
        return to_host(x, out=self._kept[key])

    def _up(self, x, like):
        """A result on the device, if `like` lies there."""
        return x if x is None or on_host(like) else self._xp.asarray(x)

    def _received(self, message):
        on_card = message is not None and message.data.dtype == self.inner.dtype
        return message._replace(data=self._xp.asarray(message.data)) if on_card else message

    # --- memory and time

    def empty(self, n):
        return self._xp.empty(n, dtype=self.inner.dtype)

    replica = empty  # each rank has its own

    def copy(self, x):
        return x.copy() if not on_host(x) else self.inner.copy(x)

    def compute(self, work, step, flops, unless=None, part=1):
        return self.inner.compute(work, step, flops, unless and unless.request, part)

    # --- point to point

    def send(self, x, dest, tag=0, header=Header()):
        self.inner.send(self._down(x), dest, tag, header)

    def isend(self, x, dest, tag=0, header=Header()):
        return Pending(self.inner.isend(to_host(x), dest, tag, header))

    def recv(self, source=ANY_SOURCE, tag=ANY_TAG, timeout=None):
        return self._received(self.inner.recv(source, tag, timeout))

    def irecv(self, source=ANY_SOURCE, tag=ANY_TAG):
        return Pending(self.inner.irecv(source, tag), self._received)

    def wait_any(self, requests):
        i, result = self.inner.wait_any([pending.request for pending in requests])
        return i, requests[i].finish(result)

    # --- collectives

    def bcast(self, x, root=0):
        return self._up(self.inner.bcast(self._down(x), root), x)

    def reduce(self, x, root=0):
        return self._up(self.inner.reduce(self._down(x), root), x)

    def allreduce(self, x):
        return self._up(self.inner.allreduce(self._down(x)), x)

    def iallreduce(self, x):
        return Pending(self.inner.iallreduce(to_host(x)), lambda total: self._up(total, x))

    def reduce_scatter(self, x, counts):
        return self._up(self.inner.reduce_scatter(self._down(x), counts), x)

    def gather(self, x, root=0):
        parts = self.inner.gather(self._down(x), root)
        return parts and [self._up(part, x) for part in parts]

    def allgather(self, x):
        return [self._up(part, x) for part in self.inner.allgather(self._down(x))]

    def allgather_in_place(self, x, counts):
        if on_host(x):
            return self.inner.allgather_in_place(x, counts)
        whole, own = np.empty(x.shape[0], x.dtype), own_slice(x, counts, self.inner.rank)
        own_slice(whole, counts, self.inner.rank)[:] = to_host(own)
        self.inner.allgather_in_place(whole, counts)
        x[:] = self._xp.asarray(whole)

    def scatter(self, parts, root=0):
        on_card = parts is not None and not on_host(parts[root])
        part = self.inner.scatter(parts and [to_host(part) for part in parts], root)
        return self._xp.asarray(part) if on_card or part.dtype == self.inner.dtype else part

    def alltoall(self, parts):
        return [self._up(part, parts[0]) for part in self.inner.alltoall([to_host(part) for part in parts])]

    # --- communicators of some ranks

    def split(self, color, key=0):
        return Staged(self.inner.split(color, key), self._xp)

    def without(self, ranks):
        return Staged(self.inner.without(ranks), self._xp) if ranks else self


class Pending:
    """A request under way.   finish: what becomes of its result"""

    def __init__(self, request, finish=lambda result: result):
        self.request, self.finish = request, finish

    def wait(self):
        return self.finish(self.request.wait())
