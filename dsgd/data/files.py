"""Arrays from files: .npz, .npy.  What a file claims to hold is compared with its size before memory is taken.

Never pickle: an array of Python objects is refused.
"""

import math
import os
import warnings
import zipfile
from contextlib import contextmanager

import numpy as np

from dsgd.data.prepare import Source
from dsgd.errors import DataError, DsgdError, UsageError

MAX_BYTES = 16 << 30  # no file may claim to unpack to more
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path, *, target: str = "auto", test: float = 0.2, scale: str = "standard"):
    """Arrays X (n, ...) and y, and X_test and y_test if you like, in one file that `np.savez` wrote."""
    with reading(path, ".npz"), zipfile.ZipFile(path) as archive:
        limit(path, sum(member.file_size for member in archive.infolist()))
        sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
        if "X" not in sizes:
            raise DataError(
                path, f"has no array 'X' (it has: {', '.join(sizes) or 'none'})", "np.savez(path, X=..., y=...)"
            )
        arrays = {}
        for name in {"X", "y", "X_test", "y_test"} & set(sizes):
            with archive.open(name + ".npy") as file:
                arrays[name] = read_array(path, file, sizes[name])
    parts = (arrays.get(name) for name in ("X", "y", "X_test", "y_test"))
    return Source(path, *parts, test=test, scale=scale, target=target)


def read_pair(
    *,
    X: str = "",
    y: str = "",
    X_test: str = "",
    y_test: str = "",
    target: str = "auto",
    test: float = 0.2,
    scale: str = "standard",
):
    """Arrays in files of their own that `np.save` wrote: X=FILE,y=FILE[,X_test=FILE,y_test=FILE]."""
    if not X:
        raise UsageError("npy: needs X=FILE,y=FILE")
    parts = (read_npy(path) if path else None for path in (X, y, X_test, y_test))
    return Source(X, *parts, test=test, scale=scale, target=target)


def read_npy(path):
    """The array in an .npy."""
    with reading(path, ".npy"), open(path, "rb") as file:
        return read_array(path, file, os.fstat(file.fileno()).st_size)


def read_array(path, file, size):
    """The array in an open file in NumPy's format, of `size` bytes in all.

    Raises:
        DataError: objects, or a shape that is not what the file holds.  Whatever NumPy raises for a damaged header.
    """
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise DataError(
            path, f"is of version {version[0]}.{version[1]} of NumPy's format, which is not for plain arrays"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's about headers that Python 2 wrote: they are read all the same
        shape, by_columns, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise DataError(path, "holds Python objects, which are never unpacked", "save numbers or strings instead")
    held, claimed = size - file.tell(), math.prod(shape) * dtype.itemsize
    limit(path, claimed)
    if held != claimed or min(shape, default=0) < 0:
        raise DataError(path, f"promises {dtype} of shape {shape}, {claimed} bytes, and holds {held}", "it is damaged")
    return np.frombuffer(file.read(held), dtype).reshape(shape, order="F" if by_columns else "C")


@contextmanager
def reading(path, kind):
    """Whatever goes wrong inside becomes a DataError: on damaged bytes zipfile, zlib and NumPy raise almost anything."""
    try:
        yield
    except DsgdError:
        raise
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(path, f"is not UTF-8 text, at byte {error.start}", "save it as UTF-8") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(path, f"not a readable {kind} ({reason})") from None


def limit(path, claimed):
    """Refuses a file that would take more than MAX_BYTES of memory."""
    if claimed > MAX_BYTES:
        raise DataError(path, f"claims to hold {claimed} bytes, over the limit of {MAX_BYTES}")
