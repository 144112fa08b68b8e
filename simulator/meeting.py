"""A collective under way: who is there, and what happens when all are."""

import sys
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from dsgd.comm import ALIKE
from dsgd.costs import duration
from dsgd.errors import CollectiveMismatch
from dsgd.simulator.collectives import COLLECTIVES, Call


class Told(NamedTuple):
    """What a process tells the others once all its members are there."""

    rank: int  # the world rank of one of them
    kind: str
    root: int  # world rank
    number: int  # of the collective
    form: str  # what must be alike: see _form
    nbytes: int  # the most that one of them puts in
    time: float  # when the last of them came

    def __str__(self):
        return f"{self.kind} #{self.number} root={self.root} bytes={self.nbytes}" + f" of {self.form}" * bool(self.form)


class Meeting:
    """One collective of a group."""

    def __init__(self, group):
        self.group, self.world = group, group.world
        self._arrivals = {}  # member -> (effect, argument, done), of those in this process
        self._heard = {}  # process -> (Told, what its members give)

    def arrive(self, member, effect, argument, done):
        """A member is there; with the last one in this process, the others are told.   done(result): called at the end"""
        if self._arrivals:
            self._compare(*next(iter(self._arrivals.values()))[:2], effect, argument)
        self._arrivals[member] = effect, argument, done
        if len(self._arrivals) == len(self.group.here):
            self._tell(effect, argument)

    def _tell(self, effect, argument):
        """Hand over what the members here give: to each process what its own members need."""
        group, world, call, kind = self.group, self.world, self._call(), COLLECTIVES[effect.kind]
        given, nbytes = kind.give(call), max(effect.nbytes for effect, _, _ in self._arrivals.values())
        form = _text(_form(argument)) if effect.kind in ALIKE and len(group.hosted) > 1 else ""
        told = Told(effect.rank, effect.kind, effect.root, effect.number, form, nbytes, world.kernel.now)
        parts = {process: kind.part(call, given, members) for process, members in group.hosted.items()}
        mine = parts.pop(world.process)
        for process, part in parts.items():
            world.processes.post(process, "told", group.name, told, list(part), arrays=list(part.values()))
        self.hear(world.process, told, mine)

    def _call(self):
        """What the members here have called."""
        group = self.group
        root = group.members[next(iter(self._arrivals.values()))[0].root]
        return Call(group, root, {member: self._arrivals[member][1] for member in group.here})

    def hear(self, process, told, given):
        """All members in a process are there; the last process completes the collective.   given: {key: array}"""
        group, self._heard[process] = self.group, (told, given)
        if len(self._heard) < len(group.hosted) or not self._alike():
            return
        group.end(told.number)
        call, everything = self._call(), {key: x for _, given in self._heard.values() for key, x in given.items()}
        results, tellings = COLLECTIVES[told.kind].get(call, everything), [told for told, _ in self._heard.values()]
        last, nbytes = max(told.time for told in tellings), max(told.nbytes for told in tellings)
        delay = duration(told.kind, len(group.ranks), nbytes, *group.pace, call.root) if group.network else 0
        group.free = max(group.free, last) + delay
        for member, result in zip(group.here, results):
            self.world.kernel.at(group.free, self._arrivals[member][2], result)

    def _compare(self, first, theirs, effect, argument):
        """Raise if two members in this process have called different collectives."""
        same = (effect.kind, effect.root, effect.number) == (first.kind, first.root, first.number)
        if same and (effect.kind not in ALIKE or _form(theirs) == _form(argument)):
            return
        world, forms = self.world, ("", "")
        if same and effect.nbytes == first.nbytes:  # the effects look alike
            forms = [f" of {' '.join(map(str, _form(x)))}" for x in (argument, theirs)]
        task = world.tasks[first.rank]
        where = world.line(task.frame) if task else "it has returned, and did not wait for what it started"
        raise CollectiveMismatch(
            f"rank {effect.rank} calls {effect}{forms[0]}, but rank {first.rank} waits in {first}{forms[1]}\n"
            f"  rank {effect.rank}: {world.line(sys._getframe())}\n  rank {first.rank}: {where}"
        )

    def _alike(self):
        """Whether the processes have called the same; if not, one speaks for all, and the others wait for their end."""
        tellings = [self._heard[process][0] for process in self.group.hosted]
        first = tellings[0]
        other = next((told for told in tellings if told[1:5] != first[1:5]), None)
        if other and self.group.place[0] == self.world.process:
            raise CollectiveMismatch(
                f"rank {other.rank} calls {other}, but rank {first.rank} waits in {first}, in another process; started "
                "without mpirun, the run tells the lines"
            )
        return other is None


def _form(argument):
    """What must be the same on all ranks of what they put in: length, dtype, and how a reduce_scatter cuts it."""
    x, *cut = argument if isinstance(argument, tuple) else (argument,)
    return x.shape[0], x.dtype, *cut


def _text(form):
    """The form in words; of a cut, which may be long, a digest."""
    length, dtype, *cut = form
    digests = [blake2b(np.array(sizes, np.int64), digest_size=8).hexdigest() for sizes in cut]
    return f"{length} {dtype}" + "".join(f" cut {digest}" for digest in digests)
