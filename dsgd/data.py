"""Data sets: `--data NAME[:option=value,...]`.  Features are scaled, labels numbered from 0, the split is seeded."""

import gzip
import hashlib
import os
import zipfile
import zlib
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsgd.arrays import rng
from dsgd.errors import DataError, UsageError
from dsgd.specs import parse

FASHION = "/usr/share/datasets/fashion-mnist"  # where Debian's package dataset-fashion-mnist puts its files
MAX_BYTES = 16 << 30  # no file may claim to unpack to more


class Dataset(NamedTuple):
    """X (n, features) of the run's dtype; y (n,) class numbers, or (n, outputs) values; the same for the test part."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    classes: int  # 0 for regression

    @property
    def outputs(self):
        return self.classes or self.y.shape[1]

    def digest(self):
        """sha256 over all four arrays: what the ranks of a run must have in common."""
        sha = hashlib.sha256()
        for array in self[:4]:
            sha.update(f"{array.dtype}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array))
        return sha.hexdigest()


def digits(*, seed, dtype, test: float = 0.2):
    """1,797 handwritten digits, 8 × 8 pixels of 0 to 16 (UCI; shipped, see datasets/README.md)."""
    with np.load(files("dsgd") / "datasets" / "digits.npz") as arrays:
        X, y = arrays["X"], arrays["y"]
    return split(X.astype(dtype) / dtype(16), y.astype(np.intp), 10, test, seed)


def fashion_mnist(*, seed, dtype):
    """60,000 + 10,000 images of clothes, 28 × 28 pixels of 0 to 255, in 10 classes (Zalando; MIT licence)."""
    folder = next((f for f in (os.environ.get("DSGD_DATA"), FASHION) if f and Path(f).is_dir()), None)
    if folder is None:
        raise DataError(
            "fashion-mnist",
            "no files found",
            f"apt-get install dataset-fashion-mnist, or set DSGD_DATA to a folder with the IDX files (looked in {FASHION})",
        )
    parts = []
    for prefix in ("train", "t10k"):
        images = read_idx(_idx_file(folder, f"{prefix}-images-idx3-ubyte"), ndim=3)
        labels = read_idx(_idx_file(folder, f"{prefix}-labels-idx1-ubyte"), ndim=1)
        if len(images) != len(labels):
            raise DataError(folder, f"{len(images)} {prefix} images but {len(labels)} labels")
        parts += [np.multiply(images.reshape(len(images), -1), dtype(1 / 255), dtype=dtype), labels.astype(np.intp)]
    return Dataset(*parts, classes=10)


def teacher(
    *, seed, dtype, samples: int = 10000, features: int = 64, hidden: int = 32, classes: int = 10, test: float = 0.2
):
    """Normal features, labelled by the largest output of a random network features-hidden-classes: any size, seeded."""
    for name, value in (("samples", samples), ("features", features), ("hidden", hidden), ("classes", classes)):
        if value < 1:
            raise UsageError(f"teacher:{name}={value} must be at least 1")
    generator = rng(seed, "teacher")
    X = generator.standard_normal((samples, features), dtype=np.float32)
    inner = np.tanh(X @ generator.standard_normal((features, hidden), dtype=np.float32) / np.float32(features**0.5))
    y = np.argmax(inner @ generator.standard_normal((hidden, classes), dtype=np.float32), axis=1)
    return split(X.astype(dtype), y.astype(np.intp), classes, test, seed)


DATASETS = {"digits": digits, "fashion-mnist": fashion_mnist, "teacher": teacher}


def load(spec, *, seed, dtype):
    """The data set that `spec` names: a key of DATASETS or a path to an .npz with X and y, with options.

    Raises:
        UsageError: unknown name or option.  DataError: a file that is missing, damaged or unfit.
    """
    head, colon, rest = spec.rpartition(":")
    path = head if colon and "=" in rest else spec
    if path.endswith(".npz"):
        _, values = parse("npz:" + (rest if path == head else ""), {"npz": read_npz}, "data set")
        return read_npz(path, seed=seed, dtype=np.dtype(dtype).type, **values)
    name, values = parse(spec, DATASETS | {"FILE.npz": read_npz}, "data set")
    return DATASETS[name](seed=seed, dtype=np.dtype(dtype).type, **values)


def split(X, y, classes, test, seed):
    """A seeded split: the fraction `test` of the samples, at random, is held back."""
    if not 0 < test < 1:
        raise UsageError(f"test={test} is not a fraction between 0 and 1")
    held = max(1, round(len(X) * test))
    if held >= len(X):
        raise UsageError(f"test={test} leaves no training sample of {len(X)}")
    order = rng(seed, "split").permutation(len(X))
    train, rest = order[held:], order[:held]
    return Dataset(X[train], y[train], X[rest], y[rest], classes)


def read_npz(path, *, seed, dtype, test: float = 0.2, scale: bool = True):
    """An .npz with X (n, ...) and y: whole numbers are classes (regrouped to 0 … C − 1), other numbers regression targets.

    scale: give each feature mean 0 and deviation 1, measured on the training part.
    """
    dataset = _read_npz(path, seed, dtype, test)
    return standardise(dataset) if scale else dataset


def standardise(dataset):
    """The data set with each feature's training mean subtracted, and divided by its training deviation unless that is 0."""
    mean, deviation = dataset.X.mean(axis=0, dtype=np.float64), dataset.X.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1
    return dataset._replace(
        **{part: ((getattr(dataset, part) - mean) / deviation).astype(dataset.X.dtype) for part in ("X", "X_test")}
    )


def _read_npz(path, seed, dtype, test):
    X, y = _members(path)
    if not (X.ndim and y.ndim and X.size) or len(X) != len(y):
        raise DataError(path, f"X has shape {X.shape} and y {y.shape}: they need values, and the same number of rows")
    X = _numbers(path, "X", X, dtype)
    if y.ndim == 1 and y.dtype.kind in "biu":
        labels, numbers = np.unique(y, return_inverse=True)
        if len(labels) < 2:
            raise DataError(path, f"y holds one class only ({labels[0]})")
        return split(X, numbers.astype(np.intp), len(labels), test, seed)
    return split(X, _numbers(path, "y", y, dtype), 0, test, seed)


def _numbers(path, name, array, dtype):
    """An array of an .npz as rows of dtype, every value checked."""
    if array.dtype.kind not in "biuf":
        raise DataError(path, f"{name} has dtype {array.dtype}, not numbers")
    with np.errstate(over="ignore"):
        numbers = array.astype(dtype)
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        at = ", ".join(map(str, bad[0]))
        raise DataError(
            path,
            f"{name}[{at}] is {array[tuple(bad[0])]}, and {len(bad)} values in all are not finite in {numbers.dtype}",
            "clean the file first",
        )
    return numbers.reshape(len(numbers), -1)


def _members(path):
    """X and y of an .npz, after a look at what it claims to hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
            if claimed > MAX_BYTES:
                raise DataError(path, f"claims to hold {claimed} bytes, over the limit of {MAX_BYTES}")
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            missing = [name for name in ("X", "y") if name not in names]
            if missing:
                raise DataError(
                    path,
                    f"has no array {missing[0]!r} (it has: {', '.join(names) or 'none'})",
                    "np.savez(path, X=..., y=...)",
                )
            return _member(archive, "X"), _member(archive, "y")
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except Exception as error:  # damaged bytes make zipfile, zlib and NumPy raise almost anything
        raise DataError(path, f"not a readable .npz ({str(error).strip() or type(error).__name__})") from None


def _member(archive, name):
    """One array of an open .npz, read to its end: only there does zipfile compare the checksum."""
    with archive.open(name + ".npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError(f"{name} is longer than its shape {array.shape}")
    return array


def _idx_file(folder, name):
    for suffix in ("", ".gz"):
        path = Path(folder) / (name + suffix)
        if path.is_file():
            return path
    raise DataError(Path(folder) / name, "no such file (nor with .gz)", "apt-get install dataset-fashion-mnist")


def read_idx(path, ndim):
    """An IDX file of bytes with `ndim` axes, gzipped or not: magic 0, 0, 8, ndim; ndim sizes, big-endian; the values."""
    try:
        raw = Path(path).read_bytes()
        raw = gzip.decompress(raw) if str(path).endswith(".gz") else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, f"unreadable ({error})") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise DataError(
            path, f"starts with {raw[:4].hex(' ')}, not with the magic number 00 00 08 of an IDX file of bytes"
        )
    if raw[3] != ndim:
        raise DataError(path, f"has {raw[3]} axes, not {ndim}", "are images and labels exchanged?")
    header = 4 + 4 * ndim
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, header, 4))
    if len(raw) - header != np.prod(shape, dtype=object):
        raise DataError(
            path,
            f"promises {' × '.join(map(str, shape))} values and holds {len(raw) - header}",
            "the file is cut off or damaged",
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
