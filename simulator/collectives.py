"""What the members of a group put into a collective, what other processes need of it, and what the members get.

Where one process hosts all members, what they give is what they get.  Otherwise each process hands over what the members
that it hosts give, and a sum is one of subtrees of the written order, which each process completes for itself: so no bit
depends on how many processes there are.
"""

from typing import NamedTuple

import numpy as np

from dsgd.arrays import readonly
from dsgd.collectives import join, tree_sum
from dsgd.comm import own_slice


class Call(NamedTuple):
    """A collective that all members here have called.   arguments: {member: what it put in}"""

    group: object  # group.Group
    root: int  # a member
    arguments: dict


class Kind(NamedTuple):
    """How one collective works.  What travels is {key: array (n,)}, a key a tuple of integers."""

    give: object  # call -> all that the members here give
    get: object  # call, what all members give -> [result of each member here]
    part: object = lambda call, given, members: given  # of what is given here, what these members need


def _each(call):
    """An array of each member."""
    return {(member,): x for member, x in call.arguments.items()}


def _roots(call):
    """Only the root's."""
    return {(call.root,): call.arguments[call.root]} if call.root in call.arguments else {}


def _nothing(call):
    return {}


def _for_root(call, given, members):
    return given if call.root in members else {}


def _for_last(call, given, members):
    """Keys end with the member that the array is for."""
    return {key: x for key, x in given.items() if key[-1] in members}


def _same(call, result):
    return [result] * len(call.arguments)


def _only(call, result):
    """result() for the root, None for the others."""
    return [result() if member == call.root else None for member in call.arguments]


def _copies(call, given):
    """[array of each member of the group], which nobody writes to."""
    return [call.group.world.pool.copy(given[member,]) for member in range(len(call.group.ranks))]


# --- sums


def _sums(call, arrays):
    """{(first, last): sum} of the largest subtrees that lie in this process.   arrays: {member: (n,)}"""
    group, take = call.group, call.group.world.pool.take
    parts = {node: [arrays[member] for member in range(*node)] for node in group.subtrees}
    return {node: tree_sum(some, take(len(some[0]), some[0].dtype)) for node, some in parts.items()}


def _total(call, sums):
    """The sum over all members, read-only."""
    like, pool = next(iter(sums.values())), call.group.world.pool
    return readonly(join(sums, 0, len(call.group.ranks), lambda: pool.take(len(like), like.dtype)))


def _slices(call, given, members):
    """Of each sum the slices of these members, one after the other."""
    ends = np.cumsum(next(iter(call.arguments.values()))[1])
    first, last = min(members), max(members)
    lo, hi = int(ends[first - 1]) if first else 0, int(ends[last])
    if len(members) == last - first + 1:
        return {node: total[lo:hi] for node, total in given.items()}
    cut = [slice(int(ends[member - 1]) if member else 0, int(ends[member])) for member in sorted(members)]
    return {node: np.concatenate([total[span] for span in cut]) for node, total in given.items()}


def _own_slices(call, sums):
    counts, total = next(iter(call.arguments.values()))[1], _total(call, sums)
    ends = np.cumsum([counts[member] for member in call.arguments])
    return [total[end - counts[member] : end] for end, member in zip(ends, call.arguments)]


# --- the others


def _filled(call, given):
    """Each x gets all slices; ranks that hold one array have nothing to copy from each other."""
    distinct, ranks = {id(x): x for x, _ in call.arguments.values()}, range(len(call.group.ranks))
    if len(distinct) > 1 or len(call.arguments) < len(ranks):
        whole = np.concatenate([given[member,] for member in ranks])
        for x in distinct.values():
            x[:] = whole
    return _same(call, None)


def _exchanged(call, given):
    pool, ranks = call.group.world.pool, range(len(call.group.ranks))
    return [[pool.copy(given[other, member]) for other in ranks] for member in call.arguments]


def _groups(call, given):
    """The new group of each member, and its place there."""
    group, found = call.group, {}
    wishes = [(*map(int, given[member,]), member) for member in range(len(group.ranks))]  # (color, key, member)
    for color in sorted({color for color, _, _ in wishes}):
        members = [member for _, member in sorted((key, member) for c, key, member in wishes if c == color)]
        part = group.part(tuple(group.ranks[member] for member in members))
        found |= {member: (part, place) for place, member in enumerate(members)}
    return [found[member] for member in call.arguments]


ALLREDUCE = Kind(lambda call: _sums(call, call.arguments), lambda call, given: _same(call, _total(call, given)))
COLLECTIVES = {
    "bcast": Kind(_roots, lambda call, given: _same(call, call.group.world.pool.copy(given[call.root,]))),
    "reduce": Kind(
        lambda call: _sums(call, call.arguments),
        lambda call, given: _only(call, lambda: _total(call, given)),
        _for_root,
    ),
    "allreduce": ALLREDUCE,
    "iallreduce": ALLREDUCE,
    "reduce_scatter": Kind(
        lambda call: _sums(call, {member: x for member, (x, _) in call.arguments.items()}), _own_slices, _slices
    ),
    "gather": Kind(_each, lambda call, given: _only(call, lambda: _copies(call, given)), _for_root),
    "allgather": Kind(_each, lambda call, given: _same(call, _copies(call, given))),
    "allgather_in_place": Kind(
        lambda call: {(member,): own_slice(x, counts, member) for member, (x, counts) in call.arguments.items()},
        _filled,
    ),
    "scatter": Kind(
        lambda call: {(member,): part for parts in _roots(call).values() for member, part in enumerate(parts)},
        lambda call, given: [call.group.world.pool.copy(given[member,]) for member in call.arguments],
        _for_last,
    ),
    "alltoall": Kind(
        lambda call: {(member, to): x for member, parts in call.arguments.items() for to, x in enumerate(parts)},
        _exchanged,
        _for_last,
    ),
    "barrier": Kind(_nothing, lambda call, given: _same(call, None)),
    "split": Kind(
        lambda call: {(member,): np.array(wish, np.int64) for member, wish in call.arguments.items()}, _groups
    ),
}
