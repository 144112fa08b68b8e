"""What a fault that happens in one step does to one rank.  Which there are, and how they are written: faults.py.

The other kinds are about time and messages: the simulator's network and the MPI communicator have them.
"""

import os
import signal

import numpy as np

from dsgd.errors import PeerError
from dsgd.faults import ONCE


class Killed(Exception):
    """This simulated rank was killed, and the run goes on without it."""


class Strikes:
    """The faults of one rank that strike once.

    Args:
        faults: faults.Faults.  virtual: whether the rank is simulated, so that only the run can be ended, not a process.
        spare: whether the run goes on without it.
    """

    def __init__(self, faults, rank, virtual, spare=False):
        self.rank, self.virtual, self.spare = rank, virtual, spare
        self.killed, self._first = False, None  # the step that the run began with: faults before it have struck
        self._left = {}  # (kind, step) -> [fault]
        for fault in faults.on(rank, *ONCE):
            self._left.setdefault((fault.kind, fault.options["step"]), []).append(fault)

    def before(self, state):
        """Called before each step: kill the rank, or flip bits of its x."""
        if not self._left:
            return
        step = state.t + 1
        if self._first is None:
            self._first = step
        due = [
            at for kind, at in self._left if kind == "kill" and self._first <= at <= step
        ]  # a late worker skips steps
        if due:
            del self._left["kill", due[0]]
            if self.virtual and self.spare:
                self.killed = True  # in the middle of its next gradient: the others do not wait for it in a barrier
            elif self.virtual:
                raise PeerError(
                    f"rank {self.rank} was killed before step {due[0]} (--faults); --resume goes on from the last "
                    "checkpoint, if there is one"
                )
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        for flip in self._left.pop(("flip", step), ()):
            state.x = flipped(state.x, flip.options["bit"])

    def poison(self, g, t):
        """Called with the gradient g (n,) of step t, counted from 0: write a NaN into it."""
        if self.killed:
            raise Killed
        if self._left and self._left.pop(("nan", t + 1), None) and len(g):
            g[len(g) // 2] = np.nan


def flipped(x, bit):
    """x (n,) with one bit changed: in place, or as a copy where the rank may not write to it (others share it)."""
    x = x if x.flags.writeable else x.copy()
    bit %= 8 * x.nbytes
    x.view(np.uint8)[bit // 8] ^= 1 << bit % 8
    return x
