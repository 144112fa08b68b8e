"""Adam, and AdamW, which decays the weights apart from the gradient."""

from math import sqrt

from dsgd.arrays import namespace
from dsgd.optimizers.blocks import between, blocks, counted, decayed, positive


def moments(xp, s, g, m, v, beta1, beta2):
    """m ← β₁ m + g;  v ← β₂ v + g².   s: scratch."""
    xp.multiply(m, beta1, out=m)
    xp.add(m, g, out=m)
    xp.multiply(g, g, out=s)
    xp.multiply(v, beta2, out=v)
    xp.add(v, s, out=v)


def constants(beta1, beta2, t):
    """(a, c): m̂ = a m and √v̂ = c √v at step t, m and v kept without their factors 1 − β."""
    return (1 - beta1) / (1 - beta1**t), sqrt((1 - beta2) / (1 - beta2**t))


class Adam:
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  x ← x − η (m/(1 − β₁ᵗ)) / (√(v/(1 − β₂ᵗ)) + ε)

    amsgrad: the largest v so far in place of v.  Weight decay λ adds λ x to g.

    Kept are m/(1 − β₁) and v/(1 − β₂): the constants go into ε and the step size, and three passes are saved.

    Reference: Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1; Reddi, Kale and Kumar 2018; PyTorch's Adam.

    >>> import numpy as np
    >>> x = np.array([1.0, 1.0])
    >>> Adam().step(x, np.array([0.5, -50.0]), lr=0.1)  # the first step is η long in each direction, whatever g is
    >>> x
    array([0.9, 1.1])
    """

    layerwise = False
    decoupled = False  # whether the weights decay apart from the gradient

    def __init__(
        self,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ):
        between(0, 1, beta1=beta1, beta2=beta2)
        between(0, float("inf"), weight_decay=weight_decay)
        positive(eps=eps)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.weight_decay, self.amsgrad = weight_decay, amsgrad
        self.slots = {}

    def step(self, x, g, lr, norms=None):
        """One update of x, in place.  x, g (n,); lr a Python float."""
        xp = namespace(x)
        if not self.slots:
            names = ["m", "v"] + ["largest"] * self.amsgrad
            self.slots.update({name: xp.zeros_like(x) for name in names})
        a, c = constants(self.beta1, self.beta2, counted(self.slots))
        m, v = self.slots["m"], self.slots["v"]
        for s, d, x_, g_, m_, v_, largest_ in blocks(x, g, m, v, self.slots.get("largest", v)):
            if self.decoupled:
                xp.multiply(x_, 1 - lr * self.weight_decay, out=x_)
            else:
                g_ = decayed(xp, g_, x_, self.weight_decay, d)
            moments(xp, s, g_, m_, v_, self.beta1, self.beta2)
            if self.amsgrad:
                xp.maximum(largest_, v_, out=largest_)
            xp.sqrt(largest_, out=s)
            xp.add(s, self.eps / c, out=s)
            xp.divide(m_, s, out=s)
            xp.multiply(s, lr * a / c, out=s)
            xp.subtract(x_, s, out=x_)


class AdamW(Adam):
    """x ← (1 − η λ) x, then Adam's step: the decay is not divided by √v

    Reference: Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2; PyTorch's torch.optim.AdamW.
    """

    decoupled = True

    def __init__(
        self,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
    ):
        super().__init__(beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
