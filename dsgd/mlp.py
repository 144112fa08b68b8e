"""The network: one loop forward and one loop backward over a range of layers.  The whole network is the case of all."""

from copy import copy
from math import sqrt
from typing import NamedTuple

import numpy as np

from dsgd.arrays import namespace, rng
from dsgd.layers import ACTIVATIONS, linear, linear_backward
from dsgd.layout import Layout
from dsgd.specs import parse


class MLP(NamedTuple):
    """What the network is.  Layer l maps widths[l] to widths[l + 1]; all but the last are followed by the activation.

    >>> net = MLP((64, 32, 10))
    >>> net.layout().shapes
    {'layer 0 weight': (64, 32), 'layer 0 bias': (32,), 'layer 1 weight': (32, 10), 'layer 1 bias': (10,)}
    >>> net.layout().size  # (64 + 1) 32 + (32 + 1) 10
    2410
    """

    widths: tuple
    activation: str = "relu"
    dropout: float = 0.0  # probability that a hidden unit is dropped, see dropout.py

    @property
    def depth(self):
        return len(self.widths) - 1

    def layout(self):
        """W and b of layer 0, of layer 1, ...: a range of layers is a range of the vector."""
        shapes = {}
        for l, (n_in, n_out) in enumerate(zip(self.widths, self.widths[1:])):
            shapes |= {f"layer {l} weight": (n_in, n_out), f"layer {l} bias": (n_out,)}
        return Layout(shapes)


def names(layers):
    """The arrays of a range of layers, in the vector's order."""
    return [f"layer {l} {part}" for l in layers for part in ("weight", "bias")]


def he(generator, n_in, n_out, *, gain: float = 1.0):
    """W ~ N(0, gain² 2/n_in): keeps the variance through ReLU layers.  He et al. 2015 (arXiv 1502.01852), eq. 10"""
    return generator.standard_normal((n_in, n_out)) * (gain * sqrt(2 / n_in))


def glorot(generator, n_in, n_out, *, gain: float = 1.0):
    """W ~ U(−a, a), a = gain √(6/(n_in + n_out)).  Glorot and Bengio 2010, eq. 16"""
    limit = gain * sqrt(6 / (n_in + n_out))
    return generator.uniform(-limit, limit, (n_in, n_out))


INITS = {"he": he, "glorot": glorot}


def initial(net, scheme, seed, dtype):
    """x_0, one flat vector: a function of the network and the seed, never of the number of workers.  Biases are 0.

    scheme: a key of INITS, with its options.
    """
    name, options = parse(scheme, INITS, "--init")
    layout = net.layout()
    x = np.zeros(layout.size, dtype)
    for l, W in enumerate(list(layout.views(x).values())[::2]):
        W[:] = INITS[name](rng(seed, "init", l), *W.shape, **options)
    return x


class Workspace:
    """The arrays of one pass with B rows.

    Attributes:
        a: {l: (B, widths[l])}, the input of layer l, that is the output of the layer before, after its dropout.
        z: {l: (B, widths[l])}, what that output was before the activation; a[l] itself unless the slope is a function of z.
        h: {l: (B, widths[l])}, what it was before the dropout; a[l] itself without dropout.
        d: {l: (B, widths[l])}, ∂loss/∂a[l].

    The network's output lies column by column: the loss then works along the rows of its classes.

    Args:
        like: an array whose dtype and device they take.  dropout: whether the pass drops units.
    """

    def __init__(self, net, rows, like, layers=None, dropout=False):
        xp = namespace(like)
        layers = range(net.depth) if layers is None else layers
        keeps_z = not ACTIVATIONS[net.activation].of_output

        def empty(l):
            return xp.empty((rows, net.widths[l]), dtype=like.dtype)

        hidden = [l + 1 for l in layers if l < net.depth - 1]
        self.a = {l: empty(l) for l in hidden}
        self.h = self.a | ({l: empty(l) for l in hidden} if dropout else {})
        self.z = self.h | ({l: empty(l) for l in hidden} if keeps_z else {})
        self.d = {l: empty(l) for l in layers if l > 0}
        self.ones = xp.ones(rows, dtype=like.dtype)
        self.masks = None  # of the dropout, {l: (B, widths[l + 1])}, drawn on the way forward
        self._last, self._columns = net.depth, net.widths[-1]
        self._output = empty(net.depth).reshape(-1) if net.depth - 1 in layers else None
        self._lay_out(rows)

    def _lay_out(self, rows):
        """Make the output's memory (rows, C), column by column and without gaps: bits must not depend on earlier passes."""
        if self._output is not None:
            columns = self._output[: rows * self._columns].reshape(self._columns, rows)
            self.a[self._last] = self.h[self._last] = self.z[self._last] = columns.T

    def part(self, rows):
        """The first rows of the same memory, as a workspace of its own."""
        part = copy(self)
        for name in "ahzd":
            setattr(part, name, {l: array[:rows] for l, array in getattr(self, name).items()})
        part.ones = self.ones[:rows]
        part._lay_out(rows)
        return part


def forward(net, params, a0, work, layers):
    """Run `layers` on their input a0 (B, n_in); returns the last one's output, (B, n_out)."""
    activate = ACTIVATIONS[net.activation].forward
    work.a[layers[0]] = a0
    for l in layers:
        z, h = work.z[l + 1], work.h[l + 1]
        linear(work.a[l], params[f"layer {l} weight"], params[f"layer {l} bias"], z)
        if l < net.depth - 1:
            activate(z, h)
            if work.masks:
                namespace(h).multiply(h, work.masks[l], out=work.a[l + 1])
    return work.a[l + 1]


def backward(net, params, grads, d, work, layers):
    """The chain rule over `layers`, last to first: writes `grads`, returns ∂loss/∂(their input), None for layer 0.

    d (B, n_out): ∂loss/∂(output of the last of the layers).  Gradients are assigned, never accumulated.
    """
    activation = ACTIVATIONS[net.activation]
    for l in reversed(layers):
        if l < net.depth - 1:
            if work.masks:
                namespace(d).multiply(d, work.masks[l], out=d)
            activation.backward(d, work.h[l + 1] if activation.of_output else work.z[l + 1])
        W, dx = params[f"layer {l} weight"], work.d.get(l)
        linear_backward(d, work.a[l], W, work.ones, grads[f"layer {l} weight"], grads[f"layer {l} bias"], dx)
        d = dx
    return d
