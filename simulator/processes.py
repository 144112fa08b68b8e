"""A world whose ranks several processes share out: what they hand to each other, and when.

All processes are at one instant of virtual time: they agree on when the next event is, anywhere; those that have events
then run them, and hand over what concerns ranks of others: that all their members are in a collective, or a message.
Only when nobody has anything to hand over any more does the clock go on.  So each rank sees what it would see if one
process hosted them all, and at the same virtual times.

Reference: Chandy and Misra 1979, "Distributed simulation"; Nicol 1993, conservative synchronisation in rounds.  Their
windows are one instant long here: a receive that a sender waits for costs no time, so nothing can be known in advance.
"""

from dsgd.simulator.group import PRIVATE
from dsgd.simulator.kernel import ALL
from dsgd.simulator.meeting import Told
from dsgd.simulator.remote import Arrivals, Departures

PARTS = 8  # a block is a whole number of parts, at least so many, whose sizes are one power of two


def blocks(size, processes):
    """(size,): the process that hosts each rank: consecutive ranks, evenly.

    Borders are multiples of a power of two, up to an eighth of a block, so that a block is few nodes of the tree.
    """
    unit = 1 << max(0, (size // (PARTS * processes)).bit_length() - 1)
    borders = [unit * ((2 * p * size + processes * unit) // (2 * processes * unit)) for p in range(1, processes)]
    return tuple(
        process for process, (lo, hi) in enumerate(zip([0, *borders], [*borders, size])) for _ in range(lo, hi)
    )


class Processes:
    """The side of one process.

    Args:
        link: to the others, as mpi/link.py has it: `process`, `processes`, and
            exchange(next, outbox) -> (the least (time, phase) of all processes, what was for this one; None if nobody
            had anything).
    """

    def __init__(self, world, link):
        self.world, self.link, self._outbox = world, link, []
        self.groups = {}  # name -> Group, as long as the world: messages may come when no rank here has it any more
        self._gathered = []
        self._departures, self._arrivals = {}, {}  # (name of the group, sender, receiver) -> channel

    def post(self, process, what, *facts, arrays=()):
        """Hand something over after these events.   facts: JSON   arrays: of (n,), which must not change till then"""
        self._outbox.append((process, (what, *facts), arrays))

    def run(self):
        """Run until nothing is left to happen in any process."""
        while (earliest := self._settle()) < ALL:
            self.world.kernel.run(earliest)

    def _settle(self):
        """Hand over until nobody has anything left; returns when the next event is, anywhere."""
        while True:
            outbox, self._outbox = self._outbox, []
            earliest, inbox = self.link.exchange(self.world.kernel.next, outbox)
            if inbox is None:
                return earliest
            for process, (what, *facts), arrays in inbox:
                getattr(self, f"_take_{what}")(process, *facts, arrays)

    def gather(self, told):
        """[...] of JSON that all processes tell, put together in their order."""
        for process in range(self.link.processes):
            self.post(process, "gathered", told)
        self._settle()
        told, self._gathered = self._gathered, []
        return told

    def departures(self, group, sender, receiver):
        """The channel to a rank of another process."""
        return self._departures.setdefault((group.name, sender, receiver), Departures(group, sender, receiver))

    # --- what comes from another process

    def _take_gathered(self, process, told, _):
        self._gathered += told

    def _take_told(self, process, name, told, keys, arrays):
        self._group(name).hear(process, Told(*told), dict(zip(map(tuple, keys), arrays)))

    def _take_envelope(self, process, route, *facts):
        route = name, *ends = tuple(route)
        if route not in self._arrivals:
            self._arrivals[route] = Arrivals(self._group(name), *ends)
        self._arrivals[route].take(*facts)

    def _take_data(self, process, route, when, number, arrays):
        self._arrivals[tuple(route)].take_data(when, number, *arrays)

    def _take_ask(self, process, route, number, _):
        self._departures[tuple(route)].asked(number)

    def _take_back(self, process, route, number, _):
        self._departures[tuple(route)].given_back(number)

    def _group(self, name):
        """The group of this name; the private one of a group may not have been asked for in this process."""
        return self.groups[name] if name in self.groups else self.groups[name.removesuffix(PRIVATE)].private
