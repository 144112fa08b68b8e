"""Stochastic gradient descent, with momentum."""

from dsgd.arrays import namespace
from dsgd.errors import UsageError
from dsgd.optimizers.blocks import between, blocks, decayed


class SGD:
    """x ← x − η g;  with momentum  v ← μ v + (1 − τ) g,  x ← x − η v  (Nesterov: x ← x − η (g + μ v))

    τ is the dampening; the first velocity is g, undampened.  Weight decay λ adds λ x to g.

    Reference: Robbins and Monro 1951; Polyak 1964; Sutskever et al. 2013; PyTorch's torch.optim.SGD.

    >>> import numpy as np
    >>> x, g = np.array([1.0]), np.array([0.5])
    >>> optimizer = SGD(momentum=0.9)
    >>> for _ in range(2):
    ...     optimizer.step(x, g, lr=0.1)
    >>> x, optimizer.slots["velocity"]  # 1 − 0.05 − 0.095
    (array([0.855]), array([0.95]))
    """

    layerwise = decoupled = False

    def __init__(
        self, *, momentum: float = 0.0, dampening: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ):
        between(0, 1, momentum=momentum, dampening=dampening)
        between(0, float("inf"), weight_decay=weight_decay)
        if nesterov and (not momentum or dampening):
            raise UsageError("nesterov=true needs a momentum and no dampening, as in sgd:momentum=0.9,nesterov=true")
        self.momentum, self.dampening, self.nesterov = momentum, dampening, nesterov
        self.weight_decay = weight_decay
        self.slots = {}

    def step(self, x, g, lr, norms=None):
        """One update of x, in place.  x, g (n,); lr a Python float."""
        xp = namespace(x)
        if not self.momentum:
            for s, d, x_, g_ in blocks(x, g):
                xp.multiply(decayed(xp, g_, x_, self.weight_decay, d), lr, out=s)
                xp.subtract(x_, s, out=x_)
            return
        share = 1 - self.dampening if self.slots else 1
        if not self.slots:
            self.slots["velocity"] = xp.zeros_like(x)
        for s, d, x_, g_, v_ in blocks(x, g, self.slots["velocity"]):
            g_ = decayed(xp, g_, x_, self.weight_decay, d)
            xp.multiply(v_, self.momentum, out=v_)
            xp.add(v_, g_ if share == 1 else xp.multiply(g_, share, out=s), out=v_)
            if self.nesterov:
                xp.multiply(v_, self.momentum, out=s)
                xp.add(s, g_, out=s)
                xp.multiply(s, lr, out=s)
            else:
                xp.multiply(v_, lr, out=s)
            xp.subtract(x_, s, out=x_)
