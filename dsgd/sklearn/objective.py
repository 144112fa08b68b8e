"""What MLPClassifier and MLPRegressor minimise, as an objective of dsgd.run on arrays in memory.

    L_t(θ) = (1/m) [Σ_i L(x_i; θ) + α/2 Σ W²]      over the m samples of batch t; biases are free

The penalty is divided by the batch, as scikit-learn has it, and so weighs more in a smaller last batch.  A part of b
samples brings b/m of it, so the parts of all workers add up to the whole.

Reference: scikit-learn's user guide, section 1.17.6.
"""

from math import sqrt

import numpy as np

from dsgd.data import Dataset
from dsgd.errors import UsageError
from dsgd.layers import LOSSES
from dsgd.mlp import MLP
from dsgd.objectives import Supervised

EVALUATED = {"test_loss": None, "test_accuracy": None}  # there is no test part


def half_squared_error(z, y, scale, d):
    """L = (1/2C) Σ_c (z_c − y_c)², as it is reported;  d ← scale · (z − y), which is C times its slope.

    Both are scikit-learn's, and differ by that factor where there is more than one output.   z, y, d (B, C)
    """
    np.subtract(z, y, out=d)
    loss = np.vdot(d, d) / (2 * z.shape[1])
    np.multiply(d, scale, out=d)
    return loss


def half_poisson_deviance(z, y, scale, d):
    """L = Σ_c y_c log(y_c/μ_c) − y_c + μ_c with μ = e^z;  ∂L/∂z_c = μ_c − y_c.   z, y, d (B, C)"""
    logs = np.log(y, out=np.zeros_like(y), where=y > 0)
    terms = y * (logs - z) - y
    np.exp(z, out=d)
    loss = np.sum(terms + d)
    np.subtract(d, y, out=d)
    np.multiply(d, scale, out=d)
    return loss


ACTIVATIONS = {"logistic": "sigmoid"}  # of other names here
HALVES = {"squared_error": half_squared_error, "poisson": half_poisson_deviance}


class Samples(Supervised):
    """A network that learns X and y.

    Args:
        net: mlp.MLP.  X: (n, features), dense or a sparse matrix.
        y: class numbers (n,); or 0 and 1, (n, 1) for two classes, (n, labels) for several at once; or values (n, outputs).
        classes: how many; 0 if y is of another kind.  loss: a key of LOSSES or of HALVES.
        init: a spec of mlp.INITS.  alpha: α.
    """

    def __init__(self, net, X, y, *, classes, loss, init, alpha):
        self.sparse = X.tocsr() if hasattr(X, "tocsr") else None
        if self.sparse is not None:
            X = np.broadcast_to(X.dtype.type(0), X.shape)  # its shape and dtype, and no memory
        super().__init__(net, Dataset(X, y, X[:0], y[:0], classes), loss="mse", init=init)
        self.loss, self.alpha = (LOSSES | HALVES)[loss], alpha

    def draw(self, rows, X, y):
        if self.sparse is None:
            return super().draw(rows, X, y)
        self.sparse[rows].toarray(out=X)
        y[:] = self.data.y[rows]

    def inputs(self, rows):
        return super().inputs(rows) if self.sparse is None else self.sparse[rows].toarray()

    def gradient(self, params, grads, batch, scale):
        loss = super().gradient(params, grads, batch, scale)
        if not self.alpha:
            return loss
        share, squares = len(batch) * scale, 0.0
        for name, W in params.items():
            if name.endswith("weight"):
                squares += np.vdot(W, W)
                np.add(grads[name], W * (share * scale * self.alpha), out=grads[name])
        return loss + share * self.alpha / 2 * squares

    def forward(self, params, a, batch, work, layers):
        if self.alpha:  # what follows has no gradient of all layers that the penalty could be added to
            raise UsageError("this algorithm works layer by layer, where alpha has no place; use alpha=0")
        return super().forward(params, a, batch, work, layers)

    def evaluate(self, x):
        return EVALUATED

    def classify(self, x):
        return {}


def make_samples(X, y, hidden, output, loss, activation, alpha):
    """The Samples of scikit-learn's keywords.

    Args:
        X: (n, features).  y: (n, outputs), of classes and labels one column each, of two classes one.
        hidden: widths.  output: out_activation_.  loss: a regressor's.  activation, alpha: its or a classifier's.
    """
    init = f"glorot:gain={sqrt(1 / 3)!r}" if activation == "logistic" else "glorot"  # scikit-learn's bounds
    net = MLP((X.shape[1], *hidden, y.shape[1]), ACTIVATIONS.get(activation, activation))
    classes = 0
    if output == "softmax":
        y, classes, loss = y.argmax(axis=1), y.shape[1], "cross-entropy"
    else:
        y = y.astype(X.dtype)
    if output == "logistic":
        classes, loss = 2 if y.shape[1] == 1 else 0, "binary-cross-entropy"
    return Samples(net, X, y, classes=classes, loss=loss, init=init, alpha=alpha)
