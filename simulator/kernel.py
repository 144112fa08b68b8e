"""A virtual clock and a heap of events.  It knows neither arrays nor ranks."""

import random
from heapq import heappop, heappush
from itertools import count


class Kernel:
    """Runs actions in the order of (time, tie, serial).

    The serial makes the order of simultaneous events the order in which they were scheduled; with `shuffle`, a seed,
    they come in random order instead, so that nothing can rely on it.
    """

    def __init__(self, start=0.0, shuffle=None):
        self.now = start  # seconds of virtual time
        self.events = 0
        self._heap = []
        self._serial = count()
        self._tie = None if shuffle is None else random.Random(shuffle).random

    def at(self, time, action, *args):
        """Schedule action(*args) at virtual `time`."""
        if time < self.now:
            raise ValueError(f"the clock is at {self.now} s: nothing can happen at {time} s any more")
        order = next(self._serial)
        heappush(self._heap, (time, (self._tie(), order) if self._tie else order, action, args))

    def advance(self, time):
        """Move the clock to `time` if nothing else happens until then; returns whether it did."""
        if self._heap and self._heap[0][0] <= time:
            return False
        self.now = time
        return True

    def run(self):
        """Run until nothing is left to happen."""
        heap = self._heap
        while heap:
            self.now, _, action, args = heappop(heap)
            self.events += 1
            action(*args)
