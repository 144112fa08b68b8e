"""The members of a communicator, and what they share."""

from functools import cached_property, partial

import numpy as np

from dsgd.collectives import subtrees
from dsgd.simulator.collectives import COLLECTIVES, Call
from dsgd.simulator.mailbox import Channel, Mailbox
from dsgd.simulator.meeting import Meeting

PRIVATE = "/private"  # after the name of a group


class Group:
    """What the members of one communicator share: their mailboxes and the collectives they are meeting in.

    Each process that hosts a member has an object of its own; the name tells which belong together.
    network is None for observers, whose calls take no time and leave no trace.
    """

    def __init__(self, world, ranks, network, name):
        self.world, self.ranks, self.network, self.name = world, ranks, network, name
        self.members = {rank: member for member, rank in enumerate(ranks)}  # world rank -> rank in this group
        self.place = tuple(world.place[rank] for rank in ranks)
        self.boxes = [Mailbox() for _ in ranks]
        self._replicas = {}  # (number, n) -> array
        self._parts = {}  # ranks -> their group, without those that were given up
        self._made = 0  # groups of some of these ranks
        self._meetings = {}  # number of a collective -> Meeting
        self.free = world.kernel.now  # when the last collective is done: the next one needs its cards
        if world.processes:
            world.processes.groups[name] = self

    def replica(self, number, n):
        """The array (n,) that all members in this process get who ask for the same number."""
        if (number, n) not in self._replicas:
            self._replicas[number, n] = np.empty(n, self.world.dtype)
        return self._replicas[number, n]

    @cached_property
    def private(self):
        """A group of the same ranks, whose messages no receive of the program can take."""
        return Group(self.world, self.ranks, self.network, self.name + PRIVATE)

    @cached_property
    def hosted(self):
        """{process: its members}, in the order of the processes."""
        hosted = {process: [] for process in sorted(set(self.place))}
        for member, process in enumerate(self.place):
            hosted[process].append(member)
        return hosted

    @cached_property
    def here(self):
        """The members in this process."""
        return self.hosted.get(self.world.process, [])

    @cached_property
    def subtrees(self):
        """The largest nodes of the tree over the members that lie in this process."""
        return subtrees(set(self.here), 0, len(self.ranks))

    @cached_property
    def pace(self):
        """(latency, bandwidth) of the collectives: they take their closed form, whatever the cards do."""
        return self.network.slowest(self.ranks)

    def channel(self, sender, receiver):
        """For the messages of one member to one other, given by their world ranks."""
        if self.place[self.members[receiver]] == self.world.process:
            return Channel(self, sender, receiver)
        return self.world.processes.departures(self, sender, receiver)

    def of(self, ranks):
        """The group of some of these ranks, the same for all who ask."""
        if ranks not in self._parts:
            self._parts[ranks] = self.part(ranks)
        return self._parts[ranks]

    def part(self, ranks):
        """A new group of some of these ranks; every process makes the same ones in the same order."""
        self._made += 1
        return Group(self.world, ranks, self.network, f"{self.name}/{self._made}")

    def meet(self, member, effect, argument):
        """A member arrives at a collective, and waits for its result."""
        if len(self.ranks) == 1:  # nobody to wait for
            call, kind = Call(self, 0, {0: argument}), COLLECTIVES[effect.kind]
            return kind.get(call, kind.give(call))[0]
        rank = self.ranks[member]
        self.join(member, effect, argument, partial(self.world.resume, rank))
        return self.world.suspend(rank, effect)

    def join(self, member, effect, argument, done):
        """A member arrives at a collective.   done(result): called when it is over"""
        self._meeting(effect.number).arrive(member, effect, argument, done)

    def hear(self, process, told, given):
        """All members in another process are in a collective: see Meeting.hear."""
        self._meeting(told.number).hear(process, told, given)

    def _meeting(self, number):
        return self._meetings.get(number) or self._meetings.setdefault(number, Meeting(self))

    def end(self, number):
        """A collective is over."""
        del self._meetings[number]
