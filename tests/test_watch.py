"""Gradients watched: root mean squares by layer, and the two verdicts at their exact borders."""

import json
from math import inf, nan, sqrt
from statistics import median_high

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_layers import random

from dsgd.data import Dataset
from dsgd.layout import Layout
from dsgd.mlp import MLP
from dsgd.norms import Norms
from dsgd.objectives import Supervised
from dsgd.sampling import Batch
from dsgd.watch import EXPLODING, REMEDY, RUNNING, VANISHING, Watch, describe

LAYOUT = MLP((3, 4, 5, 2)).layout()


def row(norm=1.0, first=1.0, last=1.0, step=1):
    return {"step": step, "gradient_norm": norm, "gradient_rms": [first, 0.5, last]}


def judged(rows):
    watch = Watch(LAYOUT)
    return [watch.judge(row) for row in rows]


def test_the_root_mean_square_of_a_layer_is_over_its_weights_and_its_bias():
    g = random(0, LAYOUT.size)
    found = Watch(LAYOUT).see({name: float(np.sum(view**2)) for name, view in LAYOUT.views(g).items()})
    layers = np.split(g, [3 * 4 + 4, 3 * 4 + 4 + 4 * 5 + 5])
    np.testing.assert_allclose(found["gradient_rms"], [np.sqrt(np.mean(layer**2)) for layer in layers], rtol=1e-14)
    np.testing.assert_allclose(found["gradient_norm"], np.linalg.norm(g), rtol=1e-14)
    assert found["verdict"] is None


def test_the_squares_of_the_written_order_are_what_it_sees():
    norms, g = Norms(LAYOUT), random(1, LAYOUT.size).astype("float32")
    found = Watch(LAYOUT).see(norms.by_array(norms.whole(norms.sums(g))))
    np.testing.assert_allclose(found["gradient_norm"], np.linalg.norm(g.astype("float64")), rtol=1e-13)


def test_a_vector_that_has_no_layers_is_watched_as_one():
    found = Watch(Layout({"theta": (4,)})).see({"theta": 36.0})
    assert found == {"gradient_norm": 6.0, "gradient_rms": [3.0], "verdict": None}


# --- vanishing


def test_vanishing_is_said_from_the_twentieth_record_running_on():
    small = row(first=0.99e-4)
    assert judged([small] * 22) == [None] * 19 + ["vanishing"] * 3
    assert judged([row()] * 7 + [small] * 20) == [None] * 26 + ["vanishing"]


def test_a_break_begins_the_count_anew():
    small = row(first=0.99e-4)
    assert judged([small] * 19 + [row()] + [small] * 20) == [None] * 39 + ["vanishing"]
    assert judged([small] * 20 + [row()] + [small]) == [None] * 19 + ["vanishing", None, None]


@pytest.mark.parametrize("first, last", [(VANISHING, 1.0), (1.0, 1e-9), (0.0, 0.0), (1e-3, 1.0)])
def test_a_first_layer_that_is_not_under_the_border_never_vanishes(first, last):
    assert set(judged([row(first=first, last=last)] * 50)) == {None}


def test_one_layer_cannot_vanish():
    watch = Watch(Layout({"layer 0 weight": (2, 2), "layer 0 bias": (2,)}))
    assert {watch.see({"layer 0 weight": 1e-30, "layer 0 bias": 0.0})["verdict"] for _ in range(30)} == {None}


# --- exploding


def test_exploding_is_over_a_thousand_times_the_median_so_far():
    usual = [row(norm) for norm in (1.0, 3.0, 2.0)]  # of median 2
    assert judged([*usual, row(2000.0)])[-1] is None
    assert judged([*usual, row(2000.1)])[-1] == "exploding"
    assert judged([*usual, row(2000.1), row(2.0)])[-1] is None


def test_the_first_record_is_never_exploding_and_a_median_of_0_says_nothing():
    assert judged([row(1e30)]) == [None]
    assert judged([row(0.0), row(0.0), row(1.0)]) == [None] * 3


@pytest.mark.parametrize("norm", [inf, nan])
def test_a_norm_that_is_not_finite_is_exploding_even_at_first(norm):
    assert judged([row(norm)]) == ["exploding"]
    assert judged([row(), row(norm)]) == [None, "exploding"]


def test_exploding_is_said_first_if_both_are_true():
    small = row(first=1e-9)
    assert judged([small] * 25 + [small | {"gradient_norm": 1e9}])[-2:] == ["vanishing", "exploding"]


norms = st.floats(0, 1e6) | st.sampled_from([1e-3, 1.0, 1e5])
rows = st.lists(st.builds(row, norms, st.sampled_from([0.0, 1e-5, 1.0]), st.sampled_from([0.0, 1.0])), max_size=60)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_the_verdicts_are_a_plain_loops(rows):
    expected, running = [], 0
    for i, seen in enumerate(rows):
        before = [earlier["gradient_norm"] for earlier in rows[:i]]
        running = running + 1 if seen["gradient_rms"][0] < VANISHING * seen["gradient_rms"][2] else 0
        explodes = before and 0 < EXPLODING * median_high(before) < seen["gradient_norm"]
        expected.append("exploding" if explodes else "vanishing" if running >= RUNNING else None)
    assert judged(rows) == expected


@settings(max_examples=40, deadline=None)
@given(rows, st.integers(0, 60))
def test_judging_the_saved_records_again_goes_on_as_if_unbroken(rows, at):
    unbroken = Watch(LAYOUT)
    expected = [unbroken.judge(seen) for seen in rows]
    resumed = Watch(LAYOUT)
    for seen in json.loads(json.dumps(rows[:at])):
        resumed.judge(seen)
    assert [resumed.judge(seen) for seen in rows[at:]] == expected[at:]
    assert resumed.verdict == unbroken.verdict == (expected[-1] if expected else None)


# --- in words


def test_the_sentence_names_the_step_the_layers_and_a_remedy():
    vanishing = describe(row(first=2e-7, last=3e-2, step=140) | {"verdict": "vanishing"})
    assert vanishing.startswith("step 140: vanishing gradients: ")
    assert "first layer's root mean square gradient is 2.0e-07, the last layer's 3.0e-02" in vanishing
    exploding = describe(row(norm=4.5e6, step=3) | {"verdict": "exploding"})
    assert exploding.startswith("step 3: exploding gradients: the norm of the gradient is 4.5e+06, over 1,000 times")
    for sentence, verdict in ((vanishing, "vanishing"), (exploding, "exploding")):
        assert sentence.endswith(REMEDY[verdict]) and "\n" not in sentence


@pytest.mark.parametrize(
    "net, gain, expected",
    [
        (MLP((10, *[20] * 19, 3), "sigmoid"), 1.0, "small"),
        (MLP((10, *[20] * 19, 3), "relu"), 3.0, "large"),
        (MLP((10, *[20] * 19, 3), "relu"), 1.0, None),
    ],
    ids=["sigmoid", "relu at 3 × he", "relu"],
)
def test_twenty_layers_vanish_with_sigmoid_and_grow_with_a_gain_and_neither_with_he(net, gain, expected):
    """What the verdicts are for, at the start: the factor between the gradients of the first layer and the last."""
    X, y = random(0, 64, 10), np.arange(64) % 3
    objective = Supervised(
        net, Dataset(X, y, X, y, classes=3, labels=(0, 1, 2)), loss="cross-entropy", init=f"he:gain={gain}"
    )
    x = objective.start(0, "float64")
    g = np.empty_like(x)
    objective.gradient(objective.views(x), objective.views(g), Batch(np.arange(64), 0), 1 / 64)
    found = Watch(objective.layout).see({name: float(np.sum(view**2)) for name, view in objective.views(g).items()})
    ratio, norm = found["gradient_rms"][0] / found["gradient_rms"][-1], found["gradient_norm"]
    assert {"small": ratio < VANISHING, "large": norm > 1e6, None: 1e-3 < ratio < 1e3 and norm < sqrt(1e3)}[expected], (
        ratio,
        norm,
    )
