"""Asynchronous training written out: the log of a run, followed by a plain loop."""

import numpy as np

from dsgd.arguments import make
from dsgd.norms import Norms
from dsgd.optimizers import OPTIMIZERS
from dsgd.prepare import prepare
from dsgd.simulator.backend import SimulatorBackend
from dsgd.specs import build


def problem(flags):
    """The Job of these flags."""
    return prepare(make(flags), SimulatorBackend(flags["simulate"]))


def pushes(result):
    """[[worker, push, pulled, into]] of a run that rejected and dropped none."""
    entries = [entry for entry in result.order if isinstance(entry, list)]
    assert [into for *_, into in entries] == list(range(1, len(entries) + 1))
    return entries


def gradient(job, x, t, worker):
    """The mean gradient (n,) at x over this worker's part of global batch t."""
    part, g = job.sampler.part(t, worker), np.zeros_like(x)
    if len(part):
        job.objective.gradient(job.objective.views(x), job.objective.views(g), part, 1 / len(part))
    return g


def followed(flags, entries, change=lambda g, staleness, x, then: g):
    """x (n,) after every push of a log: x ← the optimizer's step with change(g, τ, x, x that it was computed on)."""
    job = problem(flags)
    optimizer, norms = build(flags.get("optimizer", "sgd"), OPTIMIZERS), Norms(job.objective.layout)
    versions = [job.objective.start(job.config.seed, np.dtype(job.config.dtype))]
    for worker, push, pulled, into in entries:
        x, then = np.array(versions[-1]), versions[pulled]
        g = change(gradient(job, then, push, worker), into - 1 - pulled, x, then)
        optimizer.step(x, g, job.lr, norms.lengths)
        versions.append(x)
    return versions[-1]
