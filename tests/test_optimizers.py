"""Optimizers: PyTorch's trajectories; ranges of a vector make the same bits as the whole; strict arrays."""

import json

import numpy as np
import pytest
from frozen import pytorch_optimizers as frozen
from strict import both
from test_layers import random

from dsgd.errors import UsageError
from dsgd.layout import Layout, cut
from dsgd.norms import Norms
from dsgd.optimizers import BLOCK, DEFAULT_LR, LAMB, LARS, OPTIMIZERS, SGD, Adam
from dsgd.schedules import constant
from dsgd.simulator import World
from dsgd.specs import build, options
from dsgd.update import Update

TRAJECTORIES = json.loads(frozen.FILE.read_text())
SPECS = [
    "sgd", "sgd:weight_decay=0.1", "sgd:momentum=0.9", "sgd:momentum=0.9,nesterov=true,weight_decay=0.1",
    "sgd:momentum=0.9,dampening=0.3", "adagrad", "adagrad:lr_decay=0.1,weight_decay=0.1,initial_accumulator_value=0.5",
    "rmsprop", "rmsprop:centered=true,momentum=0.5,weight_decay=0.1", "adam", "adam:amsgrad=true,weight_decay=0.1",
    "adamw", "lars", "lars:weight_decay=0.1", "lamb", "lamb:weight_decay=0",
]  # fmt: skip
every_spec = pytest.mark.parametrize("spec", SPECS)


def make(spec):
    return build(spec, OPTIMIZERS, "optimizer")


def update(spec, n, lo=0, hi=None):
    """The optimizer of a range of a vector of two arrays, whose border is at no multiple of anything."""
    return Update(make(spec), Norms(Layout({"W": (n // 2 - 3,), "b": (n - n // 2 + 3,)}), lo, hi))


def layerwise(spec):
    return OPTIMIZERS[spec.partition(":")[0]].layerwise


@pytest.mark.identity("sgd")
@pytest.mark.parametrize("case", frozen.CASES)
def test_the_trajectory_is_pytorchs(case):
    name, options, lr = frozen.CASES[case]
    x, kept = frozen.start(), []
    update = Update(OPTIMIZERS[name](**options), Norms(Layout(frozen.SHAPES)))
    for t in range(frozen.STEPS):
        update.step(x, frozen.gradient(x, t), lr)
        if t + 1 in frozen.KEPT:
            kept.append(x.copy())
    np.testing.assert_allclose(kept, TRAJECTORIES[case], rtol=1e-12)


def test_every_optimizer_and_option_is_compared_with_pytorch():
    compared = {(name, option) for name, given, _ in frozen.CASES.values() for option in given}
    assert compared >= {(name, option) for name in OPTIMIZERS for option in options(OPTIMIZERS[name])}


def test_the_first_step_by_hand():
    x, g = np.array([1.0, -2.0]), np.array([0.5, 4.0])
    for optimizer, expected in ((SGD, [0.95, -2.4]), (Adam, [0.9, -2.1])):  # Adam's first step is lr in each direction
        moved = x.copy()
        optimizer().step(moved, g, 0.1)
        np.testing.assert_allclose(moved, expected, rtol=1e-7)


def test_a_layer_steps_in_proportion_to_its_weights_and_one_without_weights_as_the_gradient_says():
    norms = Norms(Layout({"W": (2,), "b": (1,)}))
    for optimizer, expected in (
        (LARS(trust_coefficient=0.01), [3 - 0.01 * 3, 4 - 0.01 * 4, -0.5]),  # ‖W‖ = ‖g‖; b = 0 moves by η g
        (LAMB(weight_decay=0), [3 - 5 / 2**0.5, 4 - 5 / 2**0.5, -1]),  # Adam's first r is the sign of g
    ):
        x = np.array([3.0, 4.0, 0.0])
        Update(optimizer, norms).step(x, np.array([3.0, 4.0, 0.5]), 1.0)
        np.testing.assert_allclose(x, expected, rtol=1e-5)


def train(spec, x, gradients, parts=1):
    """Step ranges of x, each with an optimizer of its own, as key ranges on servers do."""
    x, ranges = x.copy(), cut(len(x), parts)
    world = World(parts, dtype=x.dtype)

    def owner(rank):
        lo, hi = ranges[rank]
        mine = update(spec, len(x), lo, hi)
        for g in gradients:
            mine.step(x[lo:hi], g[lo:hi], 0.01, world.comm(rank))

    world.run(owner)
    return x


@every_spec
@pytest.mark.parametrize("n", [700, BLOCK, 2 * BLOCK + 300])
def test_ranges_make_the_bits_of_the_whole(spec, n):
    x, gradients = random(0, n).astype("float32"), random(1, 5, n).astype("float32")
    expected = train(spec, x, gradients)
    assert (expected != x).mean() > 0.99
    for parts in (2, 3):
        assert train(spec, x, gradients, parts).tobytes() == expected.tobytes(), f"{parts} ranges"


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not layerwise(spec)])
def test_a_vector_longer_than_a_block_moves_as_its_elements_do(spec):
    """The last, shorter block too: element i of a long vector moves as in a vector of its own."""
    n = 2 * BLOCK + 7
    x, gradients = random(2, n), random(3, 3, n)
    moved, alone = train(spec, x, gradients), make(spec)
    some = [0, BLOCK - 1, BLOCK, n - 1]
    few = x[some]
    for g in gradients[:, some]:
        alone.step(few, g, 0.01)
    assert moved[some].tobytes() == few.tobytes()


@every_spec
def test_float32_stays_float32_and_the_gradient_is_left_alone(spec):
    """What a communicator returns is read-only."""
    x, g, mine = random(4, 50).astype("float32"), random(5, 50).astype("float32"), update(spec, 50)
    kept = g.copy()
    g.flags.writeable = False
    for t in range(3):
        mine.step(x, g, constant(lr=0.1)(t))
    assert (g == kept).all()
    assert x.dtype == np.float32
    assert all(slot.dtype == np.float32 for name, slot in mine.slots.items() if name != "steps")


@every_spec
def test_the_slots_are_all_that_a_checkpoint_needs(spec):
    x, gradients = random(6, 300), random(7, 6, 300)
    first, again = update(spec, 300), update(spec, 300)
    straight = x.copy()
    for g in gradients[:3]:
        first.step(straight, g, 0.01)
    stopped, again.slots = straight.copy(), {name: slot.copy() for name, slot in first.slots.items()}
    assert all(len(slot) in (1, 300) for slot in again.slots.values())
    for g in gradients[3:]:
        first.step(straight, g, 0.01)
        again.step(stopped, g, 0.01)
    assert stopped.tobytes() == straight.tobytes()


@every_spec
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_optimizers_run_on_the_strict_array(spec, dtype):
    """Norms, which come back to the host as Python numbers, are made up here."""
    n = BLOCK + 10

    def lengths(*vectors):
        return [(slice(0, 100), 2.0, 3.0), (slice(100, n), 0.0, 1.0)]

    def steps(x, gradients):
        optimizer = make(spec)
        for t in range(3):
            optimizer.step(x, gradients[t], 0.01, lengths)
        return tuple(slot for name, slot in optimizer.slots.items() if name != "steps")

    both(steps, random(8, n).astype(dtype), random(9, 3, n).astype(dtype))


@pytest.mark.parametrize(
    "spec",
    [
        "sgd:momentum=1", "sgd:momentum=-0.1", "sgd:momentum=nan", "sgd:dampening=2", "sgd:weight_decay=-1",
        "adagrad:lr_decay=-1", "adagrad:weight_decay=nan", "adagrad:initial_accumulator_value=-1", "adagrad:eps=0",
        "rmsprop:alpha=1", "rmsprop:momentum=1", "rmsprop:weight_decay=-1", "rmsprop:eps=0",
        "adam:beta1=1", "adam:beta2=-1", "adam:eps=0", "adam:weight_decay=inf", "adamw:weight_decay=-1",
        "lars:momentum=1", "lars:trust_coefficient=0", "lars:weight_decay=-1", "lars:eps=-1",
        "lamb:beta1=1", "lamb:beta2=1", "lamb:weight_decay=-1", "lamb:eps=0",
    ],
)  # fmt: skip
def test_constants_out_of_range_are_refused(spec):
    option, _, value = spec.partition(":")[2].partition("=")
    with pytest.raises(UsageError, match=f"option {option}={float(value)} is not"):
        make(spec)


@pytest.mark.parametrize("spec", ["sgd:nesterov=true", "sgd:momentum=0.9,dampening=0.1,nesterov=true"])
def test_nesterov_needs_momentum_without_dampening(spec):
    with pytest.raises(UsageError, match="as in sgd:momentum=0.9,nesterov=true"):
        make(spec)


def test_every_optimizer_says_its_equation_its_reference_and_its_step_size():
    assert list(DEFAULT_LR) == list(OPTIMIZERS)
    for optimizer in OPTIMIZERS.values():
        lines = optimizer.__doc__.splitlines()
        assert "←" in lines[0]
        assert any(line.strip().startswith("Reference: ") for line in lines)
