"""Buffers for results, used again when nobody holds them any more."""

import sys

import numpy as np

KEEP = 16  # buffers of one size; more of them at once are allocated and let go
SMALL = 4096  # bytes; below it a fresh array costs less than looking for a used one


class Pool:
    """`take` hands out a buffer that no array in the program looks at: a view keeps its buffer's reference count up.

    So a result stays valid for as long as somebody keeps it, and a loop that keeps none allocates nothing.
    """

    def __init__(self, empty):
        self._empty = empty  # (n, dtype) -> array
        self._buffers = {}

    def take(self, n, dtype):
        """(n,) array, its values undefined."""
        buffers = self._buffers.setdefault((n, dtype), [])
        for i in range(len(buffers)):
            if sys.getrefcount(buffers[i]) <= 2:  # the list's reference and getrefcount's own
                buffers[i].setflags(True)
                return buffers[i]
        buffer = self._empty(n, dtype)
        if len(buffers) < KEEP:
            buffers.append(buffer)
        return buffer

    def copy(self, x):
        """A read-only copy of x (n,); nobody can write to it, as its buffer refuses that until it is taken again."""
        if x.nbytes < SMALL:
            fresh = x.copy()
            fresh.setflags(False)
            return fresh
        buffer = self.take(x.shape[0], x.dtype)
        buffer[:] = x
        buffer.setflags(False)
        return buffer.view()

    def share(self, x):
        """x (n,) itself if it is a view of a buffer that nobody can write to, else a copy as above."""
        buffer = x.base
        if buffer is None or x.flags.writeable or not isinstance(buffer, np.ndarray) or buffer.flags.writeable:
            return self.copy(x)
        return x
