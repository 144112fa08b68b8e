"""Memory that the ranks of a host share, of which each sees every byte, and a barrier in it.

    own[r]      (n,)   a packet of rank r, which computes its gradient into it
    board[i]    (n,)   what the ranks hand to one another; two, taken in turns, where the parameters are each rank's own
    replica     (n,)   what all ranks hold alike; None where each has its own, because it fits a core's cache
    lines[r]           a cache line of rank r: how many barriers it has come to, and its notes at the last two of them

A rank comes to a barrier when it counts one up in its line, and leaves it when all lines have come as far.  One store and
one load a rank, no system call where all come together: 0.4 µs on two idle cores, where MPI's own barrier takes 3.5.
"""

import os
import time
from contextlib import suppress

import numpy as np
from mpi4py import MPI

from dsgd.command import say
from dsgd.mpi.segments import FOLDER, free_bytes
from dsgd.mpi.waiting import ASK, wait_until

PRIVATE = 1 << 20  # bytes: a vector up to this size fits a core's L2, and is quicker in each rank's own memory
LINE = 128  # bytes: two cache lines, which some processors fetch together
PAGE = 4096  # bytes
COME, NOTES = 0, 1  # the integers in a line: a count, and two notes in turns, as others may still read the last one


class Window:
    """See above.

    Args:
        host: an mpi4py communicator of the ranks of one host, of this object's own; all of them call this.
        n: elements of a packet.  crowded: whether the ranks outnumber the cores.
    """

    def __init__(self, host, n, dtype, crowded):
        self._host, self.rank, self.size, self.crowded = host, host.rank, host.size, crowded
        self.n, self.dtype = n, np.dtype(dtype)
        self._memory = MPI.Win.Allocate_shared(0 if self.rank else room(self.size, n, self.dtype), 1, comm=host)
        self._memory.Lock_all(MPI.MODE_NOCHECK)  # Sync() wants an epoch
        whole = np.frombuffer(self._memory.Shared_query(0)[0], np.uint8)
        head, step = padded(LINE * self.size), padded(n * self.dtype.itemsize)
        pieces = [whole[lo : lo + n * self.dtype.itemsize].view(self.dtype) for lo in range(head, len(whole), step)]
        self.own, self.board, self.replica = pieces[: self.size], pieces[self.size :], None
        if n * self.dtype.itemsize > PRIVATE:
            self.replica = self.board.pop()
        self._lines = memoryview(whole[:head]).cast("q")
        self._line, self._lines_of = LINE // 8 * self.rank, range(0, LINE // 8 * self.size, LINE // 8)
        self._turn, self._uses = 0, 0
        self._lines[self._line] = 0
        host.Barrier()

    def barrier(self, note=0):
        """Wait for all ranks of the host.   note: an integer for the others, see `notes`"""
        self._turn += 1
        self._lines[self._line + NOTES + self._turn % 2] = note
        # What this rank has written must be seen before its count, and what the others wrote after theirs.  x86 keeps both
        # orders by itself and CPython, which compiles nothing, leaves them; elsewhere Sync() is the fence (0.1 µs).
        self._memory.Sync()
        self._lines[self._line + COME] = self._turn
        if not self._all_here():
            self._wait()
        self._memory.Sync()

    def _all_here(self):
        lines, turn = self._lines, self._turn
        return all([lines[line] >= turn for line in self._lines_of])

    def _wait(self):
        """Ask for a while; then whoever wants the core may have it, and the watchdog's thread the interpreter."""
        if self.crowded:  # at once: a rank that has not come may need this core to come
            return wait_until(self._all_here, ask=0.0)
        end = time.monotonic() + ASK
        while not self._all_here():
            if time.monotonic() > end:
                os.sched_yield()

    def notes(self):
        """[what each rank of the host noted in the last barrier]"""
        return [self._lines[line + NOTES + self._turn % 2] for line in self._lines_of]

    def turn_board(self):
        """The next board (n,): once all have come to a barrier, all have read the one before."""
        self._uses += 1
        return self.board[self._uses % len(self.board)]

    def free(self):
        """Give the memory back; all ranks of the host call this, and look at none of it any more."""
        self.own = self.board = self.replica = None
        self._lines.release()
        self._memory.Unlock_all()
        self._memory.Free()
        self._host.Free()


def padded(nbytes):
    """To whole pages, so that a rank's memory is near the core that writes it first."""
    return -(-nbytes // PAGE) * PAGE


def room(ranks, n, dtype):
    """Bytes of a window."""
    return padded(LINE * ranks) + (ranks + 2) * padded(n * dtype.itemsize)


def open_window(world, n, dtype, crowded):
    """The Window of this rank's host, or None on every rank: where it does not fit, which rank 0 tells; all ranks call this."""
    host, window = hosts(world), None
    if not fits(world, host):
        return host.Free()
    wanted, free = room(host.size, n, np.dtype(dtype)), least(world, free_bytes())
    if wanted > free:
        why = f"no room for the ranks' shared memory ({wanted} bytes, {free:.0f} free in {FOLDER})"
        mend = "; give the machine or container more (docker run --shm-size, mount -o size=)"
    else:
        why, mend = f"MPI gives the ranks no shared memory ({wanted} bytes)", ""
        with suppress(MPI.Exception):
            window = Window(host, n, dtype, crowded)
        if agreed(world, window is not None):
            return window
    if world.rank == 0:
        say(f"{why}: sums go by messages, which takes longer and changes nothing else{mend}")
    if window:  # another host has none: on one host all ranks have it, or nobody
        return window.free()
    return host.Free()


def hosts(world):
    """The ranks that share memory with this one, as an mpi4py communicator; all ranks call this."""
    return world.Split_type(MPI.COMM_TYPE_SHARED)


def fits(world, host):
    """Whether the ranks of each host are a node of the tree over all ranks, the nodes of one size; all ranks call this."""
    ranks, sizes = np.empty(host.size, np.int64), np.empty(world.size, np.int64)
    host.Allgather(np.array([world.rank], np.int64), ranks)
    world.Allgather(np.array([host.size], np.int64), sizes)
    in_order = (ranks == ranks[0] + np.arange(host.size)).all() and ranks[0] % host.size == 0
    even = (sizes == host.size).all() and (host.size == world.size or host.size.bit_count() == 1)
    return agreed(world, in_order and even and host.size > 1)


def agreed(world, fact):
    """Whether it is so on every rank; all of them call this."""
    return least(world, fact) > 0


def least(world, number):
    """The least of the ranks' numbers; all of them call this."""
    numbers = np.array([number], np.float64)
    world.Allreduce(MPI.IN_PLACE, numbers, MPI.MIN)
    return numbers[0]
