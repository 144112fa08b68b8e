"""Optimizers: PyTorch's trajectories; ranges of a vector make the same bits as the whole; strict arrays."""

import json

import numpy as np
import pytest
from frozen import pytorch_optimizers as frozen
from strict import both
from test_layers import random

from dsgd.errors import UsageError
from dsgd.layout import cut
from dsgd.optimizers import BLOCK, OPTIMIZERS, SGD, Adam
from dsgd.schedules import constant
from dsgd.specs import build

TRAJECTORIES = json.loads(frozen.FILE.read_text())
MAKE = {"sgd": SGD, "momentum": lambda: SGD(momentum=0.9), "adam": Adam}


@pytest.mark.parametrize("case", frozen.CASES)
def test_the_trajectory_is_pytorchs(case):
    name, options, lr = frozen.CASES[case]
    optimizer, x, kept = OPTIMIZERS[name](**options), frozen.start(), []
    for t in range(frozen.STEPS):
        optimizer.step(x, frozen.gradient(x, t), lr)
        if t + 1 in frozen.KEPT:
            kept.append(x.copy())
    np.testing.assert_allclose(kept, TRAJECTORIES[case], rtol=1e-12)


def test_the_first_step_by_hand():
    x, g = np.array([1.0, -2.0]), np.array([0.5, 4.0])
    for make, expected in ((SGD, [0.95, -2.4]), (Adam, [0.9, -2.1])):  # Adam's first step is lr in each direction
        moved = x.copy()
        make().step(moved, g, 0.1)
        np.testing.assert_allclose(moved, expected, rtol=1e-7)


def train(make, x, gradients, parts):
    """Step ranges of x, each with an optimizer of its own, as key ranges on servers do."""
    x, ranges = x.copy(), cut(len(x), parts)
    optimizers = [make() for _ in ranges]
    for g in gradients:
        for optimizer, (lo, hi) in zip(optimizers, ranges):
            optimizer.step(x[lo:hi], g[lo:hi], 0.01)
    return x


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("n", [700, BLOCK, 2 * BLOCK + 300])
def test_ranges_make_the_bits_of_the_whole(make, n):
    x, gradients = random(0, n).astype("float32"), random(1, 5, n).astype("float32")
    expected = train(make, x, gradients, 1)
    for parts in (2, 3):
        assert train(make, x, gradients, parts).tobytes() == expected.tobytes(), f"{parts} ranges"


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_vector_longer_than_a_block_moves_as_its_elements_do(make):
    """The last, shorter block too: element i of a long vector moves as in a vector of its own."""
    n = 2 * BLOCK + 7
    x, gradients = random(2, n), random(3, 3, n)
    moved = train(make, x, gradients, 1)
    for i in (0, BLOCK - 1, BLOCK, n - 1):
        assert moved[i] == train(make, x[i : i + 1], gradients[:, i : i + 1], 1)[0]


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_float32_stays_float32_and_the_gradient_is_left_alone(make):
    x, g, optimizer = random(4, 50).astype("float32"), random(5, 50).astype("float32"), make()
    kept = g.copy()
    for t in range(3):
        optimizer.step(x, g, constant(lr=0.1)(t))
    assert (g == kept).all()
    assert x.dtype == np.float32
    assert all(slot.dtype == np.float32 for name, slot in optimizer.slots.items() if name != "steps")


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_step_reads_a_gradient_that_nobody_may_write(make):
    """What a communicator returns is read-only."""
    g = random(5, 50)
    g.flags.writeable = False
    make().step(np.ones(50), g, 0.1)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_the_slots_are_all_that_a_checkpoint_needs(make):
    x, gradients = random(6, 300), random(7, 6, 300)
    first, again = make(), make()
    straight = x.copy()
    for g in gradients[:3]:
        first.step(straight, g, 0.01)
    stopped, again.slots = straight.copy(), {name: slot.copy() for name, slot in first.slots.items()}
    for g in gradients[3:]:
        first.step(straight, g, 0.01)
        again.step(stopped, g, 0.01)
    assert stopped.tobytes() == straight.tobytes()


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_optimizers_run_on_the_strict_array(make, dtype):
    def steps(x, gradients):
        optimizer = make()
        for t in range(3):
            optimizer.step(x, gradients[t], 0.01)
        return tuple(slot for name, slot in optimizer.slots.items() if name != "steps")

    n = BLOCK + 10
    both(steps, random(8, n).astype(dtype), random(9, 3, n).astype(dtype))


@pytest.mark.parametrize(
    "spec", ["sgd:momentum=1", "sgd:momentum=-0.1", "sgd:momentum=nan", "adam:beta1=1", "adam:beta2=-1", "adam:eps=0"]
)
def test_constants_out_of_range_are_refused(spec):
    with pytest.raises(UsageError, match=spec.partition("=")[2].rstrip("0") or "0"):
        build(spec, OPTIMIZERS)


def test_a_schedule_gives_python_floats():
    """NumPy 2 widens float32 · np.float64."""
    assert type(constant(lr=np.float64(0.1))(3)) is float
