"""A step size of its own for each parameter, from the squares of its gradients: all of them, or a moving average."""

from math import sqrt

from dsgd.arrays import namespace
from dsgd.optimizers.blocks import between, blocks, counted, decayed, positive


class Adagrad:
    """s ← s + g²;  x ← x − η/(1 + (t − 1) κ) · g / (√s + ε)

    κ is lr_decay and s starts at initial_accumulator_value.  Weight decay λ adds λ x to g.

    Reference: Duchi, Hazan and Singer 2011 (JMLR 12); PyTorch's torch.optim.Adagrad.
    """

    layerwise = decoupled = False

    def __init__(
        self,
        *,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ):
        between(0, float("inf"), lr_decay=lr_decay, weight_decay=weight_decay)
        between(0, float("inf"), initial_accumulator_value=initial_accumulator_value)
        positive(eps=eps)
        self.lr_decay, self.weight_decay, self.eps = lr_decay, weight_decay, eps
        self.initial = initial_accumulator_value
        self.slots = {}

    def step(self, x, g, lr, norms=None):
        """One update of x, in place.  x, g (n,); lr a Python float."""
        xp = namespace(x)
        if not self.slots:
            self.slots["sum"] = xp.zeros_like(x)
            self.slots["sum"] += self.initial
        size = lr / (1 + (counted(self.slots) - 1) * self.lr_decay)
        for s, d, x_, g_, sum_ in blocks(x, g, self.slots["sum"]):
            g_ = decayed(xp, g_, x_, self.weight_decay, d)
            xp.multiply(g_, g_, out=s)
            xp.add(sum_, s, out=sum_)
            xp.sqrt(sum_, out=s)
            xp.add(s, self.eps, out=s)
            xp.divide(g_, s, out=s)
            xp.multiply(s, size, out=s)
            xp.subtract(x_, s, out=x_)


class RMSprop:
    """v ← α v + (1 − α) g²;  x ← x − η g / (√v + ε)

    centered: v − m² in place of v, m ← α m + (1 − α) g.  Momentum μ: b ← μ b + g/(√v + ε), x ← x − η b.
    Weight decay λ adds λ x to g.

    Kept are v/(1 − α), m/(1 − α) and √(1 − α) b: the constants go into ε and the step size, and passes are saved.

    Reference: Tieleman and Hinton 2012 (lecture 6.5); centered: Graves 2013 (arXiv 1308.0850); PyTorch's RMSprop.
    """

    layerwise = decoupled = False

    def __init__(
        self,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        between(0, 1, alpha=alpha, momentum=momentum)
        between(0, float("inf"), weight_decay=weight_decay)
        positive(eps=eps)
        self.alpha, self.eps, self.weight_decay = alpha, eps, weight_decay
        self.momentum, self.centered = momentum, centered
        self.slots = {}

    def step(self, x, g, lr, norms=None):
        """One update of x, in place.  x, g (n,); lr a Python float."""
        xp, root = namespace(x), sqrt(1 - self.alpha)
        if not self.slots:
            names = ["v"] + ["m"] * self.centered + ["velocity"] * bool(self.momentum)
            self.slots.update({name: xp.zeros_like(x) for name in names})
        v, m, b = (self.slots.get(name, x) for name in ("v", "m", "velocity"))  # x stands in for what is not there
        for s, d, x_, g_, v_, m_, b_ in blocks(x, g, v, m, b):
            g_ = decayed(xp, g_, x_, self.weight_decay, d)
            xp.multiply(g_, g_, out=s)
            xp.multiply(v_, self.alpha, out=v_)
            xp.add(v_, s, out=v_)
            if self.centered:
                xp.multiply(m_, self.alpha, out=m_)
                xp.add(m_, g_, out=m_)
                xp.multiply(m_, m_, out=s)
                xp.multiply(s, 1 - self.alpha, out=s)
                xp.subtract(v_, s, out=s)
                xp.sqrt(s, out=s)
            else:
                xp.sqrt(v_, out=s)
            xp.add(s, self.eps / root, out=s)
            xp.divide(g_, s, out=s)
            if self.momentum:
                xp.multiply(b_, self.momentum, out=b_)
                xp.add(b_, s, out=b_)
            xp.multiply(b_ if self.momentum else s, lr / root, out=s)
            xp.subtract(x_, s, out=x_)
