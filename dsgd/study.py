"""What a run learned and from what, by its folder: its network, its data, its shards.  Pictures are made of it."""

from copy import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsgd.algorithms import ALGORITHMS
from dsgd.config import Config
from dsgd.errors import UsageError
from dsgd.metrics import ROWS, decide
from dsgd.objectives import Supervised
from dsgd.prepare import network
from dsgd.records import CHECKPOINTS, holds_run
from dsgd.rerun import read_run
from dsgd.sampling import make_sampler


class Study(NamedTuple):
    """A trained network with the data set it was trained on.   x: (n,), its parameters; ranks: that trained it"""

    folder: str
    config: Config
    objective: Supervised
    x: np.ndarray
    ranks: int


def study(folder):
    """The Study of a run's folder.

    Raises:
        UsageError, DataError, CheckpointError: there is no run, it is damaged, or its data are gone or have changed.
    """
    if not holds_run(Path(folder)):
        raise UsageError(f"{folder} holds no trained network: it has no {CHECKPOINTS[0]}; train anew")
    run = read_run(folder)
    objective, data = network(run.config)
    if data != run.data:
        raise UsageError(f"{folder}: {run.config.data} holds other data now; bring the old back, or train again")
    return Study(run.name, run.config, objective, run.x, run.ranks)


def first_weights(found):
    """W of the first layer, (features, units)."""
    return found.objective.views(found.x)["layer 0 weight"]


def mistakes(found):
    """(images, labels, predictions) of the samples of the test part that the network gets wrong.

    images: (k, features) as the data have them, not scaled.  labels, predictions: k names of classes.

    Raises:
        UsageError: a regression.
    """
    objective, data = found.objective, found.objective.data
    if not data.classes:
        raise UsageError(f"{found.folder}: {found.config.data} has no classes, so nothing is simply wrong")
    X = data.inputs(data.X_test)
    guesses = np.concatenate([decide(objective.predict(found.x, X[lo : lo + ROWS])) for lo in range(0, len(X), ROWS)])
    truth = data.y_test.reshape(len(X)).astype(np.intp)
    wrong = np.flatnonzero(guesses != truth)
    raw = X[wrong].astype(np.float64)
    if data.offset is not None:
        raw = raw / np.where(data.factor == 0, 1, data.factor) + data.offset
    return raw, [data.labels[i] for i in truth[wrong]], [data.labels[i] for i in guesses[wrong]]


def count_labels(found):
    """(workers, classes): how many samples of each class each worker computes on in the first epoch.

    Raises:
        UsageError: a regression, or a run whose controller moved the parts.
    """
    config, labels = found.config, found.objective.labels
    if labels is None:
        raise UsageError(f"{found.folder}: {config.data} has no classes")
    if config.controller:
        raise UsageError(f"{found.folder}: --controller {config.controller} may have moved the workers' parts")
    name, options = config.parse_algorithm()
    workers = len(ALGORITHMS[name].roles(found.ranks, found.objective, **options).workers)
    sampler = make_sampler(
        config.partition, labels=labels, n=len(labels), batch=config.batch_size, seed=config.seed, workers=workers
    )
    counts = np.zeros((workers, found.objective.data.classes), int)
    for t in range(sampler.steps_per_epoch):
        for worker in range(workers):  # who holds a part of x alone computes on the whole batch
            part = sampler.part(t, worker if ALGORITHMS[name].replicas else None)
            np.add.at(counts[worker], labels[part.rows], 1)
    return counts


def losses_between(one, other, alphas):
    """[{"alpha", "train_loss", "test_loss"}] of the networks θ(α) = (1 − α) θ_one + α θ_other, on the data of `one`.

    Reference: Goodfellow, Vinyals and Saxe 2015 (arXiv 1412.6544), section 3.
    Exact when: α = 0 and α = 1 are the two networks, to the bit.

    Raises:
        UsageError: the networks or their data differ.
    """
    if one.objective.net != other.objective.net or one.objective.data.digest() != other.objective.data.digest():
        raise UsageError(
            f"{one.folder} and {other.folder} are of other networks or data: there is no line between them"
        )
    testing, training = one.objective, copy(one.objective)
    training.data = testing.data._replace(X_test=testing.data.X, y_test=testing.data.y)
    ends = {0.0: one.x, 1.0: other.x}
    found = []
    for alpha in map(float, alphas):
        x = ends.get(alpha)
        x = (1 - alpha) * one.x + alpha * other.x if x is None else x
        losses = {f"{part}_loss": on.evaluate(x)["test_loss"] for part, on in (("train", training), ("test", testing))}
        found.append({"alpha": alpha} | losses)
    return found
