"""What a run knows at a step, and the four numbers that travel with every gradient.

A packet is one buffer: four agreed numbers, then a vector.  Summed over the workers, one message carries the gradient
and everything that all ranks must agree on.
"""

from collections import deque

from dsgd.arrays import namespace
from dsgd.errors import NonFiniteGradient

# samples seen, Σ loss over them, workers whose gradient or loss is not finite, wishes to stop
SAMPLES, LOSS, BAD, STOP = range(4)
HEAD = 4


class State:
    """All that a resumed run needs; an algorithm keeps nothing else from one step to the next.

    Attributes:
        x: the parameters this rank holds, (n,) or its own range of them; at the start the part of `packet` behind its head.
        t: steps done.
        start: all of x (n,), from which the run starts or goes on; of ranks that hold a range and work on all of it.
        own: {name: array}, what only this rank has (a residual, a version, parameters that differ between ranks).
        lost: ranks that were given up, and take part in nothing any more; the others learn it when they stand still.
        heads: the agreed numbers of the steps that the observer has not read yet.
    """

    def __init__(self, x, start=None):
        self.packet = namespace(x).empty(HEAD + len(x), dtype=x.dtype)
        self.packet[:HEAD] = 0
        self.x = self.packet[HEAD:]
        self.x[:] = x
        self.t, self.start = 0, start
        self.own = {}
        self.lost = ()
        self.heads = deque()

    def agree(self, packet):
        """Read the four numbers of a summed packet (4 + n,) and return the vector behind them.

        Raises:
            NonFiniteGradient: on every rank alike, if some worker's gradient was not finite.
        """
        head = packet[:HEAD].tolist()
        if head[BAD]:
            raise NonFiniteGradient(f"step {self.t + 1}: a gradient is not finite")
        self.heads.append(head)
        return packet[HEAD:]

    @property
    def stop(self):
        """Whether some rank wished to stop in a step that the observer has not read yet."""
        return any(head[STOP] for head in self.heads)


ALONE = "alone"  # what an asynchronous rank yields; a bare `yield` says that all ranks stand still at this t
