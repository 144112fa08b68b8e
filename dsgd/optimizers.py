"""x ← x − η · (direction), with PyTorch's names, defaults and semantics; in place, block by block, on flat vectors.

An optimizer keeps its vectors in `slots`, {name: array}, so that a checkpoint can hold them.  A block of every
vector fits the cache, so each of them crosses memory once a step.
"""

from math import sqrt

import numpy as np

from dsgd.arrays import namespace, scratch
from dsgd.errors import UsageError

BLOCK = 65536  # elements: 256 KiB of float32


def blocks(*vectors):
    """The blocks of vectors of one length, side by side, and a scratch block: (scratch, v0, v1, ...)."""
    n = vectors[0].shape[0]
    spare = scratch(vectors[0], min(n, BLOCK))
    for lo in range(0, n, BLOCK):
        hi = min(lo + BLOCK, n)
        yield spare[: hi - lo], *(v[lo:hi] for v in vectors)


class SGD:
    """v ← μ v + g;  x ← x − η v.   Without momentum (μ = 0) it is x ← x − η g.

    Reference: PyTorch's torch.optim.SGD (dampening 0).
    """

    def __init__(self, *, momentum: float = 0.0):
        if not 0 <= momentum < 1:
            raise UsageError(f"momentum {momentum} is not in [0, 1)")
        self.momentum = momentum
        self.slots = {}

    def step(self, x, g, lr):
        """One update of x, in place.  x, g (n,); lr a Python float."""
        xp = namespace(x)
        if not self.momentum:
            for s, x_, g_ in blocks(x, g):
                xp.multiply(g_, lr, out=s)
                xp.subtract(x_, s, out=x_)
            return
        v = self.slots.setdefault("velocity", None)
        if v is None:
            v = self.slots["velocity"] = xp.zeros_like(x)
        for s, x_, g_, v_ in blocks(x, g, v):
            xp.multiply(v_, self.momentum, out=v_)
            xp.add(v_, g_, out=v_)
            xp.multiply(v_, lr, out=s)
            xp.subtract(x_, s, out=x_)


class Adam:
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  x ← x − η (m/(1 − β₁ᵗ)) / (√(v/(1 − β₂ᵗ)) + ε)

    Reference: Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1; ε where PyTorch has it.
    """

    def __init__(self, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8):
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and eps > 0):
            raise UsageError(f"adam needs 0 <= beta1, beta2 < 1 and eps > 0, not {beta1}, {beta2}, {eps}")
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.slots = {}

    def step(self, x, g, lr):
        """One update of x, in place.  x, g (n,); lr a Python float."""
        xp = namespace(x)
        if not self.slots:
            self.slots = {"m": xp.zeros_like(x), "v": xp.zeros_like(x), "steps": np.zeros(1, np.int64)}
        self.slots["steps"] += 1
        t = int(self.slots["steps"][0])
        size, root = lr / (1 - self.beta1**t), sqrt(1 - self.beta2**t)
        for s, x_, g_, m_, v_ in blocks(x, g, self.slots["m"], self.slots["v"]):
            xp.multiply(m_, self.beta1, out=m_)
            xp.multiply(g_, 1 - self.beta1, out=s)
            xp.add(m_, s, out=m_)
            xp.multiply(g_, g_, out=s)
            xp.multiply(s, 1 - self.beta2, out=s)
            xp.multiply(v_, self.beta2, out=v_)
            xp.add(v_, s, out=v_)
            xp.sqrt(v_, out=s)
            xp.divide(s, root, out=s)
            xp.add(s, self.eps, out=s)
            xp.divide(m_, s, out=s)
            xp.multiply(s, size, out=s)
            xp.subtract(x_, s, out=x_)


OPTIMIZERS = {"sgd": SGD, "adam": Adam}  # in order of increasing complexity
DEFAULT_LR = {"sgd": 0.01, "adam": 0.001}
