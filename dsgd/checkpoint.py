"""Checkpoints: one npz with a manifest and a sha256 of every array, written whole or not at all.  Never pickle.

- x, optimizer/NAME: the whole vectors, put together from the ranks that own their ranges
- RANK/own/NAME, RANK/counters: what only that rank has
- manifest: JSON with format, step, virtual clock, configuration, sha256 of each array
"""

import hashlib
import io
import json
import os
import warnings
from pathlib import Path

import numpy as np

from dsgd.errors import CheckpointError
from dsgd.records import write_bytes

FORMAT = 2  # 1 had other moments for Adam, and no progress
NAME = "checkpoint.npz"
KEEP = [NAME, "checkpoint-1.npz", "checkpoint-2.npz"]  # newest first


def save(folder, arrays, manifest):
    """Write a checkpoint into the folder; the two before it are kept.

    Args:
        arrays: {name: array}.  manifest: {key: JSON value}.
    """
    folder = Path(folder)
    for older, newer in ((2, 1), (1, 0)):
        if (folder / KEEP[newer]).exists():
            (folder / KEEP[older]).unlink(missing_ok=True)
            os.link(folder / KEEP[newer], folder / KEEP[older])  # a link: there is no moment without a newest one
    write_bytes(folder / NAME, pack(arrays, manifest))


def pack(arrays, manifest):
    """The bytes of a checkpoint file."""
    sums = {name: digest(array) for name, array in arrays.items()}
    text = json.dumps(manifest | {"format": FORMAT, "sha256": sums})
    buffer = io.BytesIO()
    np.savez(buffer, manifest=np.frombuffer(text.encode(), np.uint8), **arrays)
    return buffer.getvalue()


def unpack(data, path="checkpoint"):
    """(arrays, manifest) of a checkpoint file's bytes, every sum verified.

    Raises:
        CheckpointError: with what is wrong.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        manifest = json.loads(arrays.pop("manifest").tobytes())
        if manifest["format"] != FORMAT:
            raise CheckpointError(f"{path}: format {manifest['format']}, this version reads format {FORMAT}")
        damaged = [name for name, array in arrays.items() if manifest["sha256"].pop(name) != digest(array)]
        missing = list(manifest["sha256"])
    except CheckpointError:
        raise
    except Exception as error:  # damaged bytes make zipfile, zlib, NumPy and JSON raise almost anything
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({str(error).strip() or type(error).__name__})"
        ) from None
    if damaged or missing:
        raise CheckpointError(f"{path}: array {(damaged + missing)[0]!r} is {'damaged' if damaged else 'missing'}")
    return arrays, manifest


def load(folder):
    """(arrays, manifest) of the newest checkpoint in the folder that is whole; a damaged newer one is named in a warning."""
    problems = []
    for name in KEEP:
        path = Path(folder) / name
        if path.exists():
            try:
                found = unpack(path.read_bytes(), path)
                for problem in problems:
                    warnings.warn(f"{problem}; going on from {name}", stacklevel=2)
                return found
            except CheckpointError as error:
                problems.append(str(error))
    raise CheckpointError(
        problems[0]
        if problems
        else f"{folder}: there is no checkpoint to resume from; leave out --resume, or see --checkpoint-every"
    )


def digest(array):
    """sha256 of dtype, shape and values."""
    sha = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()
