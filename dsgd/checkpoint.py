"""Checkpoints: one npz with a manifest and a sha256 of every array, written whole or not at all.  Never pickle.

- x, optimizer/NAME: the whole vectors, put together from the ranks that own their ranges
- RANK/own/NAME, RANK/counters: what only that rank has
- manifest: JSON with format, step, virtual clock, configuration, sha256 of each array
"""

import errno
import hashlib
import io
import json
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np

import dsgd
from dsgd.data.files import read_array
from dsgd.errors import CheckpointError
from dsgd.records import CHECKPOINTS as KEEP, write_bytes

FORMAT = 3  # 1 had other moments for Adam, and no progress; 2 no order of pushes
NAME = KEEP[0]
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)  # FAT, many network disks


def save(folder, arrays, manifest):
    """Write a checkpoint into the folder; the two before it are kept.

    Args:
        arrays: {name: array}.  manifest: {key: JSON value}.
    """
    folder = Path(folder)

    def keep():
        for older, newer in ((2, 1), (1, 0)):
            if (folder / KEEP[newer]).exists():
                (folder / KEEP[older]).unlink(missing_ok=True)
                duplicate(folder / KEEP[newer], folder / KEEP[older])  # no rename: there is always a newest one

    write_bytes(folder / NAME, pack(arrays, manifest), before=keep)


def duplicate(path, other):
    """Let `other` be the file at `path` too: by a link, or as a copy where there are none."""
    try:
        os.link(path, other)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        write_bytes(other, path.read_bytes())


def pack(arrays, manifest):
    """The bytes of a checkpoint file."""
    sums = {name: digest(array) for name, array in arrays.items()}
    text = json.dumps(manifest | {"format": FORMAT, "sha256": sums})
    buffer = io.BytesIO()
    np.savez(buffer, manifest=np.frombuffer(text.encode(), np.uint8), **arrays)
    return buffer.getvalue()


def unpack(data, path="checkpoint"):
    """(arrays, manifest) of a checkpoint file's bytes, every sum verified; no more memory is taken than the file is long.

    Raises:
        CheckpointError: with what is wrong.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > len(data):
                raise ValueError("it claims to hold more than it is long")
            arrays = {
                member.filename.removesuffix(".npy"): read_array(
                    member.filename, archive.open(member), member.file_size
                )
                for member in members
            }
        manifest = json.loads(arrays.pop("manifest").tobytes())
        if manifest["format"] != FORMAT:
            raise CheckpointError(other_format(path, manifest))
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


def other_format(path, manifest):
    """What is said of a checkpoint that this version does not read."""
    wrote, age = manifest.get("versions", {}).get("dsgd"), "older" if manifest["format"] < FORMAT else "newer"
    return (
        f"{path}: is in format {manifest['format']}, and dsgd {dsgd.__version__} reads format {FORMAT}; "
        f"go on with {f'dsgd {wrote}' if wrote else f'the {age} dsgd that wrote it'}, or train anew into another --output"
    )


def load(folder):
    """(arrays, manifest) of the newest checkpoint in the folder that is whole; a damaged newer one is named in a warning."""
    problems = []
    for name in KEEP:
        path = Path(folder) / name
        if path.exists():
            try:
                found = unpack(read(path), path)
                for problem in problems:
                    warnings.warn(f"{problem}; going on from {name}", stacklevel=2)
                return found
            except CheckpointError as error:
                problems.append(str(error))
    if problems:
        raise CheckpointError(f"{problems[0]}; no older one is whole: train anew into another --output")
    raise CheckpointError(nothing_to_resume(folder))


def nothing_to_resume(folder):
    return f"{folder}: there is no checkpoint to resume from; leave out --resume, or see --checkpoint-every"


def read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None


def newest(folder):
    """The step of the newest checkpoint in the folder that is whole; None if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load(folder)[1]["step"]
    except CheckpointError:
        return None


def digest(array):
    """sha256 of dtype, shape and values."""
    sha = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()
