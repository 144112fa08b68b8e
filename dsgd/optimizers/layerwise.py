"""A step length of its own for each layer, in proportion to the norm of its weights: for very large batches.

A layer is one array: each weight matrix and each bias vector on its own, as all implementations have it.  Norms are
over whole arrays, whoever owns their parts: `norms(x, g)` gives [(slice of the own range, ‖x‖, ‖g‖), ...], array by
array (norms.Norms.lengths).  The ratio is 1 where a norm is 0.
"""

from dsgd.arrays import namespace
from dsgd.optimizers.adam import constants, moments
from dsgd.optimizers.blocks import between, blocks, counted, decayed, positive


class LARS:
    """v ← μ v + ρ (g + λ x),  ρ = τ ‖x‖ / (‖g‖ + λ ‖x‖ + ε);  x ← x − η v      in each layer

    τ is the trust coefficient; η stands outside of v, as in PyTorch's SGD.

    Reference: You, Gitman and Ginsburg 2017 (arXiv 1708.03888), algorithm 1.
    """

    layerwise, decoupled = True, False

    def __init__(
        self,
        *,
        momentum: float = 0.9,
        trust_coefficient: float = 0.001,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ):
        between(0, 1, momentum=momentum)
        between(0, float("inf"), weight_decay=weight_decay)
        positive(trust_coefficient=trust_coefficient, eps=eps)
        self.momentum, self.trust_coefficient = momentum, trust_coefficient
        self.weight_decay, self.eps = weight_decay, eps
        self.slots = {}

    def step(self, x, g, lr, norms):
        """One update of x, in place.  x, g (n,); lr a Python float; norms: see above."""
        xp = namespace(x)
        if not self.slots:
            self.slots["velocity"] = xp.zeros_like(x)
        v = self.slots["velocity"]
        for own, x_norm, g_norm in norms(x, g):
            ratio = 1.0
            if x_norm and g_norm:
                ratio = self.trust_coefficient * x_norm / (g_norm + self.weight_decay * x_norm + self.eps)
            for s, d, x_, g_, v_ in blocks(x[own], g[own], v[own]):
                xp.multiply(decayed(xp, g_, x_, self.weight_decay, d), ratio, out=s)
                xp.multiply(v_, self.momentum, out=v_)
                xp.add(v_, s, out=v_)
                xp.multiply(v_, lr, out=s)
                xp.subtract(x_, s, out=x_)


class LAMB:
    """r ← m̂ / (√v̂ + ε) + λ x,  m̂ and v̂ Adam's;  x ← x − η (‖x‖ / ‖r‖) r      in each layer

    φ is the identity and λ is 0.01, as in the paper's experiments and NVIDIA's FusedLAMB.

    Reference: You et al. 2020 (arXiv 1904.00962), algorithm 2.
    """

    layerwise = decoupled = True

    def __init__(self, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-6, weight_decay: float = 0.01):
        between(0, 1, beta1=beta1, beta2=beta2)
        between(0, float("inf"), weight_decay=weight_decay)
        positive(eps=eps)
        self.beta1, self.beta2, self.eps, self.weight_decay = beta1, beta2, eps, weight_decay
        self.slots = {}
        self._r = None

    def step(self, x, g, lr, norms):
        """One update of x, in place.  x, g (n,); lr a Python float; norms: see above."""
        xp = namespace(x)
        if self._r is None:
            self._r = xp.zeros_like(x)
        if not self.slots:
            self.slots.update(m=xp.zeros_like(x), v=xp.zeros_like(x))
        a, c = constants(self.beta1, self.beta2, counted(self.slots))
        # r without Adam's factor a/c, which divides out of r/‖r‖
        for s, d, x_, g_, m_, v_, r_ in blocks(x, g, self.slots["m"], self.slots["v"], self._r):
            moments(xp, s, g_, m_, v_, self.beta1, self.beta2)
            xp.sqrt(v_, out=s)
            xp.add(s, self.eps / c, out=s)
            xp.divide(m_, s, out=s if self.weight_decay else r_)
            if self.weight_decay:
                xp.multiply(x_, self.weight_decay * c / a, out=d)
                xp.add(s, d, out=r_)
        for own, x_norm, r_norm in norms(x, self._r):
            size = lr * (x_norm / r_norm if x_norm and r_norm else a / c)
            for s, _, x_, r_ in blocks(x[own], self._r[own]):
                xp.multiply(r_, size, out=s)
                xp.subtract(x_, s, out=x_)
