"""The network: the whole gradient against central differences, ranges of layers against the whole, the start."""

import numpy as np
import pytest
from strict import both
from test_layers import along, check, close, random

from dsgd.errors import UsageError
from dsgd.layers import ACTIVATIONS, LOSSES
from dsgd.mlp import INITS, MLP, Workspace, backward, forward, initial, names

NET = MLP((5, 4, 6, 3))
B = 7
TARGETS = {
    "cross-entropy": np.arange(B) % 3,
    "mse": random(8, B, 3),
    "binary-cross-entropy": np.arange(B).reshape(B, 1) % 2 * 1.0,
}


def outputs(loss):
    return 1 if loss == "binary-cross-entropy" else 3


def whole(net, x, X, y, loss, g=None):
    """The loss at parameters x, and its gradient into g."""
    layout, work = net.layout(), Workspace(net, len(X), X)
    z = forward(net, layout.views(x), X, work, range(net.depth))
    total = LOSSES[loss](z, y, 1 / len(X), z)
    if g is not None:
        assert backward(net, layout.views(x), layout.views(g), z, work, range(net.depth)) is None
    return total * (1 / len(X))


def start(net=NET):
    """Parameters at which no unit stands near the corner of its ReLU: biases, too, are random."""
    return initial(net, "glorot", 0, "float64") + 0.3 * random(1, net.layout().size)


@pytest.mark.identity("sgd")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (4, 6)], ids=["one layer", "three layers"])
def test_the_gradient_is_the_derivative_of_the_loss(hidden, activation, loss):
    net = MLP((5, *hidden, outputs(loss)), activation)
    x, X, y = start(net), random(2, B, 5), TARGETS[loss]
    g = np.full_like(x, np.nan)  # every element is assigned, none accumulated
    whole(net, x, X, y, loss, g)
    check(f"{activation}, {loss}", lambda: whole(net, x, X, y, loss), x, g)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradient_of_a_larger_network_along_directions(activation):
    net = MLP((20, 30, 10, 3), activation)
    x, X, y = start(net), random(3, B, 20), TARGETS["cross-entropy"]
    whole(net, x, X, y, "cross-entropy", g := np.empty_like(x))
    for seed in range(5):
        direction = random(seed, len(x)) / len(x) ** 0.5
        close(activation, g @ direction, along(lambda: whole(net, x, X, y, "cross-entropy"), x, direction))


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranges_of_layers_compose_to_the_whole_to_the_bit(cuts, dtype):
    """Forward and backward through consecutive ranges, each with its own slice of the vector, as model parallelism does."""
    x, X, y = start().astype(dtype), random(2, B, 5).astype(dtype), TARGETS["cross-entropy"]
    whole(NET, x, X, y, "cross-entropy", expected := np.empty_like(x))
    ranges = [range(lo, hi) for lo, hi in zip((0, *cuts), (*cuts, NET.depth))]
    layout, g, works = NET.layout(), np.empty_like(x), []

    def own(flat, layers):
        lo, hi = layout.span(names(layers))
        return layout.views(flat[lo:hi], names(layers), lo)

    a = X
    for layers in ranges:
        works.append(Workspace(NET, B, X, layers))
        a = forward(NET, own(x, layers), a.copy(), works[-1], layers)
    d = np.array(a)  # its memory by columns, as the whole network's output
    LOSSES["cross-entropy"](d, y, 1 / B, d)
    for layers, work in zip(reversed(ranges), reversed(works)):
        d = backward(NET, own(x, layers), own(g, layers), d, work, layers)
    assert d is None and g.tobytes() == expected.tobytes()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rows", [1, B])
def test_the_network_runs_on_the_strict_array(activation, loss, rows):
    net = MLP((5, 4, 6, outputs(loss)), activation)
    x, X, y = start(net).astype("float32"), random(2, rows, 5).astype("float32"), TARGETS[loss][:rows]
    y = y if loss == "cross-entropy" else y.astype("float32")
    both(lambda *arrays: whole(net, *arrays[:3], loss, arrays[3]), x, X, y, np.empty_like(x))


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_float32_stays_float32(activation, dropout):
    net = MLP(NET.widths, activation)
    x, X = start(net).astype("float32"), random(2, B, 5).astype("float32")
    work = Workspace(net, B, X, dropout=dropout)
    assert forward(net, net.layout().views(x), X, work, range(3)).dtype == np.float32
    arrays = [array for kept in (work.a, work.z, work.h, work.d) for array in kept.values()]
    assert {array.dtype for array in (*arrays, work.ones)} == {np.dtype("float32")}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [False, True])
def test_a_workspace_keeps_no_more_than_the_chain_rule_needs(activation, dropout):
    """One array a hidden layer; one more for what it was before the dropout, one more for z if the slope is of z."""
    work = Workspace(MLP(NET.widths, activation), B, random(0, 1), dropout=dropout)
    arrays = {id(array) for kept in (work.a, work.z, work.h) for array in kept.values()}
    assert len(arrays) == 1 + 2 * (1 + dropout + (not ACTIVATIONS[activation].of_output))


def test_the_last_layer_has_no_activation():
    x, X = start(), random(2, B, 5)
    assert forward(NET, NET.layout().views(x), X, Workspace(NET, B, X), range(3)).min() < 0


# --- the start


def weights(scheme, n_in, n_out, seed=0):
    net = MLP((n_in, n_out))
    return net.layout().views(initial(net, scheme, seed, "float64"))["layer 0 weight"]


def test_he_has_the_variance_of_the_paper():
    W = weights("he", 400, 300)
    assert abs(W.std() / (2 / 400) ** 0.5 - 1) < 0.01 and abs(W.mean()) < 0.001


def test_glorot_fills_the_interval_of_the_paper():
    W, bound = weights("glorot", 400, 200), (6 / 600) ** 0.5
    assert 0.999 * bound < W.max() <= bound and -bound <= W.min() < -0.999 * bound
    assert abs(W.var() / (bound**2 / 3) - 1) < 0.01


@pytest.mark.parametrize("scheme", INITS)
def test_the_gain_multiplies_the_weights(scheme):
    for gain in (3.0, 0.5):
        np.testing.assert_allclose(
            weights(f"{scheme}:gain={gain}", 20, 30), gain * weights(scheme, 20, 30), rtol=1e-13, atol=1e-15
        )
    assert (weights(f"{scheme}:gain=1", 20, 30) == weights(scheme, 20, 30)).all()


@pytest.mark.parametrize(
    "scheme, message",
    [("hee", "unknown init 'hee'; did you mean 'he'"), ("he:gains=3", "no option 'gains'; did you mean 'gain'")],
)
def test_an_unknown_start_or_option_names_the_nearest(scheme, message):
    with pytest.raises(UsageError, match=message):
        weights(scheme, 2, 2)


@pytest.mark.parametrize("scheme", INITS)
def test_the_start_is_a_function_of_the_seed_the_scheme_and_the_layer(scheme):
    x = initial(NET, scheme, 3, "float64")
    assert (initial(NET, scheme, 3, "float64") == x).all()
    assert (initial(NET, scheme, 4, "float64") != x).any()
    shared = NET.layout().span(names([0, 1]))[1]  # the same first two layers in front of another last one
    assert (initial(MLP((5, 4, 6, 9)), scheme, 3, "float64")[:shared] == x[:shared]).all()


@pytest.mark.parametrize("scheme", INITS)
def test_biases_start_at_0_and_float32_is_the_rounded_float64(scheme):
    x = initial(NET, scheme, 0, "float64")
    for name, array in NET.layout().views(x).items():
        assert (array == 0).all() == name.endswith("bias"), name
    assert initial(NET, scheme, 0, "float32").tobytes() == x.astype("float32").tobytes()
