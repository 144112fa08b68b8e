"""A world whose ranks several processes share out: what they hand to each other, and when.

All processes are at one instant of virtual time: they agree on when the next event is, anywhere; those that have events
then run them, and hand over what concerns ranks of others: that all their members are in a collective, or a message.
Only when nobody has anything to hand over any more does the clock go on.  So each rank sees what it would see if one
process hosted them all, and at the same virtual times.

Reference: Chandy and Misra 1979, "Distributed simulation"; Nicol 1993, conservative synchronisation in rounds.  Their
windows are one instant long here: a receive that a sender waits for costs no time, so nothing can be known in advance.
"""

from dsgd.simulator.group import PRIVATE, Meeting
from dsgd.simulator.kernel import ALL
from dsgd.simulator.remote import Arrivals, Departures

PARTS = 8  # a block is a whole number of equal parts, at least so many, whose sizes are powers of two


def blocks(size, processes):
    """(size,): the process that hosts each rank: consecutive ranks, evenly.

    Borders are multiples of a power of two, up to an eighth of a block, so that a block is few nodes of the tree.
    """
    unit = 1 << max(0, (size // (PARTS * processes)).bit_length() - 1)
    borders = [unit * ((2 * p * size + processes * unit) // (2 * processes * unit)) for p in range(1, processes)]
    ends = [*borders, size]
    return tuple(process for process, (lo, hi) in enumerate(zip([0, *borders], ends)) for _ in range(lo, hi))


class Processes:
    """The side of one process.

    Args:
        link: to the others, as mpi/link.py has it: `process`, `processes`, and
            exchange(next, outbox) -> (the least (time, phase) of all processes, what was for this one; None if nobody
            had anything).
    """

    def __init__(self, world, link):
        self.world, self.link, self._outbox = world, link, []
        self._told = []  # what `gather` has heard
        self._departures, self._arrivals = {}, {}  # (name of the group, sender, receiver) -> channel

    def post(self, process, what, *facts, arrays=()):
        """Hand something over after this instant's events.   facts: JSON   arrays: of (n,), which must not change till then"""
        self._outbox.append((process, (what, *facts), arrays))

    def run(self):
        """Run until nothing is left to happen in any process."""
        while (earliest := self._settle()) < ALL:
            self.world.kernel.run_until(*earliest)

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
        """What all processes tell, [...] of JSON, put together in their order."""
        for process in range(self.link.processes):
            self.post(process, "told", told)
        self._settle()
        told, self._told = self._told, []
        return told

    def departures(self, group, sender, receiver):
        """The channel to a rank of another process."""
        return self._departures.setdefault((group.name, sender, receiver), Departures(group, sender, receiver))

    def _take_envelope(self, process, route, *facts_and_data):
        *facts, data = facts_and_data
        if tuple(route) not in self._arrivals:
            name, sender, receiver = route
            self._arrivals[tuple(route)] = Arrivals(self._group(name), sender, receiver)
        self._arrivals[tuple(route)].take(*facts, data)

    def _take_data(self, process, route, when, number, data):
        self._arrivals[tuple(route)].take_data(when, number, *data)

    def _take_ask(self, process, route, number, _):
        self._departures[tuple(route)].asked(number)

    def _take_back(self, process, route, number, _):
        self._departures[tuple(route)].given_back(number)

    def _group(self, name):
        """The group of this name; the private one of a group may not have been asked for in this process."""
        groups = self.world.groups
        return groups[name] if name in groups else groups[name.removesuffix(PRIVATE)].private

    def _take_told(self, process, told, arrays):
        self._told += told

    def _take_meeting(self, process, name, meeting, keys, arrays):
        given = dict(zip(map(tuple, keys), arrays))
        self.world.groups[name].hear(process, Meeting(*meeting), given)
