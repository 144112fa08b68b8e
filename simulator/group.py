"""The members of a communicator, and how they meet in a collective."""

import sys
from functools import cached_property, partial

import numpy as np

from dsgd.arrays import readonly
from dsgd.collectives import tree_sum
from dsgd.comm import ALIKE, own_slice
from dsgd.costs import duration
from dsgd.errors import CollectiveMismatch
from dsgd.simulator.mailbox import Mailbox


class Group:
    """What the members of one communicator share: their mailboxes and the collectives they are meeting in.

    network is None for observers, whose calls take no time and leave no trace.
    """

    def __init__(self, world, ranks, network):
        self.world, self.ranks, self.network = world, ranks, network
        self.members = {rank: member for member, rank in enumerate(ranks)}  # world rank -> rank in this group
        self.place = (0,) * len(ranks)  # one process hosts them all
        self.boxes = [Mailbox() for _ in ranks]
        self._replicas = {}  # (number, n) -> array
        self._parts = {}  # ranks -> their group, without those that were given up
        self.arrivals = {}  # number of a collective -> {member: (effect, argument, what to do with the result)}
        self._free = world.kernel.now  # when the last collective is done: the next one needs its cards

    def replica(self, number, n):
        """The array (n,) that all members get who ask for the same number."""
        if (number, n) not in self._replicas:
            self._replicas[number, n] = np.empty(n, self.world.dtype)
        return self._replicas[number, n]

    @cached_property
    def private(self):
        """A group of the same ranks, whose messages no receive of the program can take."""
        return Group(self.world, self.ranks, self.network)

    @cached_property
    def _pace(self):
        """(latency, bandwidth) of the collectives: they take their closed form, whatever the cards do."""
        return self.network.slowest(self.ranks)

    def of(self, ranks):
        """The group of some of these ranks, the same for all who ask."""
        return self._parts.setdefault(ranks, Group(self.world, ranks, self.network))

    def meet(self, member, effect, argument):
        """A member arrives at a collective, and waits for its result."""
        if len(self.ranks) == 1:  # nobody to wait for
            return COLLECTIVES[effect.kind](self, [argument], 0)[0]
        rank = self.ranks[member]
        self.join(member, effect, argument, partial(self.world.resume, rank))
        return self.world.suspend(rank, effect)

    def join(self, member, effect, argument, done):
        """A member arrives at a collective; the last one completes it for all.   done(result): called when it is over"""
        arrivals = self.arrivals.setdefault(effect.number, {})
        if arrivals:
            self._compare(*next(iter(arrivals.values()))[:2], effect, argument)
        arrivals[member] = (effect, argument, done)
        if len(arrivals) == len(self.ranks):
            del self.arrivals[effect.number]
            effects, arguments, waiting = zip(*(arrivals[m] for m in range(len(self.ranks))))
            root, nbytes = self.members[effect.root], max(e.nbytes for e in effects)
            results = COLLECTIVES[effect.kind](self, arguments, root)
            delay = duration(effect.kind, len(self.ranks), nbytes, *self._pace, root) if self.network else 0
            self._free = max(self._free, self.world.kernel.now) + delay
            for done, result in zip(waiting, results):
                self.world.kernel.at(self._free, done, result)

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


def _form(argument):
    """What must be the same on all ranks of what they put in: length, dtype, and how a reduce_scatter cuts it."""
    x, *cut = argument if isinstance(argument, tuple) else (argument,)
    return x.shape[0], x.dtype, *cut


def _same(group, result):
    return [result] * len(group.ranks)


def _only(group, root, result):
    return [result if member == root else None for member in range(len(group.ranks))]


def _sum(group, parts, root=0):
    out = group.world.pool.take(len(parts[0]), parts[0].dtype)
    return readonly(tree_sum(parts, out))


def _copies(group, parts):
    return [group.world.pool.copy(part) for part in parts]


def _reduce_scatter(group, arguments, root):
    total = _sum(group, [x for x, _ in arguments])
    ends = np.cumsum(arguments[0][1])
    return [total[end - count : end] for end, count in zip(ends, arguments[0][1])]


def _fill(group, arguments, root):
    """Each x gets all slices; ranks that hold one array have nothing to copy."""
    counts, distinct = arguments[0][1], {id(x): x for x, _ in arguments}
    if len(distinct) > 1:
        whole = np.concatenate([own_slice(x, counts, member) for member, (x, _) in enumerate(arguments)])
        for x in distinct.values():
            x[:] = whole
    return [None] * len(arguments)


def _alltoall(group, arguments, root):
    return [_copies(group, [parts[member] for parts in arguments]) for member in range(len(group.ranks))]


def _split(group, arguments, root):
    groups = {}
    for color in sorted({color for color, _ in arguments}):
        members = sorted((key, member) for member, (c, key) in enumerate(arguments) if c == color)
        ranks = [member for _, member in members]
        shared = Group(group.world, tuple(group.ranks[m] for m in ranks), group.network)
        groups |= {member: (shared, place) for place, member in enumerate(ranks)}
    return [groups[member] for member in range(len(group.ranks))]


COLLECTIVES = {  # (group, [argument of each member], root) -> [result for each member]
    "bcast": lambda group, parts, root: _same(group, group.world.pool.copy(parts[root])),
    "reduce": lambda group, parts, root: _only(group, root, _sum(group, parts)),
    "allreduce": lambda group, parts, root: _same(group, _sum(group, parts)),
    "iallreduce": lambda group, parts, root: _same(group, _sum(group, parts)),
    "reduce_scatter": _reduce_scatter,
    "gather": lambda group, parts, root: _only(group, root, _copies(group, parts)),
    "allgather": lambda group, parts, root: _same(group, _copies(group, parts)),
    "allgather_in_place": _fill,
    "scatter": lambda group, parts, root: _copies(group, parts[root]),
    "alltoall": _alltoall,
    "barrier": lambda group, parts, root: _same(group, None),
    "split": _split,
}
