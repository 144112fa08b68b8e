"""Layers: each backward against central differences of its forward, in float64; strict arrays; extreme values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strict import Namespace, StrictArray, both

from dsgd.layers import (
    ACTIVATIONS,
    linear,
    linear_backward,
    mean_squared_error,
    relu,
    softmax_cross_entropy,
    tanh,
)

H = 1e-5  # the truncation error of a central difference is of order H², its rounding error of order 1e-16 / H
rows_and_columns = st.tuples(st.integers(1, 9), st.integers(1, 7))
seeds = st.integers(0, 2**32 - 1)


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def differences(f, x):
    """∂f/∂x elementwise by central differences; x is put back as it was."""
    result = np.empty_like(x)
    for at in np.ndindex(x.shape):
        kept = x[at]
        x[at] = kept + H
        above = f()
        x[at] = kept - H
        result[at] = (above - f()) / (2 * H)
        x[at] = kept
    return result


def along(f, x, direction):
    """The derivative of f at x along a direction, by a central difference."""
    kept = x.copy()
    x[:] = kept + H * direction
    above = f()
    x[:] = kept - H * direction
    below = f()
    x[:] = kept
    return (above - below) / (2 * H)


def close(what, analytic, numeric):
    np.testing.assert_allclose(
        analytic, numeric, rtol=1e-6, atol=1e-8, err_msg=f"{what}: analytic\n{analytic}\nnumeric\n{numeric}"
    )


def check(what, f, x, gradient):
    """The gradient of the scalar function f at x, elementwise and along a random direction."""
    close(what, gradient, differences(f, x))
    direction = random(99, *x.shape)
    close(f"{what}, along a direction", np.sum(gradient * direction), along(f, x, direction))


@settings(max_examples=25, deadline=None)
@given(rows_and_columns, st.integers(1, 6), seeds)
def test_linear_backward_is_the_derivative(shape, n_out, seed):
    B, n_in = shape
    x, W, b, d = (
        random(seed, B, n_in),
        random(seed + 1, n_in, n_out),
        random(seed + 2, n_out),
        random(seed + 3, B, n_out),
    )
    z, dW, db, dx = np.empty((B, n_out)), np.empty_like(W), np.empty_like(b), np.empty_like(x)
    linear_backward(d, x, W, np.ones(B), dW, db, dx)

    def f():
        linear(x, W, b, z)
        return np.sum(d * z)

    for what, array, gradient in (("W", W, dW), ("b", b, db), ("x", x, dx)):
        check(f"linear, ∂/∂{what}", f, array, gradient)


def test_the_first_layer_computes_no_gradient_of_its_input():
    x, W, d = random(0, 4, 3), random(1, 3, 2), random(2, 4, 2)
    first, other = (np.empty((3, 2)), np.empty(2)), (np.empty((3, 2)), np.empty(2))
    linear_backward(d, x, W, np.ones(4), *first, None)
    linear_backward(d, x, W, np.ones(4), *other, np.empty_like(x))
    assert all((ours == theirs).all() for ours, theirs in zip(first, other))


@pytest.mark.parametrize("name", ACTIVATIONS)
@settings(max_examples=25, deadline=None)
@given(shape=rows_and_columns, seed=seeds)
def test_activation_backward_is_the_derivative(name, shape, seed):
    activate, backward = ACTIVATIONS[name]
    z, d = random(seed, *shape), random(seed + 1, *shape)
    z += np.copysign(10 * H, z)  # away from 0, where relu has no derivative

    def f():
        a = z.copy()
        activate(a)
        return np.sum(d * a)

    a, gradient = z.copy(), d.copy()
    activate(a)
    backward(gradient, a)
    check(name, f, z, gradient)


def test_relu_is_0_at_0_and_so_is_its_derivative():
    a, d = np.array([[-1.0, 0.0, 2.0]]), np.ones((1, 3))
    relu(a)
    ACTIVATIONS["relu"][1](d, a)
    assert a.tolist() == [[0, 0, 2]] and d.tolist() == [[0, 0, 1]]


def test_tanh_of_a_large_value_is_flat_and_finite():
    a, d = np.array([[-1e4, 1e4]]), np.ones((1, 2))
    tanh(a)
    ACTIVATIONS["tanh"][1](d, a)
    assert a.tolist() == [[-1, 1]] and d.tolist() == [[0, 0]]


@settings(max_examples=25, deadline=None)
@given(rows_and_columns, seeds, st.sampled_from([1.0, 0.25]))
def test_cross_entropy_gradient_is_the_derivative(shape, seed, scale):
    z, y, d = random(seed, *shape), np.random.default_rng(seed).integers(0, shape[1], shape[0]), np.empty(shape)
    softmax_cross_entropy(z, y, scale, d)
    check("cross-entropy", lambda: scale * float(softmax_cross_entropy(z, y, scale, np.empty(shape))), z, d)


@settings(max_examples=25, deadline=None)
@given(rows_and_columns, seeds, st.sampled_from([1.0, 0.25]))
def test_mean_squared_error_gradient_is_the_derivative(shape, seed, scale):
    z, y, d = random(seed, *shape), random(seed + 1, *shape), np.empty(shape)
    mean_squared_error(z, y, scale, d)
    check("mse", lambda: scale * float(mean_squared_error(z, y, scale, np.empty(shape))), z, d)


def test_cross_entropy_is_minus_log_of_the_softmax():
    z, y = random(3, 5, 4), np.array([0, 1, 2, 3, 0])
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = softmax_cross_entropy(z, y, 1.0, d := np.empty_like(z))
    np.testing.assert_allclose(loss, -np.log(p[range(5), y]).sum(), rtol=1e-14)
    np.testing.assert_allclose(d, p - np.eye(4)[y], rtol=1e-13)


def test_huge_logits_stay_finite():
    z = np.array([[1000.0, -1000.0, 0.0], [1e300, 0.0, -1e300], [-1e5, -1e5, -1e5]])
    loss = softmax_cross_entropy(z, np.array([0, 0, 2]), 1.0, d := np.empty_like(z))
    np.testing.assert_allclose(loss, np.log(3))
    np.testing.assert_allclose(d[:2], 0, atol=1e-15)
    np.testing.assert_allclose(d[2], [1 / 3, 1 / 3, -2 / 3])


def test_the_maximum_is_taken_row_by_row():
    """With one maximum over the batch, a row that is huge would turn exp of every other row into 0, and its log into -inf."""
    small, y = random(4, 3, 5), np.array([1, 2, 3])
    z = np.vstack([small, np.full((1, 5), 1e6)])
    d, alone = np.empty_like(z), np.empty_like(small)
    loss = softmax_cross_entropy(z, np.append(y, 0), 1.0, d)
    loss_alone = softmax_cross_entropy(small, y, 1.0, alone)
    np.testing.assert_allclose(loss, loss_alone + np.log(5), rtol=1e-14)
    np.testing.assert_allclose(d[:3], alone, rtol=1e-14)


def losses(B=6, C=4, dtype=np.float64):
    z = random(5, B, C).astype(dtype)
    return [(softmax_cross_entropy, z, np.arange(B) % C), (mean_squared_error, z, random(6, B, C).astype(dtype))]


@pytest.mark.parametrize("case", range(2), ids=["cross-entropy", "mse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_may_be_written_over_z(case, dtype):
    loss, z, y = losses(dtype=dtype)[case]
    apart, over = np.empty_like(z), z.copy()
    assert loss(z, y, 0.5, apart) == loss(over, y, 0.5, over)
    assert over.tobytes() == apart.tobytes()


@pytest.mark.parametrize("case", range(2), ids=["cross-entropy", "mse"])
def test_a_loss_leaves_z_and_y_alone_and_keeps_float32(case):
    loss, z, y = losses(dtype=np.float32)[case]
    kept = z.copy(), y.copy()
    assert loss(z, y, 1 / 6, np.empty_like(z)).dtype == np.float32
    assert (z == kept[0]).all() and (y == kept[1]).all()


def pair(name):
    """Forward, then backward, on an array z and a cotangent d, both in place."""

    def run(z, d):
        ACTIVATIONS[name][0](z)
        ACTIVATIONS[name][1](d, z)

    return run


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("B", [1, 5])
def test_the_layers_need_only_the_listed_functions_of_their_namespace(dtype, B):
    x, W, b, d, ones = (random(i, *s).astype(dtype) for i, s in enumerate([(B, 3), (3, 4), (4,), (B, 4), (B,)]))
    both(linear, x, W, b, d)
    both(linear_backward, d, x, W, ones, np.empty_like(W), np.empty_like(b), np.empty_like(x))
    both(linear_backward, d, x, W, ones, np.empty_like(W), np.empty_like(b), None)
    for name in ACTIVATIONS:
        both(pair(name), d, random(9, B, 4).astype(dtype))
    for loss, z, y in losses(B, dtype=dtype):
        both(lambda z, y, d: loss(z, y, 1 / B, d), z, y, np.empty_like(z))
        both(lambda z, y: loss(z, y, 1 / B, z), z, y)


@pytest.mark.parametrize("host", [np.array, np.exp, np.sum, float, bool, int, list, lambda a: a + np.ones(2), lambda a: np.ones(2) + a,
                                  lambda a: Namespace.add(a, np.ones(2)), lambda a: np.add(a, 1), lambda a: a.__setitem__(0, np.float64(1))])  # fmt: skip
def test_the_strict_array_refuses_the_host(host):
    """Otherwise the test above proves nothing."""
    with pytest.raises(TypeError):
        host(StrictArray(np.zeros(2)))


def test_the_strict_namespace_holds_the_listed_functions_only():
    with pytest.raises(AttributeError):
        Namespace.einsum  # noqa: B018
