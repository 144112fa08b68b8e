"""The device that a run computes on: the CPU, or with `--device gpu` one CUDA card for each process, through CuPy.

A device is known by the module of its arrays, numpy or cupy.  Parameters, gradients, the optimizer's vectors and the
samples lie there; NumPy draws all random numbers, so that both devices follow one trajectory.
"""

import shlex
import sys
from contextlib import contextmanager
from math import ceil
from typing import NamedTuple

import numpy as np

from dsgd.errors import OutOfDeviceMemory, UsageError
from dsgd.graph import probe
from dsgd.metrics import ROWS

# Of the parameters' size, that a rank has at once: x, gradient, sum, two of an optimizer, what is computed from them.
VECTORS = 8
# Of a layer's width, that a pass has at once: output, before dropout and activation, mask, delta, a spare one.
ARRAYS = 6


def open_device(name, local_rank=0):
    """The module of the arrays of a run: numpy, or cupy once a card has answered.

    Args:
        name: cpu or gpu.  local_rank: of this process on its host, whose processes are dealt to its cards in turn.
    Raises:
        UsageError: what is missing.
    """
    if name == "cpu":
        return np
    try:
        import cupy
    except ImportError as error:
        raise UsageError(
            f"--device gpu needs CuPy ({error}): pip install 'dsgd[cuda12]', or dsgd[cuda13]; {cpu_command(sys.argv)}"
        ) from None
    try:
        cupy.cuda.Device(local_rank % cupy.cuda.runtime.getDeviceCount()).use()
        cupy.arange(2).sum().get()  # memory, compiler and driver
    except Exception as error:  # each of them has errors of its own
        raise UsageError(f"--device gpu: no card answers ({error}); {cpu_command(sys.argv)}") from None
    return cupy


def cpu_command(argv):
    """How to train on the CPU instead, in words.   argv: of this process"""
    if not argv[0].endswith("train.py"):
        return "leave device out to train on the CPU"
    words, left = iter(argv[1:]), []
    for word in words:
        if word == "--device":
            next(words, None)
        elif not word.startswith("--device="):
            left.append(word)
    return "on the CPU: " + shlex.join(["python", "-m", "dsgd.train", *left])


def settle(xp, config, algorithm, objective, workers, ranks):
    """Move an objective to its card and see whether a step can be captured there.

    Args:
        xp: the module of the device's arrays.  algorithm: algorithms.Algorithm.  workers: how many.  ranks: of this process.
    Returns:
        The Room that is needed on the card; None on the CPU, where there is nothing to do.
    Raises:
        UsageError: the algorithm or the objective computes on the CPU alone.
        OutOfDeviceMemory: the card has no room for it.
    """
    if xp is np:
        return None
    if algorithm.model:
        raise UsageError(
            f"--device gpu: the servers of {config.parse_algorithm()[0]} look into what they receive, on the CPU; use a "
            "synchronous algorithm without them, such as data-parallel, or leave --device gpu out"
        )
    if not hasattr(objective, "place"):
        raise UsageError("--device gpu trains a network on a data set, and this objective computes on the CPU alone")
    room = make_room(objective, workers, ranks, np.dtype(config.dtype).itemsize)
    with explained(xp, room, lambda: "before the first step"):
        room.refuse(free(xp), ceil(config.batch_size / workers))
        objective.place(xp)
        objective.replay = probe(xp)
    return room


class Room(NamedTuple):
    """Bytes that a run takes on a card."""

    fixed: int  # data and vectors
    row: int  # for each sample of a worker's part of the batch
    workers: int

    def fits(self, free):
        """The largest global batch for which there is room, in `free` bytes; 0 for none."""
        return max(0, (free - self.fixed) // self.row) * self.workers

    def refuse(self, free, rows):
        """Raise if a part of `rows` samples is too large for `free` bytes."""
        needed = self.fixed + self.row * rows
        if needed > free:
            raise OutOfDeviceMemory(f"the run takes about {needed:,} bytes on the card; {self.advice(free)}")

    def advice(self, free):
        batch = self.fits(free)
        mend = f"--batch-size {batch} would fit" if batch else "no batch fits: use a smaller network or data set"
        return f"{free:,} bytes are free there, and {mend}"


def make_room(objective, workers, ranks, itemsize):
    """The Room of an objective that is still on the host.   itemsize: bytes of an element of x"""
    data, widths = objective.data, objective.net.widths
    samples = sum(part.nbytes for part in (data.X, data.y, data.X_test))
    evaluation = ROWS * sum(widths) * itemsize
    fixed = samples + VECTORS * ranks * objective.layout.size * itemsize + evaluation
    return Room(fixed, (widths[0] + ARRAYS * sum(widths[1:])) * itemsize, workers)


def free(xp):
    """Bytes that a device has left, those included that CuPy keeps for reuse; any number where it does not tell."""
    if not hasattr(xp, "cuda"):
        return sys.maxsize
    return xp.cuda.runtime.memGetInfo()[0] + xp.get_default_memory_pool().free_bytes()


@contextmanager
def explained(xp, room, where):
    """with explained(...): memory that runs out on a card is told with a batch that fits.   where: () -> rank and step, in words"""
    try:
        yield
    except MemoryError as error:
        if xp is np:
            raise
        raise OutOfDeviceMemory(f"{where()}: {str(error).rstrip('.')}; {room.advice(free(xp))}") from None
