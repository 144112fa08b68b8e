"""What is minimised: L(θ) = (1/n) Σ_i L(x_i; θ), and the gradient of any of its terms.

An objective has `samples` (n), `layout`, `start(seed, dtype)`, `gradient`, `evaluate` and `flops(rows)`.
A quadratic is a drop-in for the network: that is how convergence theory is tested.
"""

import numpy as np

from dsgd.arrays import rng
from dsgd.layers import LOSSES
from dsgd.layout import Layout
from dsgd.mlp import Workspace, backward, forward, initial, names


class Classification:
    """A network on a data set.  One object serves every rank of a process: it holds no parameters.

    Args:
        net: mlp.MLP.  data: data.Dataset.  loss: a name in LOSSES.  init: a name in INITS.
    """

    def __init__(self, net, data, *, loss, init):
        self.net, self.data, self.init = net, data, init
        self.loss = LOSSES[loss]
        self.layout = net.layout()
        self.samples = len(data.X)
        self.layers = range(net.depth)
        self._weights = [a * b for a, b in zip(net.widths, net.widths[1:])]
        self._passes = {}  # rows -> (batch, targets, workspace); a gradient is never interrupted, so ranks can share them

    def start(self, seed, dtype):
        """x_0 (n,)."""
        return initial(self.net, self.init, seed, dtype)

    def flops(self, rows, layers=None):
        """Multiplications and additions of a gradient over `rows` samples: 2 per weight forward, 4 backward."""
        return 6 * rows * sum(self._weights if layers is None else self._weights[layers[0] : layers[-1] + 1])

    def draw(self, rows):
        """The samples `rows` (B,) as arrays (X (B, n_in), y (B,) or (B, n_out)), valid until the next draw of B rows."""
        if len(rows) not in self._passes:
            X, y = self.data.X, self.data.y
            self._passes[len(rows)] = (
                np.empty((len(rows), *X.shape[1:]), X.dtype),
                np.empty((len(rows), *y.shape[1:]), y.dtype),
                Workspace(self.net, len(rows), X),
            )
        batch, targets, _ = self._passes[len(rows)]
        np.take(self.data.X, rows, axis=0, out=batch, mode="clip")  # clip: rows are valid, and NumPy then skips a copy
        np.take(self.data.y, rows, axis=0, out=targets, mode="clip")
        return batch, targets

    def views(self, flat, layers=None, offset=0):
        """Named views of a parameter or gradient vector, or of the range of it that holds `layers`."""
        return self.layout.views(flat, None if layers is None else names(layers), offset)

    def gradient(self, params, grads, rows, scale):
        """grads ← scale · Σ ∇L(x_i; θ) over `rows` (B,); returns Σ L(x_i; θ), a 0-d array.

        params, grads: views of θ and of where the gradient goes.
        """
        X, y = self.draw(rows)
        work = self._passes[len(rows)][2]
        z = forward(self.net, params, X, work, self.layers)
        loss = self.loss(z, y, scale, z)
        backward(self.net, params, grads, z, work, self.layers)
        return loss

    def workspace(self, rows, like, layers):
        """Arrays for a pass of one rank through its own layers, which other ranks' passes may interrupt."""
        return Workspace(self.net, rows, like, layers)

    def forward(self, params, a, work, layers):
        """The output of `layers` for their input a (B, n_in)."""
        return forward(self.net, params, a, work, layers)

    def backward(self, params, grads, d, work, layers):
        """Gradients of `layers` from d (B, n_out); returns ∂loss/∂(their input)."""
        return backward(self.net, params, grads, d, work, layers)

    def evaluate(self, x):
        """{"test_loss", "test_accuracy"} of parameters x on the test part; accuracy is None for regression."""
        X, y, params = self.data.X_test, self.data.y_test, self.views(x)
        loss, right = 0.0, 0
        for lo in range(0, len(X), 1000):
            part, target = X[lo : lo + 1000], y[lo : lo + 1000]
            z = forward(self.net, params, part, Workspace(self.net, len(part), X), self.layers)
            if self.data.classes:
                right += int(np.sum(np.argmax(z, axis=1) == target))
            loss += float(self.loss(z, target, 1.0, z))
        return {"test_loss": loss / len(X), "test_accuracy": right / len(X) if self.data.classes else None}


class Quadratic:
    """L(x_i; θ) = ½ λ ‖θ − c_i‖², c_i drawn once from N(0, I): the gradient is λ (θ − c_i), the minimum the mean of c.

    Args:
        size: elements of θ.  samples: n.  curvature: λ.  seed: of the c_i.
    """

    def __init__(
        self, *, size: int = 10, samples: int = 1000, curvature: float = 1.0, seed: int = 0, dtype: str = "float64"
    ):
        self.layout, self.samples, self.curvature = Layout({"theta": (size,)}), samples, curvature
        self.centres = rng(seed, "quadratic").standard_normal((samples, size)).astype(dtype)

    def start(self, seed, dtype):
        return np.ones(self.layout.size, dtype)

    def flops(self, rows, layers=None):
        return 3 * rows * self.layout.size

    def views(self, flat, layers=None, offset=0):
        return flat

    def gradient(self, params, grads, rows, scale):
        apart = params - self.centres[rows]
        np.multiply(apart.sum(axis=0), scale * self.curvature, out=grads)
        return 0.5 * self.curvature * np.vdot(apart, apart)

    def evaluate(self, x):
        apart = x - self.centres
        return {"test_loss": float(0.5 * self.curvature * np.vdot(apart, apart) / self.samples), "test_accuracy": None}
