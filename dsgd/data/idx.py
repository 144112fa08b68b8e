"""IDX, the format of MNIST and its relatives: images in one file, labels in another.

    00 00 TYPE AXES | AXES sizes of four bytes | the values        all big-endian

Reference: LeCun, Cortes and Burges, "The MNIST database" (http://yann.lecun.com/exdb/mnist/).
"""

import gzip
import math
import os

import numpy as np

from dsgd.data.files import limit, reading
from dsgd.data.prepare import SCALES, Source
from dsgd.errors import DataError, UsageError
from dsgd.specs import choose

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
DENSEST = 1032  # bytes that one byte of gzip's format can stand for, at most


def read_images(
    *,
    images: str = "",
    labels: str = "",
    test_images: str = "",
    test_labels: str = "",
    target: str = "auto",
    test: float = 0.2,
    scale: str = "auto",
):
    """IDX files, gzipped or not: images=FILE,labels=FILE[,test_images=FILE,test_labels=FILE]; bytes become 0 to 1."""
    if not images:
        raise UsageError("idx: needs images=FILE,labels=FILE")
    choose("scale", scale, {"auto": None} | SCALES)
    X, y, X_test, y_test = (read_idx(path) if path else None for path in (images, labels, test_images, test_labels))
    for pictures, path, numbers in ((X, labels, y), (X_test, test_labels, y_test)):
        if pictures is not None and numbers is not None and numbers.ndim > pictures.ndim:
            raise DataError(path, f"has {numbers.ndim} axes and the images {pictures.ndim}", "are they exchanged?")
    if scale == "auto":
        scale = 1 / 255 if X.dtype == np.uint8 else "standard"
    return Source(images, X, y, X_test, y_test, test=test, scale=scale, target=target)


def read_idx(path, ndim=None):
    """The array in an IDX file, gzipped or not.

    Args:
        ndim: how many axes it must have; any number by default.
    Raises:
        DataError: a wrong magic number, other sizes than the file holds, or a damaged file.
    """
    with reading(path, "IDX file"), open(path, "rb") as file:
        most = os.fstat(file.fileno()).st_size
        if file.peek(2)[:2] == b"\x1f\x8b":
            file, most = gzip.GzipFile(fileobj=file), most * DENSEST
        magic = file.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not magic[3]:
            types = ", ".join(f"{code:02x}" for code in TYPES)
            raise DataError(
                path,
                f"starts with {magic.hex(' ') or 'nothing'}, not with the magic number of an IDX file: "
                f"00 00, an element type ({types}) and the number of axes",
            )
        dtype, axes = np.dtype(TYPES[magic[2]]), magic[3]
        if ndim and axes != ndim:
            raise DataError(path, f"has {axes} axes, not {ndim}", "are images and labels exchanged?")
        header = file.read(4 * axes)
        if len(header) < 4 * axes:
            raise DataError(path, f"ends before the sizes of its {axes} axes", "the file is cut off")
        shape = tuple(np.frombuffer(header, ">u4").tolist())
        claimed = math.prod(shape) * dtype.itemsize
        limit(path, claimed)
        raw = file.read(min(claimed, most) + 1)  # one more: what is too long is seen, and gzip compares its checksum
        if len(raw) != claimed:
            raise DataError(
                path,
                f"promises {' × '.join(map(str, shape))} values in {claimed} bytes and holds "
                + (f"{len(raw)}" if len(raw) < claimed else "more"),
                "the file is cut off or damaged",
            )
        return np.frombuffer(raw, dtype).reshape(shape)
