"""What the owner of a range of x does with the averaged gradient: watch it, clip it, add the penalty's, apply it.

    g ← min(1, c / (‖g‖ + 1e-6)) g;   g ← g + λ₁ sign W + λ₂ W;   x ← the optimizer's step

‖g‖ is the norm of the whole averaged gradient, in the written order of norms.py, so all owners find the same number.
The penalty λ₁ Σ|W| + λ₂/2 Σ W² is on the weights W alone, biases are free.  It needs no sample, so it is added once, to
the average: what is watched and clipped is what came from the data.

Reference: Pascanu, Mikolov and Bengio 2013 (arXiv 1211.5063), algorithm 1; PyTorch's clip_grad_norm_.
"""

from functools import partial

from dsgd.arrays import namespace
from dsgd.optimizers.blocks import blocks

SMALL = 1e-6  # PyTorch's, in the denominator


class Update:
    """An optimizer for a range of x, behind a clip.

    Args:
        optimizer: of OPTIMIZERS.
        norms: norms.Norms of the range.  all_norms: of all of x, where a gradient is clipped before it is cut into ranges.
        clip_norm: c, the largest norm that an averaged gradient may have; 0 for any.
        l1, l2: λ₁, λ₂.

    Attributes:
        watch: whether a step leaves the sums of squares of its gradient, before the clip, in `sums`.
        sums: (own segments,) float64, what Norms.sums gave for the last gradient that was watched, before the clip; None
            if there was none.
    """

    def __init__(self, optimizer, norms, clip_norm=0.0, l1=0.0, l2=0.0, all_norms=None):
        self.optimizer, self.norms, self.clip_norm = optimizer, norms, clip_norm
        self.all_norms = all_norms or norms
        self.l1, self.l2 = l1, l2
        self.watch, self.sums = False, None
        self._changed = None  # memory for a gradient that is not the average any more

    @property
    def slots(self):
        """{name: array}: the optimizer's, all that a checkpoint needs."""
        return self.optimizer.slots

    @slots.setter
    def slots(self, slots):
        self.optimizer.slots = slots

    @property
    def needs_others(self):
        """Whether the owners of several ranges have to hear of each other's norms."""
        return bool(self.clip_norm or self.optimizer.layerwise)

    def step(self, x, g, lr, among=None):
        """One update of the own range x (n,), in place, with its part g (n,) of the averaged gradient.

        Args:
            lr: η, a Python float.
            among: the communicator of the owners, in the order of their ranges; None if one owns all of x.
        """
        self._step(x, self.clip(g, among), lr, among)

    def step_clipped(self, x, g, lr):
        """The same for a g that its sender was to clip; it is watched unless it may have been clipped."""
        if self.watch and not self.clip_norm:
            self.sums = self.norms.sums(g)
        self._step(x, g, lr, None)

    def _step(self, x, g, lr, among):
        if self.l1 or self.l2:
            g = self._penalised(x, g)
        self.optimizer.step(x, g, lr, partial(self.norms.lengths, among=among))

    def _penalised(self, x, g):
        """g + λ₁ sign W + λ₂ W (n,), in memory that is kept."""
        xp, out = namespace(x), self._memory(g)
        if out is not g:
            out[:] = g
        for part in self.norms.weights:
            for s, _, w, d in blocks(x[part], out[part]):
                if self.l1:
                    xp.multiply(xp.sign(w, out=s), self.l1, out=s)
                    xp.add(d, s, out=d)
                if self.l2:
                    xp.multiply(w, self.l2, out=s)
                    xp.add(d, s, out=d)
        return out

    def _memory(self, g):
        if self._changed is None:
            self._changed = namespace(g).zeros_like(g)
        return self._changed

    def clip(self, g, among=None):
        """g (n,) itself if its norm is within clip_norm, else c/‖g‖ g, in memory that is kept."""
        if not (self.clip_norm or self.watch):
            return g
        sums = self.norms.sums(g)
        if self.watch:
            self.sums = sums
        if not self.clip_norm:
            return g
        factor = self._factor(self.norms, self.norms.whole(sums, among))
        if factor >= 1:
            return g
        return namespace(g).multiply(g, factor, out=self._memory(g))

    def clip_own(self, g):
        """Clip a worker's own gradient g, all (n,) of it, in place, before it is cut into ranges."""
        if self.clip_norm and (factor := self._factor(self.all_norms, self.all_norms.sums(g))) < 1:
            namespace(g).multiply(g, factor, out=g)

    def _factor(self, norms, sums):
        """c/‖g‖, from the sums of squares of all segments of g."""
        return self.clip_norm / (norms.norm(sums) + SMALL)
