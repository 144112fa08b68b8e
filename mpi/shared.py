"""The communicator of ranks that share memory, host by host: a packet's sum passes through a window (see window.py).

    reduce_scatter   barrier; each rank adds its slice of all packets, where they lie; barrier: the packets are free again
    allgather        publish the own slice on the board; barrier; copy the others' from it.  Of a vector that lies in shared
                     memory once for all: barrier
    allreduce        barrier; each rank adds a slice of all packets, onto the board; barrier; copy the sum

On several hosts, the ranks with one place on their hosts own slices together: each adds, for all of them, what its host
has, they exchange these partial sums, and each adds its own.  A host's ranks are a node of the tree, so every sum is in
the written order.  What is no packet, or lies elsewhere, takes MPIComm's way.
"""

from dsgd.arrays import readonly
from dsgd.collectives import tree_sum
from dsgd.mpi.comm import MPIComm
from dsgd.mpi.window import agreed

APART = 32  # elements, a cache line or more: two ranks do not write one of the board


class SharedComm(MPIComm):
    """An MPIComm whose ranks were given a window; those that are split off it have none."""

    window = None

    def share(self, window):
        """Hand the window of this rank's host over; every rank calls this."""
        self.window, self._across = window, None
        if window.size < self.size:
            self._like = self._world.Split(window.rank, self.rank)  # the ranks with this place on their hosts
            self._across = MPIComm(self._like, None, self.dtype, crowded=self.crowded)
        self._host = self.rank // window.size
        self._kept = {"packet": window.own[window.rank], "replica": window.replica}
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
        total = self._pool.take(counts[self.rank], x.dtype)
        self._add(self._places(counts), total)
        self.window.barrier()
        return readonly(total)

    def _allreduce(self, x):
        if not self._all_come_with("packet", x):
            return super()._allreduce(x)
        n, board, out = len(x), self.window.turn_board(), self._pool.take(len(x), x.dtype)
        ends = [n * i // self.size // APART * APART for i in range(self.size)] + [n]
        places = self._places([hi - lo for lo, hi in zip(ends, ends[1:])])
        self._add(places, board[places[self._host]])
        self._publish(board, places)
        self.window.barrier()
        out[:] = board
        return readonly(out)

    def _allgather_in_place(self, x, counts):
        if self._all_come_with("replica", x):
            if self._across:
                self._publish(x, self._places(counts))
                self.window.barrier()
            return
        if self.window is None or self.window.replica is not None or len(x) > self.window.n or x.dtype != self.dtype:
            return super()._allgather_in_place(x, counts)
        board, places = self.window.turn_board(), self._places(counts)
        mine = places[self._host]
        board[mine] = x[mine]
        self._publish(board, places)
        self.window.barrier()
        x[: mine.start], x[mine.stop :] = board[: mine.start], board[mine.stop : len(x)]

    def _all_come_with(self, name, x):
        """Whether on every rank x is the memory that was handed out by this name; where it may be, a barrier asks all."""
        if self.window is None or self._kept[name] is None or x.shape != (self.window.n,) or x.dtype != self.dtype:
            return False
        self.window.barrier(note=x is self._kept[name])
        here = all(self.window.notes())
        return agreed(self._like, here) if self._across else here

    def _places(self, counts):
        """Which slices of x belong to the ranks with this rank's place on their hosts, host by host."""
        ranks = range(self.window.rank, self.size, self.window.size)
        starts = [sum(counts[:rank]) for rank in ranks]
        return [slice(start, start + counts[rank]) for start, rank in zip(starts, ranks)]

    def _add(self, places, total):
        """total ← the own slice of Σ packets, in the written order: over the ranks of a host, then over the hosts."""
        sums = [
            total if i == self._host else self._pool.take(p.stop - p.start, total.dtype) for i, p in enumerate(places)
        ]
        for place, out in zip(places, sums):
            tree_sum([packet[place] for packet in self.window.own], out)
        if self._across:
            tree_sum(self._across.alltoall(sums), total)

    def _publish(self, vector, places):
        """Put the slices that the others with this rank's place own into the host's vector, in which its own is already."""
        if self._across:
            for place, values in zip(places, self._across.allgather(vector[places[self._host]])):
                vector[place] = values

    def free(self):
        super().free()
        if self.window is not None:
            if self._across:
                self._across.free()
            self.window.free()
            self.window = None
