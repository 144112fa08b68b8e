"""The members of a communicator, and how they meet in a collective."""

import sys
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dsgd.collectives import subtrees
from dsgd.comm import ALIKE
from dsgd.costs import duration
from dsgd.errors import CollectiveMismatch
from dsgd.simulator.collectives import COLLECTIVES, Call
from dsgd.simulator.mailbox import Channel, Mailbox


PRIVATE = "/private"  # after the name of a group


class Meeting(NamedTuple):
    """What a process tells the others of a collective that all members in it have called."""

    rank: int  # the world rank of one of them
    kind: str
    root: int  # world rank
    number: int  # of the collective
    form: str  # what must be alike: see _form
    nbytes: int  # the most that one of them puts in
    time: float  # when the last of them came

    def __str__(self):
        return f"{self.kind} #{self.number} root={self.root} bytes={self.nbytes}" + f" of {self.form}" * bool(self.form)


class Group:
    """What the members of one communicator share: their mailboxes and the collective they are meeting in.

    Each process that hosts a member has an object of its own; the name tells which belong together.
    network is None for observers, whose calls take no time and leave no trace.
    """

    def __init__(self, world, ranks, network, name):
        self.world, self.ranks, self.network, self.name = world, ranks, network, name
        self.members = {rank: member for member, rank in enumerate(ranks)}  # world rank -> rank in this group
        self.place = tuple(world.place[rank] for rank in ranks)
        self.boxes = [Mailbox() for _ in ranks]
        self._made = 0  # groups that were split off
        self._replicas = {}  # (number, n) -> array
        self._parts = {}  # ranks -> their group, without those that were given up
        self.arrivals = {}  # member -> (effect, argument) of the collective under way
        self.heard = {}  # process -> (Meeting, what it gives) of the collective under way
        world.groups[name] = self

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
    def _pace(self):
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
        """A member arrives at a collective; the last one in this process hands over what they give."""
        if len(self.ranks) == 1:  # nobody to wait for
            call, kind = Call(self, effect.kind, 0, {0: argument}), COLLECTIVES[effect.kind]
            return kind.get(call, kind.give(call))[0]
        if self.arrivals:
            self._compare(*next(iter(self.arrivals.values())), effect, argument)
        self.arrivals[member] = (effect, argument)
        if len(self.arrivals) == len(self.here):
            self._hand_over(max(e.nbytes for e, _ in self.arrivals.values()), effect, argument)
        return self.world.suspend(self.ranks[member], effect)

    def _hand_over(self, nbytes, effect, argument):
        """All members in this process are here."""
        world, call = self.world, self._call()
        kind, given = COLLECTIVES[effect.kind], COLLECTIVES[effect.kind].give(call)
        form = _text(_form(argument)) if effect.kind in ALIKE and len(self.hosted) > 1 else ""
        mine = Meeting(effect.rank, effect.kind, effect.root, effect.number, form, nbytes, world.kernel.now)
        for process, members in self.hosted.items():
            part = kind.part(call, given, members)
            if process == world.process:
                self.hear(process, mine, part)
            else:
                world.processes.post(process, "meeting", self.name, mine, list(part), arrays=list(part.values()))

    def _call(self):
        """The collective under way."""
        effect = next(iter(self.arrivals.values()))[0]
        arguments = {member: self.arrivals[member][1] for member in self.here}
        return Call(self, effect.kind, self.members[effect.root], arguments)

    def hear(self, process, meeting, given):
        """A process has all its members in the collective; the last one completes it for all."""
        self.heard[process] = meeting, given
        if len(self.heard) < len(self.hosted):
            return
        meetings = [self.heard[process][0] for process in self.hosted]
        if not self._agree(meetings):
            return
        everything = {key: x for process in self.hosted for key, x in self.heard[process][1].items()}
        call, self.arrivals, self.heard = self._call(), {}, {}
        results = COLLECTIVES[call.kind].get(call, everything)
        last, nbytes = max(m.time for m in meetings), max(m.nbytes for m in meetings)
        delay = duration(call.kind, len(self.ranks), nbytes, *self._pace, call.root) if self.network else 0
        for member, result in zip(self.here, results):
            self.world.kernel.at(last + delay, self.world.resume, self.ranks[member], result)

    def _compare(self, first, theirs, effect, argument):
        same = (effect.kind, effect.root, effect.number) == (first.kind, first.root, first.number)
        if same and (effect.kind not in ALIKE or _form(theirs) == _form(argument)):
            return
        world, forms = self.world, ("", "")
        if same and effect.nbytes == first.nbytes:  # the effects look alike
            forms = [f" of {' '.join(map(str, _form(x)))}" for x in (argument, theirs)]
        raise CollectiveMismatch(
            f"rank {effect.rank} calls {effect}{forms[0]}, but rank {first.rank} waits in {first}{forms[1]}\n"
            f"  rank {effect.rank}: {world.line(sys._getframe())}\n  rank {first.rank}: {world.line(world.tasks[first.rank].frame)}"
        )

    def _agree(self, meetings):
        """Whether the processes have called the same; if not, one speaks for all, and the others wait for their end."""
        first = meetings[0]
        other = next((meeting for meeting in meetings if meeting[1:5] != first[1:5]), None)
        if other and self.place[0] == self.world.process:
            raise CollectiveMismatch(
                f"rank {other.rank} calls {other}, but rank {first.rank} waits in {first}, in another process; started "
                "without mpirun, the run tells the lines"
            )
        return other is None


def _text(form):
    """The form in words; of a cut, which may be long, its hash."""
    length, dtype, *cut = form
    return f"{length} {dtype}" + "".join(f" cut {hash(sizes) % 10**6}" for sizes in cut)


def _form(argument):
    """What must be the same on all ranks of what they put in: length, dtype, and how a reduce_scatter cuts it."""
    x, *cut = argument if isinstance(argument, tuple) else (argument,)
    return x.shape[0], x.dtype, *cut
