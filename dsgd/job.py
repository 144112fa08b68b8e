"""What a run is, once every combination has been checked: made by prepare.py, followed by each rank."""

from typing import NamedTuple

import numpy as np


class Job(NamedTuple):
    """What all ranks of a run have in common."""

    config: object
    algorithm: object  # algorithms.Algorithm
    options: dict  # of the algorithm
    roles: object  # comm.Roles
    objective: object
    sampler: object
    steps: int
    lr: float  # the step size that the schedule starts from
    virtual: bool  # whether the clock is
    manifest: dict  # what to write into checkpoints beside the step
    faults: object  # faults.Faults
    network: object  # network.Network, and
    timing: object  # how long gradients take (see timing.make_timing), on the virtual clock
    restored: tuple | None = None  # (arrays, manifest) of the checkpoint to go on from
    keep: bool = False  # whether the result is to hold one
    folder: object = None  # where checkpoints go
    recorder: object = None  # rank 0's; None in processes that do not host it
    wish: list = ()  # not empty once a signal asked to stop
    replayed: tuple | None = None  # (header, entries) of the log whose order is followed
    order: object = None  # order.Order, rank 0's
    controller: tuple | None = None  # (name, function)
    xp: object = np  # whose arrays the run computes on: see device.py
    room: object = None  # device.Room, on a card
