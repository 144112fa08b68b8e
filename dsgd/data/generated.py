"""Data sets that are made: any size, and the same for the same seed."""

import math

import numpy as np

from dsgd.arrays import rng
from dsgd.data.files import MAX_BYTES
from dsgd.data.prepare import Source
from dsgd.errors import UsageError


def teacher(*, seed, samples: int = 10000, features: int = 64, hidden: int = 32, classes: int = 10, test: float = 0.2):
    """Normal features, labelled by the largest output of a random network features-hidden-classes: any size, seeded."""
    at_least("teacher", 1, samples=samples, features=features, hidden=hidden)
    at_least("teacher", 2, classes=classes)
    fits("teacher", samples, features)
    generator = rng(seed, "teacher")
    X = generator.standard_normal((samples, features), dtype=np.float32)
    inner = np.tanh(X @ generator.standard_normal((features, hidden), dtype=np.float32) / np.float32(features**0.5))
    y = np.argmax(inner @ generator.standard_normal((hidden, classes), dtype=np.float32), axis=1)
    return Source("teacher", X, y, test=test, labels=tuple(range(classes)))


def blobs(*, seed, samples: int = 1000, features: int = 2, classes: int = 3, spread: float = 0.2, test: float = 0.2):
    """Round clouds of the deviation `spread` about centres drawn from the standard normal distribution, one a class."""
    at_least("blobs", 1, samples=samples, features=features)
    at_least("blobs", 2, classes=classes)
    at_least("blobs", 0, spread=spread)
    fits("blobs", samples, features)
    generator = rng(seed, "teacher", 1)
    centres = generator.standard_normal((classes, features))
    y = np.arange(samples) % classes
    X = centres[y] + spread * generator.standard_normal((samples, features))
    return Source("blobs", X, y, test=test, labels=tuple(range(classes)))


def moons(*, seed, samples: int = 1000, noise: float = 0.1, test: float = 0.2):
    """Two half circles that reach into each other: two classes that no straight line parts."""
    at_least("moons", 2, samples=samples)
    at_least("moons", 0, noise=noise)
    fits("moons", samples, 2)
    y = np.arange(samples) % 2
    angle = np.pi * evenly(y, 2)
    upper = np.column_stack([np.cos(angle), np.sin(angle)])
    X = np.where(y[:, None], [1, 0.5] - upper, upper)  # the other half circle stands on its head
    X += noise * rng(seed, "teacher", 2).standard_normal(X.shape)
    return Source("moons", X, y, test=test, labels=(0, 1))


def spirals(*, seed, samples: int = 1000, classes: int = 2, noise: float = 0.02, turns: float = 1.5, test: float = 0.2):
    """Arms wound about one another, one a class: radius r from 0 to 1, angle 2π (turns · r + class / classes)."""
    at_least("spirals", 2, samples=samples, classes=classes)
    at_least("spirals", 0, noise=noise, turns=turns)
    fits("spirals", samples, 2)
    y = np.arange(samples) % classes
    r = evenly(y, classes)
    angle = 2 * np.pi * (turns * r + y / classes)
    X = r[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    X += noise * rng(seed, "teacher", 3).standard_normal(X.shape)
    return Source("spirals", X, y, test=test, labels=tuple(range(classes)))


def linear(*, seed, samples: int = 1000, features: int = 8, outputs: int = 1, noise: float = 0.1, test: float = 0.2):
    """A linear regression, y = X W + noise · N(0, 1), of normal features; `hidden_weights` gives the hidden W."""
    at_least("linear", 1, samples=samples, features=features, outputs=outputs)
    at_least("linear", 0, noise=noise)
    fits("linear", samples, features + outputs)
    X = rng(seed, "teacher", 4).standard_normal((samples, features))
    y = X @ hidden_weights(seed=seed, features=features, outputs=outputs)
    y += noise * rng(seed, "teacher", 6).standard_normal(y.shape)
    return Source("linear", X, y, test=test, target="number")


def hidden_weights(*, seed, features, outputs):
    """W (features, outputs) of `linear`: normal, of the variance 1 / features, so that y has about the variance 1."""
    return rng(seed, "teacher", 5).standard_normal((features, outputs)) / math.sqrt(features)


def evenly(y, classes):
    """(n,) numbers from 0 to 1, evenly spaced within each class of y = 0, 1, …, classes − 1, 0, 1, …"""
    place = np.arange(len(y)) // classes
    return place / max(1, place[-1])


def at_least(name, least, **values):
    """Refuses an option below `least`, or not finite."""
    for option, value in values.items():
        if not least <= value < math.inf:
            raise UsageError(f"{name}:{option}={value} must be at least {least}" + " and finite" * (value > least))


def fits(name, samples, values):
    """Refuses what no memory would hold."""
    if samples * values * 8 > MAX_BYTES:
        raise UsageError(f"{name}: {samples} samples of {values} numbers take more than {MAX_BYTES >> 30} GB")
