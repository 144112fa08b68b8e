"""One rank's share of the problem: its part of each global batch, and the gradient over it."""

from functools import partial
from math import isfinite

import numpy as np

from dsgd.arrays import address, namespace, on_host, rng, to_host, writable
from dsgd.state import BAD, HEAD, LOSS, SAMPLES, STOP
from dsgd.watch import REMEDY


class Local:
    """What an algorithm sees of data and network.

    Args:
        comm: this rank's communicator.  objective: see objectives.  sampler: see sampling.
        rest: an asynchronous algorithm lets all ranks come to rest every so many steps, so that they can be saved;
            0 for only at the end.  wish: not empty once a signal asked to stop after this step.
        strikes: strike.Strikes, faults on purpose; None without.
        order: order.Order, of the pushes of a parameter server; None for algorithms without.  seed: the run's.
        controller: (name, function), what changes the settings of a parameter server; None for nothing.

    Attributes:
        update: update.Update of all of x, for a worker that trains an x of its own.
        shares: (N,), of each worker in the global batches, if they were changed.
    """

    def __init__(self, comm, objective, sampler, rest=0, wish=(), strikes=None, order=None, seed=0, controller=None):
        self.comm, self.objective, self.sampler = comm, objective, sampler
        self.computed = 0  # samples whose gradient this rank computed, counted here and nowhere else
        # where its last gradient was not finite: (step, first element of x or -1 for the loss, how many elements)
        self.fault = None
        self.rest, self.wish, self.strikes, self.order, self.seed = rest, wish, strikes, order, seed
        self.controller, self.shares = controller, None
        self.update = None
        self._unseen = None  # what was signed on a device, where nobody looked for the fault
        self._packet = self._grads = None  # made for the first gradient, and kept
        self._views = (None, None)

    def samples(self, t):
        """m: samples in global batch t."""
        return self.sampler.samples(t)

    def share(self, t):
        """Samples in this worker's part of global batch t; may be 0."""
        return len(self.part(t))

    def part(self, t):
        """This worker's part of global batch t, a sampling.Batch; may be empty."""
        return self.sampler.part(t, self.comm.worker, self.shares)

    def draw(self, worker, push):
        """A numpy Generator for what is decided by chance about this push: a function of the seed and these alone."""
        return rng(self.seed, "consistency", worker, push)

    def batch(self, t):
        """The whole global batch t, a sampling.Batch."""
        return self.sampler.part(t)

    def gradient(self, x, t, scale, unless=None):
        """A packet (4 + n,): scale · Σ ∇L(x_i; θ) over this worker's part of global batch t, behind its four numbers.

        The buffer is this rank's and is written again by the next call.   unless: see Comm.compute
        """
        batch = self.part(t)
        return self.comm.compute(lambda: self._gradient(x, batch, scale), t, self.objective.flops(len(batch)), unless)

    def _gradient(self, x, batch, scale):
        if self._packet is None:
            self._packet = self.comm.empty(HEAD + self.objective.layout.size)
            self._grads = self.objective.views(self._packet[HEAD:])
        packet, loss = self._packet, 0
        self.computed += len(batch)
        if len(batch):
            loss = self.objective.gradient(self.params(x), self._grads, batch, scale)
        else:
            packet[HEAD:] = 0
        return self.sign(packet, packet[HEAD:], batch.step, len(batch), loss)

    def sign(self, packet, g, t, samples, loss, offset=0, unsent=None):
        """Write the four numbers in front of a packet, for the gradient g of the range of x that begins at `offset`.

        unsent: the part of g that is not under way yet, and so may still be changed by a fault; None for all.
        """
        if self.strikes:
            self.strikes.poison(g if unsent is None else unsent, t)
        if on_host(g):
            packet[SAMPLES], packet[LOSS], packet[STOP] = samples, loss, bool(self.wish)
            packet[BAD] = self._check(g, t, offset, loss)
        else:
            self.fault, self._unseen = None, (self._sign_there(packet, g, samples, loss), g, t, offset, loss)
        return packet

    def _sign_there(self, packet, g, samples, loss):
        """The same on a device, without a look at the numbers; returns whether one is not finite, an array there."""
        mark, replay = partial(_mark, packet, g, samples, loss), self.objective.replay
        if replay is None or not hasattr(loss, "shape"):
            bad = mark()
        else:
            bad = replay((address(packet), address(g), address(loss), samples), mark)
        if self.wish:
            packet[STOP] = 1
        return bad

    def find_fault(self):
        """`fault`, for which a gradient on a device is looked through only now."""
        bad, g, t, offset, loss = self._unseen or (None,) * 5
        if bad is not None and to_host(bad):
            self._check(to_host(g), t, offset, to_host(loss) if hasattr(loss, "shape") else loss)
        return self.fault

    def _check(self, g, t, offset, loss):
        """1 if g or the loss is not finite.  The dot product is one fast pass; only if it overflows look closer."""
        self.fault = None  # that of an earlier gradient, whose push was rejected, says nothing about this one
        if isfinite(np.dot(g, g)) and isfinite(loss):
            return 0
        bad = np.flatnonzero(~np.isfinite(g))
        if len(bad):
            self.fault = (t + 1, int(bad[0]) + offset, len(bad))
        elif not isfinite(loss):
            self.fault = (t + 1, -1, 1)
        return int(self.fault is not None)

    def describe_push(self, message):
        """The same for a push whose numbers are not finite, as far as a server sees it."""
        bad = np.flatnonzero(~np.isfinite(message.data[HEAD:]))
        return self.describe_fault(message.source, (message.header.step + 1, bad[0] if len(bad) else -1, len(bad)))

    def describe_fault(self, rank, fault):
        """A sentence.   fault: (step, first element of x or -1 for the loss, how many elements)"""
        step, element, elements = map(int, fault)
        what = "the loss is not finite"
        if element >= 0:
            many = "a value that is not finite"
            if elements > 1:
                many = f"{elements} values that are not finite, the first of them here"
            what = f"{self.objective.layout.name_at(element)}: the gradient has {many}"
        return f"rank {rank}, step {step}, {what}, so the run stops; exploding gradients: {REMEDY['exploding']}"

    def stage(self, layers, x):
        """This rank's own layers, whose parameters are x."""
        return Stage(self, layers, x)

    def params(self, x):
        """Named views of x, made once for as long as it is the same array."""
        if self._views[0] is not x:
            self._views = (x, self.objective.views(x))
        return self._views[1]


def _mark(packet, g, samples, loss):
    """Write the four numbers of a gradient g there, on a device, and return the third."""
    xp = namespace(g)
    finite = xp.all(xp.isfinite(g))
    if hasattr(loss, "shape"):
        finite = xp.logical_and(finite, xp.isfinite(loss))
    packet[SAMPLES], packet[LOSS], packet[STOP] = samples, loss, 0
    bad = xp.logical_not(finite)
    packet[BAD] = bad
    return bad


class Stage:
    """A range of layers on one rank: their outputs, their deltas and the gradient of their own range of x.

    Attributes:
        packet: (4 + n_own,), the gradient `g` behind its four numbers.
    """

    def __init__(self, local, layers, x):
        self.local, self.layers, self.x = local, layers, x
        self.offset = local.objective.layout.starts[f"layer {layers[0]} weight"]
        self.packet = local.comm.empty(HEAD + len(x))
        self.g = self.packet[HEAD:]
        self._params = local.objective.views(x, layers, self.offset)
        self._grads = local.objective.views(self.g, layers, self.offset)
        self._works, self._widths = {}, local.objective.net.widths

    def inputs(self, batch):
        """What layer 0 starts from, (B, features)."""
        return self.local.objective.inputs(batch.rows)

    def forward(self, a, batch):
        """The output (B, n_out) of the own layers for their input a, B · n_in numbers.

        batch: the whole global batch, or a part of it; several of its micro-batches may be under way at once.
        """
        self.local.computed += len(batch)
        key = len(batch), batch.first
        if key not in self._works:
            self._works[key] = self.local.objective.workspace(len(batch), self.x, self.layers)
        a = a.reshape(len(batch), self._widths[self.layers[0]])
        return self._compute(1 / 3, batch, self.layers, lambda o, w: o.forward(self._params, a, batch, w, self.layers))

    def loss(self, z, batch, scale):
        """(Σ L, scale · ∂L/∂z) for the network's output z (B, n_out), which is overwritten."""
        objective = self.local.objective
        return objective.loss(z, objective.targets(batch.rows), scale, z), z

    def backward(self, d, batch, layers=None):
        """∂loss/∂(input of the own layers) from d, B · n_out numbers; the own gradient goes to `g`.

        layers: some of the own, behind which d is; None for all.
        """
        layers = layers or self.layers
        d = writable(d.reshape(len(batch), self._widths[layers[-1] + 1]))
        return self._compute(2 / 3, batch, layers, lambda o, w: o.backward(self._params, self._grads, d, w, layers))

    def sign(self, t, samples, loss, unsent=None):
        """The packet of this step: see Local.sign."""
        return self.local.sign(self.packet, self.g, t, samples, loss, self.offset, unsent)

    def _compute(self, portion, batch, layers, work):
        """work(objective, workspace), as the portion of a gradient's operations in `layers` that it is."""
        objective, arrays = self.local.objective, self._works[len(batch), batch.first]
        part = portion * objective.flops(1, layers) / objective.flops(1)
        whole = objective.flops(len(batch))
        return self.local.comm.compute(lambda: work(objective, arrays), batch.step, whole, part=part)
