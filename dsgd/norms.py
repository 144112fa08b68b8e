"""The written order of a norm, the same whoever owns which range of the vector.

The vector is cut into *segments*, at the multiples of 256 (layout.BLOCK) and at the borders of its arrays.  Squares are
summed within a segment, and the sums of the segments in the binary tree order, ((0+1)+(2+3))+…, all in float64.  A key
range of a parameter server is cut at a multiple of 256, a rank's layers at the borders of arrays: both keep segments
whole, so each owner finds the sums of its own, and the tree over all of them has the same bits everywhere.
"""

from functools import cached_property
from math import sqrt

import numpy as np

from dsgd.arrays import namespace, scratch, to_host
from dsgd.layout import BLOCK

TOGETHER = 256  # segments, of up to 256 elements each, whose squares are in the cache at one time


def tree(sums):
    """((0+1)+(2+3))+… along the last axis of sums (..., n) float64: (...,).  An odd one is carried: x + 0 is x.

    >>> import numpy as np
    >>> float(tree(np.array([1e16, 1.0, 1.0, 1.0]))), 1e16 + 1.0 + 1.0 + 1.0  # (1e16 + 1) + (1 + 1)
    (1.0000000000000002e+16, 1e+16)
    """
    xp, n = namespace(sums), sums.shape[-1]
    width = 1 << max(n - 1, 0).bit_length()
    level = xp.zeros((*sums.shape[:-1], width), dtype="float64")
    level[..., :n] = sums
    while level.shape[-1] > 1:
        level = level[..., 0::2] + level[..., 1::2]
    return level[..., 0]


class Norms:
    """Norms of vectors of which each owner has a range.

    Args:
        layout: layout.Layout of the whole vector.
        lo, hi: the own range, which cuts no segment; all of the vector by default.

    >>> import numpy as np
    >>> from dsgd.layout import Layout
    >>> norms = Norms(Layout({"weight": (2, 2), "bias": (2,)}))
    >>> sums = norms.sums(np.array([1.0, 1.0, 1.0, 1.0, 0.0, 2.0]))
    >>> norms.by_array(sums), round(norms.norm(sums), 4)
    ({'weight': 4.0, 'bias': 4.0}, 2.8284)
    """

    def __init__(self, layout, lo=0, hi=None):
        self.layout, self.lo, self.hi = layout, lo, layout.size if hi is None else hi

    # What follows is found when it is first asked for: a run of thousands of ranks may never ask.

    @cached_property
    def _spans(self):
        """(start, stop) of each array."""
        return [self.layout.span([name]) for name in self.layout.shapes]

    @cached_property
    def _cuts(self):
        """Where the segments start, and the size: (all segments + 1,), rising.

        An array without elements starts where the next one does, and reduceat must not be given an index twice.
        """
        size, starts = self.layout.size, [start for start, _ in self._spans]
        return np.unique(np.array([*range(0, size, BLOCK), *starts, size], np.int64))

    @cached_property
    def _own(self):
        """Where the own segments start in the own range, and its length: (segments + 1,)."""
        first, last = np.searchsorted(self._cuts, (self.lo, self.hi))
        own = self._cuts[first : last + 1] - self.lo
        if not (own.size and own[0] == 0 and own[-1] == self.hi - self.lo):
            raise ValueError(f"the range {self.lo} to {self.hi} cuts a segment of the vector (0 to {self.layout.size})")
        return own

    @cached_property
    def _groups(self):
        """[(which own segments, which elements, where the segments start in these), ...]"""
        groups = []
        for k in range(0, self.segments, TOGETHER):
            borders = self._own[k : k + TOGETHER + 1]
            starts, part = borders[:-1] - borders[0], slice(int(borders[0]), int(borders[-1]))
            groups.append((slice(k, k + len(starts)), part, starts))
        return groups

    @cached_property
    def _arrays(self):
        """Which segments each array has."""
        return [slice(*np.searchsorted(self._cuts, span).tolist()) for span in self._spans]

    @property
    def segments(self):
        """The number of own segments."""
        return len(self._own) - 1

    @cached_property
    def pieces(self):
        """[(index of an array, its slice of the own range), ...] for the arrays that overlap it."""
        lo, hi = self.lo, self.hi
        return [
            (i, slice(max(start, lo) - lo, min(stop, hi) - lo))
            for i, (start, stop) in enumerate(self._spans)
            if max(start, lo) < min(stop, hi)
        ]

    @cached_property
    def weights(self):
        """[slice of the own range, ...] for the arrays with two axes: the weights, and not the biases."""
        axes = [len(shape) for shape in self.layout.shapes.values()]
        return [own for i, own in self.pieces if axes[i] == 2]

    def sums(self, v, out=None):
        """Σ v² of each own segment, (segments,) float64, for v (hi − lo,).

        Raises:
            ValueError: the own range cuts a segment.
        """
        xp = namespace(v)
        out = xp.empty(self.segments, dtype="float64") if out is None else out
        spare = scratch(out, min(v.shape[0], TOGETHER * BLOCK))
        for where, part, starts in self._groups:
            s = spare[: part.stop - part.start]
            s[:] = v[part]  # widened first: the square of a float32 is exact in float64
            xp.multiply(s, s, out=s)
            xp.add.reduceat(s, xp.asarray(starts), out=out[where])
        return out

    def whole(self, sums, among=None):
        """The sums of all segments of the vector, (..., all) in order, of the own ones, (..., segments).

        Args:
            among: the communicator of exactly the owners, in the order of their ranges; None if one owns all.
        """
        if among is not None:
            rows = sums.shape[:-1]
            parts = [part.reshape(*rows, -1) for part in among.allgather(sums.reshape(-1))]
            sums = namespace(sums).concatenate(parts, axis=-1)
        if sums.shape[-1] != len(self._cuts) - 1:
            raise ValueError(f"{sums.shape[-1]} of {len(self._cuts) - 1} segments: the other owners' are missing")
        return sums

    def norm(self, sums):
        """‖v‖, a Python float, of the sums of all segments."""
        return sqrt(float(to_host(tree(sums))))

    def by_array(self, sums):
        """{name: Σ v² over that array}, Python floats, each the tree over the array's own segments."""
        return {name: float(tree(sums[part])) for name, part in zip(self.layout.shapes, self._arrays)}

    def lengths(self, *vectors, among=None):
        """[(slice, ‖a‖ in the first vector, in the second, …)] for each array a of the own range; norms of whole arrays."""
        own = namespace(vectors[0]).empty((len(vectors), self.segments), dtype="float64")
        for row, v in enumerate(vectors):
            self.sums(v, out=own[row])
        sums = self.whole(own, among)
        return [(own, *map(sqrt, tree(sums[:, self._arrays[i]]).tolist())) for i, own in self.pieces]
