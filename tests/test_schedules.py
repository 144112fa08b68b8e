"""Schedules: PyTorch's numbers, a warm-up in front of any of them, and what a checkpoint holds of a plateau."""

import json

import numpy as np
import pytest
from frozen import pytorch_schedules as frozen

from dsgd.errors import UsageError
from dsgd.schedules import SCHEDULES, constant, make_schedule, spans_run
from dsgd.specs import options, parse

NUMBERS = json.loads(frozen.FILE.read_text())
SPECS = [*frozen.SCHEDULES, *frozen.PLATEAUS]


@pytest.mark.parametrize("warmup", frozen.WARMUPS)
@pytest.mark.parametrize("spec", frozen.SCHEDULES)
def test_the_step_sizes_are_pytorchs(spec, warmup):
    schedule = make_schedule(spec, lr=frozen.LR, steps=frozen.STEPS, warmup=warmup)
    found = [schedule(t) for t in range(frozen.STEPS)]
    np.testing.assert_allclose(found, NUMBERS[f"{spec} after {warmup}"], rtol=1e-12, atol=1e-14)
    assert schedule.plateau is None


@pytest.mark.parametrize("spec", frozen.PLATEAUS)
def test_a_plateau_reduces_when_pytorchs_does(spec):
    schedule, found = make_schedule(spec, lr=frozen.LR, steps=frozen.STEPS), []
    for period in range(frozen.STEPS):
        schedule.plateau.observe(frozen.loss(period))
        found.append(schedule(period))
    np.testing.assert_allclose(found, NUMBERS[spec], rtol=1e-12)
    assert len(set(found)) > 2, "nothing was reduced"


def test_every_schedule_and_option_is_compared_with_pytorch():
    compared = {(name, option) for name, given in map(written, SPECS) for option in given}
    assert compared >= {(name, option) for name, part in SCHEDULES.items() for option in options(part)}


def written(spec):
    """(name, options that the spec gives a value other than the default)."""
    name, values = parse(spec, SCHEDULES)
    return name, [option for option, value in values.items() if value != options(SCHEDULES[name])[option].default]


def test_a_plateau_goes_on_from_its_saved_state():
    spec = "plateau:patience=1,cooldown=2"
    straight, losses = make_schedule(spec, lr=0.4, steps=50), [1.0, 2.0, 2.0, 2.0, 2.0, 0.5, 0.6, 0.7, 0.8, 0.9]
    for cut in range(len(losses)):
        for loss in losses[:cut]:
            straight.plateau.observe(loss)
        resumed = make_schedule(spec, lr=0.4, steps=50)
        resumed.plateau.state = json.loads(json.dumps(straight.plateau.state, allow_nan=False))
        for loss in losses[cut:]:
            straight.plateau.observe(loss)
            resumed.plateau.observe(loss)
            assert resumed(0) == straight(0)
        assert straight(0) < 0.4
        straight = make_schedule(spec, lr=0.4, steps=50)


def test_a_plateau_counts_a_loss_that_is_no_number_as_one_that_did_not_fall():
    schedule = make_schedule("plateau:patience=0", lr=1.0, steps=9)
    schedule.plateau.observe(float("nan"))
    assert schedule(0) == 0.1


@pytest.mark.parametrize("spec", SPECS)
def test_the_warm_up_is_linear_and_ends_where_the_schedule_begins(spec):
    plain, warmed = make_schedule(spec, lr=0.8, steps=36), make_schedule(spec, lr=0.8, steps=40, warmup=4)
    assert [warmed(t) for t in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8], rel=1e-15)
    assert [warmed(t) for t in range(4, 40)] == [plain(t) for t in range(36)]


@pytest.mark.parametrize("spec", SPECS)
def test_a_schedule_gives_python_floats(spec):
    """NumPy 2 widens float32 · np.float64."""
    schedule = make_schedule(spec, lr=np.float64(0.1), steps=9, warmup=2)
    assert [type(schedule(t)) for t in range(9)] == [float] * 9
    assert type(constant(lr=np.float64(0.1))(3)) is float


def test_what_depends_on_the_length_of_the_run():
    assert [spec for spec in SPECS if spans_run(spec)] == ["polynomial", "cosine"]
    for spec in SPECS:
        short, long = (make_schedule(spec, lr=1.0, steps=steps) for steps in (20, 30))
        assert spans_run(spec) == any(short(t) != long(t) for t in range(20))


@pytest.mark.parametrize(
    "spec",
    [
        "step", "step:step_size=-3", "step:step_size=3,gamma=0", "step:step_size=3,gamma=1.5", "multi-step",
        "multi-step:milestones=3/2", "multi-step:milestones=2/2", "multi-step:milestones=0/2",
        "multi-step:milestones=a/b", "multi-step:milestones=3,gamma=nan", "exponential", "exponential:gamma=-0.5",
        "exponential:gamma=2", "polynomial:total_iters=-1", "polynomial:power=-1", "polynomial:power=inf",
        "cosine:T_max=-1", "cosine:eta_min=-1", "plateau:factor=1", "plateau:factor=0", "plateau:patience=-1",
        "plateau:threshold=-1", "plateau:cooldown=-1", "plateau:min_lr=nan", "plateau:eps=-1",
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused_by_name(spec):
    name, _, given = spec.partition(":")
    option = given.rpartition(",")[2].partition("=")[0] or next(iter(options(SCHEDULES[name])))
    with pytest.raises(UsageError, match=f"schedule {name}: {option}="):
        make_schedule(spec, lr=0.1, steps=9)


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(UsageError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        make_schedule("cosin", lr=0.1, steps=9)


def test_every_schedule_says_its_equation():
    for schedule in SCHEDULES.values():
        assert schedule.__doc__.startswith("η")
