"""Data sets: `--data NAME[:option=value,...]`.  Labels are numbered from 0, the split is seeded, features are scaled.

source (named, generated, files, idx, table)  →  prepare (labels, split, scale)  →  Dataset
"""

import os
import re
from typing import NamedTuple

import numpy as np

from dsgd.data.files import read_npz, read_pair
from dsgd.data.generated import blobs, hidden_weights, linear, moons, spirals, teacher
from dsgd.data.idx import read_idx, read_images
from dsgd.data.labels import class_numbers, finite
from dsgd.data.named import digits, fashion_mnist, mnist_5k
from dsgd.data.prepare import Dataset, dataset_of, rescale, split, standardise
from dsgd.data.table import read_csv
from dsgd.errors import DataError, UsageError
from dsgd.specs import parse

__all__ = ["Dataset", "Raw", "load", "load_raw", "rescale", "class_numbers", "DATASETS", "FILES"]
__all__ += ["hidden_weights", "read_idx", "split", "standardise"]

# What is shipped or made.  A function's keyword-only parameters with a default are the options.
DATASETS = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "mnist-5k": mnist_5k,
    "teacher": teacher,
    "blobs": blobs,
    "moons": moons,
    "spirals": spirals,
    "linear": linear,
}
# Files of one's own.  FILE stands for a path; `npy` and `idx` have their paths among the options.
FILES = {"FILE.npz": read_npz, "FILE.csv": read_csv, "npy": read_pair, "idx": read_images}

FILE = re.compile(r"(.*?(\.npz|\.csv))(?::(.*))?", re.IGNORECASE | re.DOTALL)


class Raw(NamedTuple):
    """Rows as a file has them, neither split nor scaled.

    X: (n, features) float64.  y: labels (n,) or values (n, ...) as they were found, or None.
    names: of the features, where the file has a header, or ().
    """

    X: np.ndarray
    y: np.ndarray | None
    names: tuple


def load(spec, *, seed, dtype):
    """The data set that `spec` names: a key of DATASETS or FILES, or a path to a .npz or .csv, with options.

    Raises:
        UsageError: unknown name or option.  DataError: a file that is missing, damaged or unfit.
    """
    return dataset_of(_source(spec, seed), seed=seed, dtype=np.dtype(dtype).type)


def load_raw(spec, *, seed=0, features=None, like=""):
    """What `spec` names as it is, for predictions: a `Raw`.  Labels may be absent.

    A network that was trained on the Dataset d takes rescale(raw.X, d.offset, d.factor, dtype), and
    class_numbers(spec, raw.y, d.labels) are the numbers it knows raw.y by.

    Args:
        spec: as for `load`.  Of a data set with a test part, files or built in, it is the test part, else all rows.
        seed: of the run: which rows of a built-in set are the test part.
        features: how many the network takes.  A .csv with exactly that many columns has no column of labels.
        like: the spec that the network was trained with: the options by which a .csv is read, where `spec` has none.
    Raises:
        UsageError, DataError: as `load` does; DataError: another number of features.
    """
    source = _source(spec, seed, features, like)
    path, X, y, X_test, y_test = source[:5]
    if X_test is not None:
        X, y = X_test, y_test
    if not (X.ndim and X.size) or y is not None and (not y.ndim or len(X) != len(y)):
        shapes = f"X has shape {X.shape}" + (f" and y {y.shape}" if y is not None else "")
        raise DataError(path, f"{shapes}: they need values, and the same number of rows")
    X = finite(path, "X", X, np.float64).reshape(len(X), -1).astype(np.float64)
    if features is not None and X.shape[1] != features:
        raise DataError(path, f"has {X.shape[1]} features, and the network takes {features}")
    if spec.partition(":")[0] in DATASETS and X_test is None:
        _, held = split(len(X), source.test, seed)
        X, y = X[held], y[held]
    return Raw(X, y, source.names)


def _source(spec, seed, features=None, like=""):
    """The Source that a spec names."""
    path, name, options = _parts(spec)
    given = _keys(options)
    if name == "FILE.csv" and _parts(like)[1] == name:
        inherited = [item for item in _parts(like)[2].split(",") if not _keys(item) & given]
        options = ",".join([*inherited, options])
    if name not in DATASETS | FILES and os.path.exists(spec):
        raise UsageError(
            f"--data {spec}: files are given as FILE.npz, FILE.csv, npy:X=FILE,y=FILE or idx:images=FILE,labels=FILE"
        )
    name, values = parse(f"{name}:{options}" if options else name, DATASETS | FILES, "data set")
    if name in DATASETS:
        return DATASETS[name](seed=seed, **values)
    if name == "FILE.csv":  # who names the column of labels says that there is one
        return read_csv(path, None if "label" in given else features, **values)
    source = FILES[name](*filter(None, [path]), **values)
    if source.X_test is not None and "test" in given:
        raise UsageError(f"{spec}: test={values['test']} would hold samples back, and there is a test part already")
    return source


def _parts(spec):
    """(path, name in the registries, options) of a spec; the path is "" unless the spec starts with one."""
    name, _, options = spec.partition(":")
    match = None if name in {*DATASETS, "npy", "idx"} else FILE.fullmatch(spec)
    return (match[1], "FILE" + match[2].lower(), match[3] or "") if match else ("", name, options)


def _keys(options):
    return {item.partition("=")[0] for item in options.split(",")}
