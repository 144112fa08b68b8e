"""Dropout: a mask is a function of (seed, step, layer, position, unit); training drops, evaluation does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strict import both
from test_layers import check, random

from dsgd.arrays import PURPOSES
from dsgd.data import Dataset
from dsgd.dropout import masks
from dsgd.layers import ACTIVATIONS
from dsgd.mlp import MLP, names
from dsgd.objectives import Supervised
from dsgd.sampling import Batch

LIKE = np.zeros(1)
N, B = 40, 9  # training samples, rows of a batch


def mask(p=0.5, seed=0, t=0, layer=0, rows=64, width=100, first=0, like=LIKE):
    """The mask (rows, width) of one layer."""
    batch = Batch(np.arange(rows), t, first)
    return masks(p, seed, batch, (3,) + (width,) * (layer + 1) + (2,), [layer], like)[layer]


# --- masks


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_a_part_p_is_dropped_everywhere_alike_and_the_mean_stays(p):
    drawn = mask(p, rows=2000, width=101)
    sigma = (p / (1 - p)) ** 0.5  # of one element, whose mean is 1
    assert abs(drawn.mean() - 1) < 4 * sigma / drawn.size**0.5
    assert np.abs(drawn.mean(axis=0) - 1).max() < 5 * sigma / 2000**0.5  # of each unit
    assert np.abs(drawn.mean(axis=1) - 1).max() < 7 * sigma / 101**0.5  # of each sample


def test_rows_and_units_are_independent():
    drawn = mask(0.5, rows=2000, width=40) - 1  # of variance 1
    rows, units = drawn[1:] * drawn[:-1], drawn[:, 1:] * drawn[:, :-1]
    assert max(abs(rows.mean()), abs(units.mean())) < 4 / rows.size**0.5
    assert len(np.unique(drawn, axis=0)) == 2000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_an_element_is_0_or_1_over_1_minus_p(p, dtype):
    drawn = mask(p, like=np.zeros(1, dtype))
    assert drawn.dtype == dtype and np.unique(drawn).tolist() == [0, np.dtype(dtype).type(1 / (1 - p))]


def test_p_near_0_drops_nothing_and_p_near_1_everything():
    assert (mask(1e-12) == 1 / (1 - 1e-12)).all()
    for like in (LIKE, LIKE.astype("float32")):
        assert (mask(1 - 2**-53, like=like) == 0).all()


@pytest.mark.parametrize("width, counters", [(19, 3), (16, 2), (1, 1)])
def test_a_mask_is_what_its_definition_says(width, counters):
    """Unit j of the sample at position k: number j of those that Philox gives from its counter (k ⌈n/8⌉, layer, step) on."""
    seed, t, layer, first, p = 5, 3, 1, 4, 0.3
    drawn = mask(p, seed, t, layer, 6, width, first)
    key = np.random.SeedSequence([seed, PURPOSES["dropout"]]).generate_state(2, np.uint64)
    for k in range(6):
        stream, numbers = np.random.Philox(key=key, counter=[(first + k) * counters, layer, t, 0]), []
        for word in map(int, stream.random_raw(4 * counters)):
            numbers += [word % 2**32, word // 2**32]  # a word of 64 bits is two numbers
        assert [value > 0 for value in drawn[k]] == [number / 2**32 >= p for number in numbers[:width]]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 30),
    st.integers(1, 40),
    st.lists(st.integers(0, 30), max_size=4),
    st.integers(0, 2**20),
    st.sampled_from(["float32", "float64"]),
)
def test_a_part_drops_the_units_of_its_rows_of_the_whole_batch(rows, width, cuts, t, dtype):
    batch, widths, like = Batch(np.arange(rows), t, 0), (3, width, width + 1, 2), np.zeros(1, dtype)
    whole = masks(0.4, 1, batch, widths, range(3), like)
    borders = [0, *sorted(min(cut, rows) for cut in cuts), rows]
    for lo, hi in zip(borders, borders[1:]):
        part = masks(0.4, 1, batch.part(lo, hi), widths, range(3), like)
        assert part.keys() == whole.keys() == {0, 1}
        for l in part:
            assert part[l].shape == (hi - lo, widths[l + 1]) and part[l].tobytes() == whole[l][lo:hi].tobytes()


def test_steps_layers_seeds_and_positions_drop_different_units():
    drawn = [
        mask(seed=seed, t=t, layer=l, first=k)
        for seed in (0, 1, 2**64)
        for t in (0, 1)
        for l in (0, 1)
        for k in (0, 500)
    ]
    assert len({array.tobytes() for array in drawn}) == len(drawn)
    for i, ours in enumerate(drawn):
        assert all(0.4 < (ours == theirs).mean() < 0.6 for theirs in drawn[:i])


def test_a_layers_mask_depends_on_no_other_layer():
    batch = Batch(np.arange(8), 2, 16)
    whole = masks(0.5, 0, batch, (3, 10, 12, 10, 2), range(4), LIKE)
    assert whole.keys() == {0, 1, 2}  # the output is not dropped
    alone = masks(0.5, 0, batch, (7, 99, 12, 2, 5), [1], LIKE)
    assert alone.keys() == {1} and (alone[1] == whole[1]).all()
    assert masks(0.5, 0, batch, (3, 2), range(1), LIKE) == {}


# --- in the network


def supervised(activation="relu", dropout=0.4, widths=(5, 11, 6, 3)):
    data = Dataset(random(0, N, 5), np.arange(N) % 3, random(1, 20, 5), np.arange(20) % 3, classes=3, labels=(0, 1, 2))
    return Supervised(MLP(widths, activation, dropout), data, loss="cross-entropy", init="glorot", seed=3)


def start(objective):
    return objective.start(0, "float64") + 0.3 * random(1, objective.layout.size)


def batch(t=6, first=8, rows=B):
    return Batch(np.arange(rows) * 3 % N, t, first)


def gradient(objective, x, b, scale=1 / B):
    """(Σ L, the gradient)."""
    g = np.full_like(x, np.nan)
    loss = objective.gradient(objective.views(x), objective.views(g), b, scale)
    return float(loss), g


def plain(objective, x, b):
    """Σ L by the formulas: φ(z) · mask after each hidden layer."""
    net, params, a = objective.net, objective.views(x), objective.data.X[b.rows]
    drawn = masks(net.dropout, objective.seed, b, net.widths, range(net.depth), x)
    for l in range(net.depth):
        z = a @ params[f"layer {l} weight"] + params[f"layer {l} bias"]
        if l < net.depth - 1:
            h = np.empty_like(z)
            ACTIVATIONS[net.activation].forward(z, h)
            a = h * drawn[l]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return -np.log(p[range(len(z)), objective.data.y[b.rows]]).sum()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_loss_and_gradient_are_those_of_the_network_with_these_units_dropped(activation):
    objective = supervised(activation)
    x, b = start(objective), batch()
    loss, g = gradient(objective, x, b)
    np.testing.assert_allclose(loss, plain(objective, x, b), rtol=1e-13)
    check(activation, lambda: plain(objective, x, b) / B, x, g)
    assert gradient(supervised(activation, 0.0), x, b)[0] != loss


def test_a_step_drops_the_same_units_again_and_another_step_others():
    objective = supervised()
    x = start(objective)
    first = gradient(objective, x, batch(t=1))
    other = gradient(objective, x, batch(t=2))
    again = gradient(objective, x, batch(t=1))
    assert first[1].tobytes() == again[1].tobytes() != other[1].tobytes()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("borders", [(0, 9), (0, 4, 9), (0, 1, 1, 7, 9)])
def test_the_workers_gradients_add_up(activation, borders):
    """To rounding, and not to the bit: the products have other shapes."""
    objective = supervised(activation)
    x, whole = start(objective), batch(first=0)
    expected = gradient(objective, x, whole)
    parts = [gradient(objective, x, whole.part(lo, hi)) for lo, hi in zip(borders, borders[1:]) if hi > lo]
    np.testing.assert_allclose(sum(loss for loss, _ in parts), expected[0], rtol=1e-13)
    np.testing.assert_allclose(sum(g for _, g in parts), expected[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stages_give_the_bits_of_the_whole_network(activation, cuts, dtype):
    """With dropout, each stage on its own range of x, as model parallelism does it; two steps."""
    objective = supervised(activation)
    objective.data = objective.data._replace(X=objective.data.X.astype(dtype))
    x, layout = start(objective).astype(dtype), objective.layout
    ranges = [range(lo, hi) for lo, hi in zip((0, *cuts), (*cuts, 3))]
    spans = [layout.span(names(layers)) for layers in ranges]
    works = [objective.workspace(B, x, layers) for layers in ranges]
    for t in (0, 1):
        b, g = batch(t), np.full_like(x, np.nan)
        loss, expected = gradient(objective, x, b)
        a = objective.data.X[b.rows]
        for layers, (lo, hi), work in zip(ranges, spans, works):
            a = objective.forward(objective.views(x[lo:hi], layers, lo), a.copy(), b, work, layers)
        d = np.array(a)  # its memory by columns, as the whole network's output
        assert float(objective.loss(d, objective.data.y[b.rows], 1 / B, d)) == loss
        for layers, (lo, hi), work in reversed([*zip(ranges, spans, works)]):
            params, grads = (objective.views(flat[lo:hi], layers, lo) for flat in (x, g))
            d = objective.backward(params, grads, np.array(d), work, layers)
        assert d is None and g.tobytes() == expected.tobytes()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_what_is_evaluated_is_the_whole_network(activation):
    dropping, keeping = supervised(activation, 0.4), supervised(activation, 0.0)
    x = start(dropping)
    gradient(dropping, x, batch())
    assert dropping.predict(x, dropping.data.X).tobytes() == keeping.predict(x, keeping.data.X).tobytes()
    assert dropping.evaluate(x) == keeping.evaluate(x) and dropping.classify(x) == keeping.classify(x)


def test_a_network_without_hidden_layers_drops_nothing():
    objective = supervised(widths=(5, 3))
    x = start(objective)
    assert (
        gradient(objective, x, batch())[1].tobytes()
        == gradient(supervised(dropout=0.0, widths=(5, 3)), x, batch())[1].tobytes()
    )


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_dropout_runs_on_the_strict_array(activation):
    objective, layers = supervised(activation), range(3)
    x, b = start(objective).astype("float32"), batch()

    def step(x, X, y, g):
        work = objective.workspace(B, x, layers)
        z = objective.forward(objective.views(x), X, b, work, layers)
        loss = objective.loss(z, y, 1 / B, z)
        objective.backward(objective.views(x), objective.views(g), z, work, layers)
        return loss

    both(step, x, objective.data.X[b.rows].astype("float32"), objective.data.y[b.rows], np.empty_like(x))
