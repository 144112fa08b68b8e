"""A virtual clock and a heap of events.  It knows neither arrays nor ranks."""

import random
from heapq import heappop, heappush
from itertools import count
from math import inf


# Simultaneous events come in four phases, so that their order does not depend on which process schedules them: what a
# rank does by itself, messages that reach a rank, receives that ask a sender for a long one, buffers given back.
OWN, REACH, ASK, BACK = range(4)
ALL = inf, BACK  # until nothing is left


def after(phase, rank):
    """Where the events of a phase that come from this rank stand among simultaneous ones."""
    return (phase << 30 | rank) << 50


class Kernel:
    """Runs actions in the order of (time, place, serial).

    The serial makes the order of simultaneous events the order in which they were scheduled; with `shuffle`, a seed,
    they come in random order instead, so that nothing can rely on it.
    """

    def __init__(self, start=0.0, shuffle=None):
        self.now = start  # seconds of virtual time
        self.events = 0
        self._until = inf  # how far `run` goes
        self._heap = []
        self._serial = count()
        self._tie = None if shuffle is None else random.Random(shuffle).random

    def at(self, time, action, *args, place=0):
        """Schedule action(*args) at virtual `time`.   place: among simultaneous events, see `after`"""
        if time < self.now:
            raise ValueError(f"the clock is at {self.now} s: nothing can happen at {time} s any more")
        order = place + next(self._serial)
        heappush(self._heap, (time, (self._tie(), order) if self._tie else order, action, args))

    @property
    def next(self):
        """(time, phase) of the next event; ALL if there is none."""
        return (self._heap[0][0], self._heap[0][1] >> 80) if self._heap else ALL

    def advance(self, time):
        """Move the clock to `time` if nothing else happens until then; returns whether it did."""
        if self._heap and self._heap[0][0] <= time or time > self._until:
            return False
        self.now = time
        return True

    def run(self, until=None):
        """Run until nothing is left to happen, or up to (time, phase): others may be why more happens then."""
        heap, end = self._heap, until and (until[0], after(until[1] + 1, 0))
        self._until = until[0] if until else inf
        while heap and (end is None or heap[0] < end):
            self.now, _, action, args = heappop(heap)
            self.events += 1
            action(*args)
        if until:
            self.now = until[0]  # also where nothing happened
