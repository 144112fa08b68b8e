"""A step allocates nothing of the parameters' size once the first ones are made: what noise forbids to time is counted."""

import tracemalloc

import numpy as np
import pytest

from dsgd.algorithms import ALGORITHMS
from dsgd.data import Dataset
from dsgd.local import Local
from dsgd.mlp import MLP
from dsgd.norms import Norms
from dsgd.objectives import Supervised
from dsgd.optimizers import OPTIMIZERS
from dsgd.sampling import Shuffled
from dsgd.schedules import constant
from dsgd.simulator import World
from dsgd.specs import build
from dsgd.state import State
from dsgd.update import Update

WIDTHS, B = (200, 150, 100, 10), 8


def steps(spec, clip_norm=0.0, **network):
    """A generator of steps of sgd on one rank, on bytes, and the size of x in bytes."""
    generator = np.random.default_rng(0)
    X, y = generator.integers(0, 256, (20 * B, WIDTHS[0]), np.uint8), np.arange(20 * B) % 10
    data = Dataset(X, y, X, y, 10, unit=np.float32(1 / 255))
    objective = Supervised(MLP(WIDTHS, **network), data, loss="cross-entropy")
    state, world = State(objective.start(0, np.float32)), World(1, dtype="float32")
    local = Local(world.comm(0), objective, Shuffled(n=len(X), batch=B, seed=0, workers=1))
    update = Update(build(spec, OPTIMIZERS), Norms(objective.layout), clip_norm)
    run = ALGORITHMS["sgd"].run(local.comm, local, state, optimizer=update, schedule=constant(lr=1e-3), steps=20)
    return run, state.x.nbytes


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("spec", [*OPTIMIZERS, "sgd:momentum=0.9,nesterov=true", "adam:amsgrad=true,weight_decay=0.1"])
def test_a_step_allocates_nothing_of_the_parameters_size(spec, activation):
    run, size = steps(spec, clip_norm=1e-3, activation=activation, dropout=0.1)
    for _ in range(3):
        next(run)
    tracemalloc.start()
    try:
        for _ in range(3):
            next(run)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 4, f"{peak} bytes at once, and x has {size}"
