"""From what was read or made to what is trained on: labels numbered, a test part held back, features scaled.

X = (raw − offset) · factor        offset and factor measured on the training part, applied to both
"""

import hashlib
from typing import NamedTuple

import numpy as np

from dsgd.arrays import namespace, rng, take
from dsgd.data.labels import TARGETS, class_numbers, classes_of, finite, is_class
from dsgd.errors import DataError, UsageError
from dsgd.specs import choose

BLOCK = 1 << 18  # elements that are widened to float64 at a time


class Dataset(NamedTuple):
    """X (n, features) of the run's dtype, or bytes; y (n,) class numbers, or (n, outputs) values; the same for the test part.

    unit: what bytes are multiplied by when a batch is gathered, a number of the run's dtype; None where X is of it already.
    labels: the names of the classes (str or int) in the order of their numbers; () for regression.
    offset, factor: (features,) float64, X = (raw - offset) * factor; both None where X is what was read or made.
    """

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    classes: int  # 0 for regression
    labels: tuple = ()
    offset: np.ndarray | None = None
    factor: np.ndarray | None = None
    unit: np.floating | None = None

    @property
    def outputs(self):
        return self.classes or self.y.shape[1]

    @property
    def dtype(self):
        return self.X.dtype if self.unit is None else self.unit.dtype

    def inputs(self, X):
        """Rows of X or X_test, (B, features), as the network takes them: of `dtype`."""
        return X if self.unit is None else namespace(X).multiply(X, float(self.unit), dtype=self.dtype)

    def gather(self, rows, out):
        """inputs(X[rows]) in `out` (B, features).  A byte is read where a float32 would take four."""
        if self.unit is None:
            take(self.X, rows, out)
        else:
            out[:] = take(self.X, rows)
            namespace(out).multiply(out, float(self.unit), out=out)

    def digest(self):
        """sha256 over all four arrays, as the network takes them: what the ranks of a run must have in common."""
        sha = hashlib.sha256()
        for X, y in ((self.X, self.y), (self.X_test, self.y_test)):
            sha.update(f"{self.dtype}{X.shape}".encode())
            for block in blocks(X):
                sha.update(np.ascontiguousarray(self.inputs(X[block])))
            sha.update(f"{y.dtype}{y.shape}".encode())
            sha.update(np.ascontiguousarray(y))
        return sha.hexdigest()


class Source(NamedTuple):
    """What a reader has read or a generator made, and what is to be done with it.

    X: (n, ...) numbers.  y: (n,) labels or (n, ...) numbers, or None.  X_test, y_test: the same, or None: then the
    fraction `test` is held back.  scale: a key of SCALES, or a number that all features are multiplied by.
    target: a key of TARGETS.  labels: the classes, if they are known.  names: of the features, if they have any.
    """

    path: str
    X: np.ndarray
    y: np.ndarray | None
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    test: float = 0.2
    scale: str | float = "none"
    target: str = "auto"
    labels: tuple = ()
    names: tuple = ()


def dataset_of(source, *, seed, dtype):
    """The Dataset of a Source.

    Raises:
        DataError: data that cannot be trained on.  UsageError: an option that has no such value.
    """
    path, X, y, X_test, y_test = source[:5]
    if y is None or (X_test is None) != (y_test is None):
        what = "there are features and no labels" if y is None else "the test part has features or labels only"
        raise DataError(
            path, what, "X goes with y, X_test with y_test; images go with labels, test_images with test_labels"
        )
    X = rows(path, "X", X, "y", y, dtype)
    if X_test is not None:
        X_test = rows(path, "X_test", X_test, "y_test", y_test, dtype)
        if X.shape[1] != X_test.shape[1]:
            raise DataError(path, f"the training part has {X.shape[1]} features and the test part {X_test.shape[1]}")
    y, y_test, labels = numbered(source, dtype)
    if X_test is None:
        train, held = split(len(X), source.test, seed)
        X, y, X_test, y_test = X[train], y[train], X[held], y[held]
    elif y.shape[1:] != y_test.shape[1:]:
        raise DataError(path, f"the training part has {y.shape[1]} outputs and the test part {y_test.shape[1]}")
    offset, factor = fit(path, source.scale, X, dtype)
    if isinstance(source.scale, float) and X.dtype == X_test.dtype == np.uint8:
        return Dataset(X, y, X_test, y_test, len(labels), labels, offset, factor, dtype(source.scale))
    X, X_test = rescale(X, offset, factor, dtype), rescale(X_test, offset, factor, dtype)
    for name, part in (("X", X), ("X_test", X_test)):
        finite(path, f"the scaled {name}", part, dtype)
    return Dataset(X, y, X_test, y_test, len(labels), labels, offset, factor)


def rows(path, name, X, name_y, y, dtype):
    """X as (n, features), after a look at both shapes and at every value."""
    if not (X.ndim and y.ndim and X.size and y.size) or len(X) != len(y):
        raise DataError(
            path, f"{name} has shape {X.shape} and {name_y} {y.shape}: they need values, and the same number of rows"
        )
    finite(path, name, X, dtype)
    return X.reshape(len(X), -1)


def numbered(source, dtype):
    """(y, y_test or None, labels): class numbers and the labels they stand for, or (n, outputs) values and ()."""
    path, target = source.path, source.target
    choose("target", target, TARGETS)
    parts = {"y": source.y} | ({} if source.y_test is None else {"y_test": source.y_test})
    kinds = {is_class(y) for y in parts.values()}
    if target == "auto" and len(kinds) == 2:
        raise DataError(
            path,
            f"y ({source.y.dtype}) and y_test ({source.y_test.dtype}) are classes here and numbers there",
            "target=class or target=number settles it",
        )
    labels = ()
    if target == "class" or target == "auto" and kinds == {True}:
        labels = source.labels or classes_of(path, parts)
        found = [class_numbers(path, y, labels, name) for name, y in parts.items()]
    else:
        found = [finite(path, name, y, dtype).astype(dtype).reshape(len(y), -1) for name, y in parts.items()]
    return (*found, *[None] * (2 - len(found)), labels)


def split(n, test, seed):
    """(train, held): the numbers 0 … n − 1 in a seeded order, the fraction `test` of them held back."""
    if not 0 < test < 1:
        raise UsageError(f"test={test} is not a fraction between 0 and 1")
    held = max(1, round(n * test))
    if held >= n:
        raise UsageError(f"test={test} leaves no training sample of {n}")
    order = rng(seed, "split").permutation(n)
    return order[held:], order[:held]


def standardise(X):
    """(offset, spread) that give each feature mean 0 and deviation 1."""
    mean = X.mean(axis=0, dtype=np.float64)
    squares = sum(np.square(X[block] - mean).sum(axis=0) for block in blocks(X))
    return mean, np.sqrt(squares / len(X))


def unit_range(X):
    """(offset, spread) that bring each feature into the range 0 to 1."""
    low = X.min(axis=0).astype(np.float64)
    return low, X.max(axis=0) - low


SCALES = {"standard": standardise, "range": unit_range, "none": None}


def fit(path, scale, X, dtype):
    """(offset, factor), each (features,) float64, of the training part X; (None, None) where nothing is to be done.

    A number is rounded to dtype first: the product of a byte and a float32 is then exact in float64, and rounded once,
    so that bytes scaled in float32 (Dataset.gather) have the same bits.
    A constant feature is moved to 0 and has the factor 1.
    """
    if isinstance(scale, float):
        return np.zeros(X.shape[1]), np.full(X.shape[1], float(dtype(scale)))
    measure = choose("scale", scale, SCALES)
    if measure is None:
        return None, None
    with np.errstate(all="ignore"):  # what overflows is looked for below
        offset, spread = measure(X)
        constant = X.min(axis=0) == X.max(axis=0)
        offset, spread = np.where(constant, X[0].astype(np.float64), offset), np.where(constant, 1.0, spread)
        factor = 1 / spread
    bad = np.flatnonzero(~(np.isfinite(offset) & np.isfinite(factor) & (factor > 0)))
    if len(bad):
        raise DataError(path, f"feature {bad[0]} cannot be scaled: it spreads over {spread[bad[0]]}", "scale=none")
    return offset, factor


def rescale(X, offset, factor, dtype):
    """(X − offset) · factor, computed in float64, as a new array of dtype; X (n, features) of any numeric dtype."""
    out = np.empty(X.shape, dtype)
    with np.errstate(over="ignore"):
        for block in blocks(X):
            out[block] = X[block] if factor is None else (X[block] - offset) * factor
    return out


def blocks(X):
    """Slices of whole rows, of about BLOCK elements each."""
    step = max(1, BLOCK // X.shape[1])
    return [slice(start, start + step) for start in range(0, len(X), step)]
