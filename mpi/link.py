"""What the processes that share out a simulated world hand to each other: see simulator/processes.py."""

import json
from sys import byteorder

import numpy as np

from dsgd.mpi.activity import ACTIVITY, noting
from dsgd.mpi.waiting import wait_until

ALIGNED = 64  # bytes: where arrays begin
PADDING = np.zeros(ALIGNED, np.uint8)


class Link:
    """From this process to all others.

    Args:
        world: an mpi4py communicator of its own.  crowded: whether processes outnumber cores.
    """

    def __init__(self, world, crowded):
        self._world, self._crowded = world, crowded
        self.process, self.processes = world.rank, world.size
        self._round = 0

    def exchange(self, next, outbox):
        """(earliest, inbox): the least `next` of the processes, and what they had for this one; None if nobody had anything.

        next: (time, phase).
        outbox: [(process, facts, arrays (n,))].  inbox: the same, with the process that it is from.
        """
        self._round += 1
        with noting("exchange", self._round):
            return self._exchange(next, outbox)

    def _exchange(self, next, outbox):
        letters = [pack([item[1:] for item in outbox if item[0] == to]) for to in range(self.processes)]
        mine = np.array([*next, *(sum(map(len, pieces)) for pieces in letters)], np.float64)
        all_ = np.empty((self.processes, len(mine)))
        self._wait(self._world.Iallgather(mine, all_))
        time, phase = min(map(tuple, all_[:, :2].tolist()))
        earliest, sizes = (time, int(phase)), all_[:, 2:].astype(int)
        if not sizes.any():
            return earliest, None
        coming = sizes[:, self.process]
        out = np.concatenate([piece for pieces in letters for piece in pieces])
        into = np.empty(coming.sum(), np.uint8)
        self._wait(self._world.Ialltoallv([out, sizes[self.process].tolist()], [into, coming.tolist()]))
        into.setflags(False)
        ends = np.cumsum(coming)
        inbox = [unpack(into[end - n : end]) for end, n in zip(ends, coming)]
        return earliest, [(source, *item) for source, items in enumerate(inbox) for item in items]

    def _wait(self, request):
        if self._crowded:
            wait_until(request.Test)
        request.Wait()

    def free(self):
        """The ranks of all processes are done with each other; every process calls this."""
        self._world.Free()
        ACTIVITY.over = True


def pack(items):
    """[(facts, arrays)] as pieces of bytes, to be put together: the length of a JSON text, the text, the arrays in turn."""
    if not items:
        return [PADDING[:0]]
    arrays = [x for _, arrays in items for x in arrays]
    forms = [[facts, [[len(x), x.dtype.str] for x in arrays]] for facts, arrays in items]
    text = json.dumps(forms).encode()
    head = np.frombuffer(len(text).to_bytes(8, byteorder) + text, np.uint8)
    return [piece for x in (head, *arrays) for piece in (x.view(np.uint8), PADDING[: -x.nbytes % ALIGNED])]


def unpack(letter):
    """[(facts, arrays)], the arrays read-only."""
    if not len(letter):
        return []
    length = int(letter[:8].view(np.int64)[0])
    begin, items = _aligned(8 + length), []
    for facts, forms in json.loads(letter[8 : 8 + length].tobytes()):
        arrays = []
        for n, dtype in forms:
            end = begin + n * np.dtype(dtype).itemsize
            arrays.append(letter[begin:end].view(dtype))
            begin = _aligned(end)
        items.append((facts, arrays))
    return items


def _aligned(n):
    return -(-n // ALIGNED) * ALIGNED
