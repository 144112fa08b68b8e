"""What is minimised: L(θ) = (1/n) Σ_i L(x_i; θ), and the gradient of any of its terms.  Penalties: see update.py.

An objective has `samples` (n), `layout`, `labels`, `start(seed, dtype)`, `gradient`, `evaluate` and `flops(rows)`.
A quadratic is a drop-in for the network: that is how convergence theory is tested.
"""

from functools import partial

import numpy as np

from dsgd.arrays import address, fill, namespace, on_host, readonly, rng, take, to_host
from dsgd.dropout import masks
from dsgd.layers import LOSSES
from dsgd.layout import Layout
from dsgd.metrics import classify, evaluate
from dsgd.mlp import Workspace, backward, forward, initial, names


class Supervised:
    """A network that learns a data set.  One object serves every rank of a process: it holds no parameters.

    Args:
        net: mlp.MLP.  data: data.Dataset.  loss: a name in LOSSES.  init: a spec of mlp.INITS.
        seed: of the dropout.
    """

    def __init__(self, net, data, *, loss, init="he", seed=0):
        if loss == "binary-cross-entropy":  # one logit, whose target is a number
            data = data._replace(y=_column(data.y, data.dtype), y_test=_column(data.y_test, data.dtype))
        self.net, self.data, self.init, self.seed = net, data, init, seed
        self.loss = LOSSES[loss]
        self.layout, self._starts = net.layout(), {}  # (seed, dtype) -> x_0
        self.samples = len(data.X)
        self.layers = range(net.depth)
        self._weights = [a * b for a, b in zip(net.widths, net.widths[1:])]
        self._largest = None  # (batch, targets, workspace) for as many rows as a pass has had so far
        self._passes = {}  # rows -> the same for that many; a gradient is never interrupted, so ranks can share them
        self._rows = {}  # rows -> their numbers on the device of the data
        self.replay = None  # graph.Replay, where a step is captured

    @property
    def labels(self):
        """Class numbers (n,) of the training samples, None for a regression."""
        return to_host(self.data.y).reshape(self.samples).astype(np.intp) if self.data.classes else None

    def place(self, xp):
        """Keep the samples on the device whose arrays xp makes; targets of the test part stay, they are compared here."""
        moved = {part: xp.asarray(getattr(self.data, part)) for part in ("X", "y", "X_test")}
        self.data = self.data._replace(**moved)

    def start(self, seed, dtype):
        """x_0 (n,), read-only: the same array for all ranks of a process."""
        if (seed, dtype) not in self._starts:
            self._starts[seed, dtype] = readonly(initial(self.net, self.init, seed, dtype))
        return self._starts[seed, dtype]

    def flops(self, rows, layers=None):
        """Multiplications and additions of a gradient over `rows` samples: 2 per weight forward, 4 backward."""
        return 6 * rows * sum(self._weights if layers is None else self._weights[layers[0] : layers[-1] + 1])

    def draw(self, rows, X, y):
        """X (B, n_in), y (B,) or (B, n_out) ← the samples `rows` (B,), whose numbers lie on the device of the data."""
        self.data.gather(rows, X)
        take(self.data.y, rows, out=y)

    def numbers(self, rows):
        """`rows` (B,) on the device of the data, in memory that is kept for as many."""
        if on_host(self.data.X):
            return rows
        if len(rows) not in self._rows:
            self._rows[len(rows)] = namespace(self.data.X).empty(len(rows), dtype=rows.dtype)
        fill(self._rows[len(rows)], rows)
        return self._rows[len(rows)]

    def inputs(self, rows):
        """The features of the samples `rows`, (B, n_in), in memory of their own."""
        return self.data.inputs(take(self.data.X, self.numbers(rows)))

    def targets(self, rows):
        """Their class numbers (B,), or values (B, n_out), in memory of their own."""
        return take(self.data.y, self.numbers(rows))

    def _arrays(self, rows):
        """(batch, targets, workspace): the first rows of the largest.  Shards give parts of many sizes, which add up."""
        if self._largest is None or rows > len(self._largest[0]):
            data, xp = self.data, namespace(self.data.X)
            batch = xp.empty((rows, data.X.shape[1]), dtype=data.dtype)
            targets = xp.empty((rows, *data.y.shape[1:]), dtype=data.y.dtype)
            self._largest = batch, targets, self.workspace(rows, batch, self.layers)
            self._passes.clear()
        batch, targets, work = self._largest
        return batch[:rows], targets[:rows], work.part(rows)

    def views(self, flat, layers=None, offset=0):
        """Named views of a parameter or gradient vector, or of the range of it that holds `layers`."""
        return self.layout.views(flat, None if layers is None else names(layers), offset)

    def gradient(self, params, grads, batch, scale):
        """grads ← scale · Σ ∇L(x_i; θ) over the samples of `batch`; returns Σ L(x_i; θ), a 0-d array.

        params, grads: views of θ and of where the gradient goes.  batch: sampling.Batch.
        """
        if len(batch) not in self._passes:
            self._passes[len(batch)] = self._arrays(len(batch))
        rows, (X, y, work) = self.numbers(batch.rows), self._passes[len(batch)]
        self._drop(batch, work, self.layers, X)
        compute = partial(self._gradient, params, grads, rows, X, y, work, scale)
        if self.replay is None:
            return compute()
        where = (address(next(iter(views.values()))) for views in (params, grads))
        return self.replay((*where, address(X), len(batch), scale), compute)

    def _gradient(self, params, grads, rows, X, y, work, scale):
        """What a captured step holds: all of it on one device, and all that it computes with given."""
        self.draw(rows, X, y)
        z = forward(self.net, params, X, work, self.layers)
        loss = self.loss(z, y, scale, z)
        self.backward(params, grads, z, work, self.layers)
        return loss

    def workspace(self, rows, like, layers):
        """Arrays for a pass through `layers`; a rank whose passes others may interrupt has one of its own."""
        return Workspace(self.net, rows, like, layers, self.net.dropout > 0)

    def forward(self, params, a, batch, work, layers):
        """The output of `layers` for their input a (B, n_in); which units it drops stays in `work`."""
        self._drop(batch, work, layers, a)
        return forward(self.net, params, a, work, layers)

    def _drop(self, batch, work, layers, like):
        """Draw which units are dropped; `like` has the dtype and the device of the activations."""
        if self.net.dropout:
            work.masks = masks(self.net.dropout, self.seed, batch, self.net.widths, layers, like, work.masks)

    def backward(self, params, grads, d, work, layers):
        """Gradients of `layers` from d (B, n_out); returns ∂loss/∂(their input)."""
        return backward(self.net, params, grads, d, work, layers)

    def predict(self, x, X):
        """The network's output (B, n_out) for samples X (B, n_in), with parameters x; nothing is dropped."""
        work = Workspace(self.net, len(X), X)
        return forward(self.net, self.views(x), X, work, self.layers)

    def evaluate(self, x):
        """What parameters x are worth on the test part: see metrics.evaluate."""
        return evaluate(self, namespace(self.data.X).asarray(x))

    def describe(self):
        """What a prediction needs beside the parameters, for JSON."""
        data = self.data
        scaled = {
            key: None if getattr(data, key) is None else getattr(data, key).tolist() for key in ("offset", "factor")
        }
        return {"widths": self.net.widths, "activation": self.net.activation, "labels": data.labels} | scaled

    def classify(self, x):
        """How parameters x take each class of the test part: see metrics.classify; {} for a regression."""
        return classify(self, namespace(self.data.X).asarray(x)) if self.data.classes else {}


def _column(y, dtype):
    return y.reshape(-1, 1).astype(dtype)


class Quadratic:
    """L(x_i; θ) = ½ λ ‖θ − c_i‖², c_i drawn once from N(0, I): the gradient is λ (θ − c_i), the minimum the mean of c.

    Args:
        size: elements of θ.  samples: n.  curvature: λ.  seed: of the c_i.

    >>> import dsgd
    >>> task = dsgd.Quadratic(size=3, samples=100, curvature=2.0)
    >>> result = dsgd.run(objective=task, simulate=4, optimizer="sgd", lr=0.1, batch_size=100, steps=200)
    >>> bool(abs(result.params - task.centres.mean(axis=0)).max() < 1e-6)
    True
    """

    def __init__(
        self, *, size: int = 10, samples: int = 1000, curvature: float = 1.0, seed: int = 0, dtype: str = "float64"
    ):
        self.layout, self.samples, self.curvature = Layout({"theta": (size,)}), samples, curvature
        self.labels = None
        self.centres = rng(seed, "quadratic").standard_normal((samples, size)).astype(dtype)

    def start(self, seed, dtype):
        return np.ones(self.layout.size, dtype)

    def flops(self, rows, layers=None):
        return 3 * rows * self.layout.size

    def views(self, flat, layers=None, offset=0):
        return flat

    def gradient(self, params, grads, batch, scale):
        apart = params - self.centres[batch.rows]
        np.multiply(apart.sum(axis=0), scale * self.curvature, out=grads)
        return 0.5 * self.curvature * np.vdot(apart, apart)

    def evaluate(self, x):
        apart = x - self.centres
        return {"test_loss": float(0.5 * self.curvature * np.vdot(apart, apart) / self.samples), "test_accuracy": None}

    def classify(self, x):
        return {}

    def describe(self):
        return {}
