"""The communicator of ranks on one host: a packet's sum passes through memory that they share (see window.py).

    reduce_scatter   barrier; each rank adds its slice of all packets, where they lie; barrier: the packets are free again
    allgather        publish the own slice on the board; barrier; copy the others' from it.  Of a vector that lies in shared
                     memory once for all: barrier
    allreduce        barrier; each rank adds a slice of all packets, onto the board; barrier; copy the sum

Every sum is in the written order, as it is without a window.  What is no packet, or lies elsewhere, takes MPIComm's way.
"""

from dsgd.arrays import readonly
from dsgd.collectives import tree_sum
from dsgd.mpi.comm import MPIComm

LINE = 32  # elements: two ranks do not write one cache line of the board


class SharedComm(MPIComm):
    """An MPIComm whose ranks were given a window; those that are split off it have none."""

    window = None

    def share(self, window):
        """Hand the window over; every rank calls this."""
        self.window = window
        self._kept = {"packet": window.own[self.rank], "replica": window.replica}
        self._left = dict(self._kept)

    def empty(self, n):
        return self._hand_out("packet", n, super().empty)

    def replica(self, n):
        return self._hand_out("replica", n, super().replica)

    def _hand_out(self, name, n, otherwise):
        """Memory of the window for the first who asks for as many elements as a packet has."""
        if self.window is None or n != self.window.n or self._left[name] is None:
            return otherwise(n)
        memory, self._left[name] = self._left[name], None
        return memory

    def _reduce_scatter(self, x, counts):
        if not self._all_come_with("packet", x):
            return super()._reduce_scatter(x, counts)
        lo = sum(counts[: self.rank])
        out = self._pool.take(counts[self.rank], x.dtype)
        self._add(lo, lo + counts[self.rank], out)
        self.window.barrier()
        return readonly(out)

    def _allreduce(self, x):
        if not self._all_come_with("packet", x):
            return super()._allreduce(x)
        n, board, out = len(x), self.window.turn_board(), self._pool.take(len(x), x.dtype)
        lo, hi = (n * i // self.size // LINE * LINE if i < self.size else n for i in (self.rank, self.rank + 1))
        self._add(lo, hi, board[lo:hi])
        self.window.barrier()
        out[:] = board
        return readonly(out)

    def _allgather_in_place(self, x, counts):
        if self._all_come_with("replica", x):
            return
        if (
            self.window is None
            or self.window.replica is not None
            or not len(x) <= self.window.n
            or x.dtype != self.dtype
        ):
            return super()._allgather_in_place(x, counts)
        board, lo = self.window.turn_board(), sum(counts[: self.rank])
        hi = lo + counts[self.rank]
        board[lo:hi] = x[lo:hi]
        self.window.barrier()
        x[:lo], x[hi:] = board[:lo], board[hi : len(x)]

    def _all_come_with(self, name, x):
        """Whether on every rank x is the memory that was handed out by this name; if all may have it, a barrier asks them."""
        if self.window is None or self._kept[name] is None or x.shape != (self.window.n,) or x.dtype != self.dtype:
            return False
        self.window.barrier(note=x is self._kept[name])
        return all(self.window.notes())

    def _add(self, lo, hi, out):
        tree_sum([packet[lo:hi] for packet in self.window.own], out)

    def free(self):
        super().free()
        if self.window is not None:
            self.window.free()
            self.window = None
