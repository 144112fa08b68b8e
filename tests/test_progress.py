"""Progress: periods weighed by samples, convergence against a plain loop, the plateau told, and a state that goes on."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsgd.progress import Progress
from dsgd.schedules import make_schedule


class Told:
    """A plateau that only remembers what it was told."""

    def __init__(self):
        self.state = []

    def observe(self, loss):
        self.state = [*self.state, loss]


def progress(period=1, tolerance=0.0, patience=0, plateau=None, divergence=0):
    return Progress(period, SimpleNamespace(plateau=plateau, warmup=0), tolerance, patience, divergence)


def read(watched, heads, start=0):
    """Tell it the (samples, Σ loss) of step after step; after which of them it was converged."""
    found = []
    for t, (samples, loss) in enumerate(heads, start):
        watched.read([[samples, loss, 0, 0]], t + 1)
        found.append(watched.converged)
    return found


def losses(watched, means, samples=10):
    return read(watched, [(samples, samples * mean) for mean in means])


# --- convergence


def test_it_converges_when_the_loss_has_not_fallen_for_as_many_periods_as_patience_says():
    assert losses(progress(patience=2), [3, 2, 1, 1, 1, 0]) == [False] * 4 + [True, False]
    assert losses(progress(patience=1), [3, 3]) == [False, True]
    assert losses(progress(patience=3), [3, 4, 5, 2, 2, 2, 2]) == [False] * 6 + [True]


def test_the_first_period_is_never_stalled():
    assert losses(progress(patience=1), [1e300]) == [False]


def test_a_fall_by_exactly_the_tolerance_is_none_and_by_more_is_one():
    assert losses(progress(tolerance=0.5, patience=1), [2.0, 1.5]) == [False, True]
    assert losses(progress(tolerance=0.5, patience=1), [2.0, 1.49]) == [False, False]


def test_the_best_loss_counts_and_not_the_last():
    """A loss that jumps up and falls back has not fallen."""
    assert losses(progress(patience=3), [1, 5, 4, 3]) == [False, False, False, True]


def test_a_loss_that_creeps_down_by_less_than_the_tolerance_converges():
    assert losses(progress(tolerance=0.1, patience=3), [1, 0.95, 0.9, 0.85]) == [False, False, False, True]


def test_without_patience_it_never_converges():
    assert not any(losses(progress(patience=0), [1.0] * 50))


def test_a_loss_that_is_not_a_number_has_not_fallen():
    assert losses(progress(patience=2), [1, float("nan"), float("nan")]) == [False, False, True]


values = st.sampled_from([0.0, 0.5, 0.9, 1.0, 1.1, 2.0, 3.0]) | st.floats(0, 4)
sequences = st.lists(values, min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(sequences, st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 4))
def test_convergence_is_a_plain_loops(means, tolerance, patience):
    expected = []
    for i in range(len(means)):
        running = 0  # periods in a row, up to this one, that were not below the best before them by more than tolerance
        for j in range(1, i + 1):
            running = 0 if means[j] < min(means[:j]) - tolerance else running + 1
        expected.append(0 < patience <= running)
    assert losses(progress(1, tolerance, patience), means, samples=1) == expected


# --- periods


def test_a_period_is_the_mean_over_its_samples_and_not_of_its_steps():
    told = Told()
    read(progress(period=3, plateau=told), [(10, 10.0), (10, 20.0), (1, 12.0), (4, 1.0), (0, 0.0), (4, 7.0)])
    assert told.state == [42 / 21, 1.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.lists(st.tuples(st.integers(1, 50), st.floats(0, 100)), max_size=25))
def test_the_plateau_is_told_the_mean_of_each_whole_period(period, heads):
    told = Told()
    read(progress(period, plateau=told), heads)
    whole = [heads[i : i + period] for i in range(0, len(heads) - period + 1, period)]
    assert told.state == pytest.approx(
        [sum(loss for _, loss in part) / sum(n for n, _ in part) for part in whole], rel=1e-12
    )


def test_only_the_last_head_is_new():
    """The observer keeps the heads of steps that it has read until a record is due."""
    told, heads = Told(), []
    watched = progress(period=2, plateau=told)
    for t, loss in enumerate([1.0, 3.0, 5.0, 7.0]):
        heads.append([1.0, loss, 0, 0])
        watched.read(heads, t + 1)
    assert told.state == [2.0, 6.0]


def test_a_plateau_is_not_told_of_the_warm_up():
    schedule = make_schedule("plateau:patience=0,factor=0.5", lr=1.0, steps=20, warmup=4)
    watched, rates = Progress(1, schedule), []
    for t in range(8):
        rates.append(schedule(t))
        watched.read([[5.0, 5.0, 0, 0]], t + 1)
    assert rates == [
        0.25,
        0.5,
        0.75,
        1.0,
        1.0,
        1.0,
        0.5,
        0.25,
    ]  # told after steps 5, 6, 7: the first is the best so far


def test_it_is_needed_for_patience_or_for_a_plateau():
    assert [progress().needed, progress(patience=1).needed, progress(plateau=Told()).needed] == [False, True, True]


def test_a_plateau_reduces_the_step_size_when_the_mean_of_a_period_stalls():
    schedule = make_schedule("plateau:patience=1,factor=0.5", lr=1.0, steps=20)
    watched = Progress(2, schedule)
    rates = []
    for t in range(10):
        rates.append(schedule(t))
        watched.read([[5.0, 5.0, 0, 0]], t + 1)
    assert rates == [1.0] * 6 + [0.5] * 4  # told at steps 2, 4 and 6; the second stall in a row is one too many


# --- divergence


def test_it_diverges_when_the_loss_was_over_ten_times_the_best_so_often_in_a_row():
    def diverged(means, times):
        watched = progress(divergence=times)
        losses(watched, means)
        return watched.diverged, watched.ended

    assert diverged([1, 11, 5, 11], 2) == (False, None)
    assert diverged([1, 11, 10.5], 2) == (True, "divergence")
    assert diverged([1, 10, 10], 2) == (False, None)  # over, not at
    assert diverged([1, 2, 30, 0.5, 6], 1) == (True, "divergence")  # of the best so far
    assert diverged([1, 1e9, 1e9], 0) == (False, None)


# --- a state that goes on


@settings(max_examples=60, deadline=None)
@given(sequences, st.integers(0, 30), st.integers(1, 4), st.integers(1, 3), st.sampled_from([0.0, 0.1]))
def test_a_saved_state_goes_on_as_if_unbroken(means, at, period, patience, tolerance):
    """Broken off within a period, too, and before any loss was seen; the state is JSON."""
    heads = [(i % 3 + 1, mean) for i, mean in enumerate(means)]

    def fresh():
        return progress(period, tolerance, patience, Told())

    unbroken, first, second = fresh(), fresh(), fresh()
    expected = read(unbroken, heads)
    read(first, heads[:at])
    second.state = json.loads(json.dumps(first.state, allow_nan=False))
    assert read(second, heads[at:], at) == expected[at:]
    assert second.state == unbroken.state


def test_a_state_without_a_plateau_says_so():
    watched = progress(patience=2)
    assert watched.state == {
        "samples": 0, "loss": 0.0, "best": None, "stalled": 0, "converged": False, "raised": 0, "diverged": False,
        "plateau": None,
    }  # fmt: skip
    other = progress(patience=2)
    other.state = watched.state
    assert losses(other, [1, 1, 1]) == [False, False, True]
