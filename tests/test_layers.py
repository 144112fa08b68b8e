"""Layers: values against other formulas and PyTorch's, each backward against central differences, extremes, strict arrays."""

from math import exp, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strict import Namespace, StrictArray, both

from dsgd.layers import (
    ACTIVATIONS,
    LOSSES,
    binary_cross_entropy,
    linear,
    linear_backward,
    mean_squared_error,
    softmax_cross_entropy,
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
    shapes = {"x": shape, "W": (shape[1], n_out), "b": (n_out,), "z": (shape[0], n_out)}
    x, W, b, d = (random(seed + i, *s) for i, s in enumerate(shapes.values()))
    dx, dW, db, z = map(np.empty, shapes.values())
    linear_backward(d, x, W, np.ones(len(x)), dW, db, dx)

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


# --- activations

OTHERWISE = {
    "identity": float,
    "relu": lambda z: z if z > 0 else 0.0,
    "leaky-relu": lambda z: z if z > 0 else z / 100,
    "tanh": lambda z: 1 - 2 / (exp(2 * z) + 1),
    "sigmoid": lambda z: 1 / (1 + exp(-z)),
    "gelu": lambda z: z / (1 + exp(-sqrt(8 / pi) * (z + 0.044715 * z**3))),  # (1 + tanh u)/2 = σ(2u)
}
POINTS = (-3.0, -1.0, -0.5, 0.0, 0.5, 3.0)
PYTORCH = {  # 2.13, float64: values and derivatives at POINTS
    "identity": (POINTS, (1, 1, 1, 1, 1, 1)),
    "relu": ((0, 0, 0, 0, 0.5, 3), (0, 0, 0, 0, 1, 1)),
    "leaky-relu": ((-0.03, -0.01, -0.005, 0, 0.5, 3), (0.01, 0.01, 0.01, 0.01, 1, 1)),
    "tanh": (
        (-0.9950547536867305, -0.7615941559557649, -0.46211715726000974, 0, 0.46211715726000974, 0.9950547536867305),
        (0.009866037165440166, 0.41997434161402614, 0.7864477329659274, 1, 0.7864477329659274, 0.009866037165440166),
    ),
    "sigmoid": (
        (0.04742587317756678, 0.2689414213699951, 0.3775406687981454, 0.5, 0.6224593312018546, 0.9525741268224334),
        (0.04517665973091214, 0.19661193324148185, 0.2350037122015945, 0.25, 0.2350037122015945, 0.04517665973091200),
    ),
    "gelu": (
        (-0.0036373920817729943, -0.15880800939172324, -0.15428599017485606, 0, 0.34571400982514394, 2.996362607918227),
        (-0.011584166630969648, -0.08296408384578252, 0.13263009646535764, 0.5, 0.8673699035346424, 1.0115841666309695),
    ),
}
TINY = 2.0**-100
EXTREMES = {  # values and derivatives at −1e4, −TINY, TINY and 1e4
    "identity": ((-1e4, -TINY, TINY, 1e4), (1, 1, 1, 1)),
    "relu": ((0, 0, TINY, 1e4), (0, 0, 1, 1)),
    "leaky-relu": ((-100, -0.01 * TINY, TINY, 1e4), (0.01, 0.01, 1, 1)),
    "tanh": ((-1, -TINY, TINY, 1), (0, 1, 1, 0)),
    "sigmoid": ((0, 0.5, 0.5, 1), (0, 0.25, 0.25, 0)),
    "gelu": ((0, -TINY / 2, TINY / 2, 1e4), (0, 0.5, 0.5, 1)),
}


@pytest.mark.parametrize("dtype, rtol", [("float32", 1e-6), ("float64", 1e-15)])
def test_a_sigmoid_near_0_keeps_its_digits(dtype, rtol):
    """Its slope is what is left of the gradient: at −20 half a tangent has nothing left in float32."""
    z = np.linspace(-80, 80, 1001).astype(dtype)
    a = z.copy()
    ACTIVATIONS["sigmoid"].forward(a, a)
    exact = [1 / (1 + exp(-float(value))) if value > 0 else exp(float(value)) / (1 + exp(float(value))) for value in z]
    np.testing.assert_allclose(a, exact, rtol=rtol, atol=0)


def both_ways(name, z, d):
    """φ(z), and d ← d φ′(z), as the network does it: over z itself where the slope is known from the output."""
    activation = ACTIVATIONS[name]
    a = z if activation.of_output else z * 0.0
    activation.forward(z, a)
    activation.backward(d, a if activation.of_output else z)
    return a


def at(name, points, dtype="float64"):
    """(φ, φ′) at the points."""
    slope = np.ones((1, len(points)), dtype)
    return both_ways(name, np.array([points], dtype), slope)[0], slope[0]


@pytest.mark.parametrize("name", ACTIVATIONS)
@settings(max_examples=25, deadline=None)
@given(shape=rows_and_columns, seed=seeds)
def test_an_activation_is_its_formula_and_backward_its_derivative(name, shape, seed):
    z, d = 3 * random(seed, *shape), random(seed + 1, *shape)
    z += np.copysign(10 * H, z)  # away from 0, where relu has no derivative
    gradient = d.copy()
    a = both_ways(name, z.copy(), gradient)
    np.testing.assert_allclose(a, np.vectorize(OTHERWISE[name])(z), rtol=1e-13, atol=1e-15)
    check(name, lambda: np.sum(d * both_ways(name, z.copy(), d.copy())), z, gradient)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_pytorchs_values_and_derivatives(name):
    for ours, theirs in zip(at(name, POINTS), PYTORCH[name], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_flat_or_straight_far_out_and_close_to_0_and_overflows_nowhere(name, dtype):
    for ours, expected in zip(at(name, (-1e4, -TINY, TINY, 1e4), dtype), EXTREMES[name], strict=True):
        assert ours.dtype == dtype and (ours == np.array(expected, dtype)).all(), ours


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_may_be_written_over_z_unless_z_is_kept(name, dtype):
    z = random(0, 4, 5).astype(dtype)
    a, kept = np.empty_like(z), z.copy()
    ACTIVATIONS[name].forward(z, a)
    assert z.tobytes() == kept.tobytes() and a.dtype == dtype
    if ACTIVATIONS[name].of_output:
        ACTIVATIONS[name].forward(z, z)
        assert z.tobytes() == a.tobytes()


# --- losses


def case(name, B=6, C=4, dtype=np.float64):
    """(loss, z, y) of a batch."""
    z, y = random(5, B, C).astype(dtype), random(6, B, C).astype(dtype)
    made = {"cross-entropy": (z, np.arange(B) % C), "mse": (z, y)}
    return LOSSES[name], *(made | {"binary-cross-entropy": (z[:, :1].copy(), (y[:, :1] > 0).astype(dtype))})[name]


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=15, deadline=None)
@given(shape=rows_and_columns, seed=seeds)
def test_the_gradient_of_a_loss_is_its_derivative(name, scale, shape, seed):
    loss, z, y = case(name, *shape)
    z += random(seed, *z.shape)
    loss(z, y, scale, d := np.empty_like(z))
    check(name, lambda: scale * float(loss(z, y, scale, np.empty_like(z))), z, d)


def test_cross_entropy_is_minus_log_of_the_softmax():
    z, y = random(3, 5, 4), np.array([0, 1, 2, 3, 0])
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = softmax_cross_entropy(z, y, 1.0, d := np.empty_like(z))
    np.testing.assert_allclose(loss, -np.log(p[range(5), y]).sum(), rtol=1e-14)
    np.testing.assert_allclose(d, p - np.eye(4)[y], rtol=1e-13)


def test_mean_squared_error_is_the_mean_over_the_outputs_and_the_sum_over_the_rows():
    z, y = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 4.0], [1.0, 0.0]])
    assert mean_squared_error(z, y, 0.5, d := np.empty_like(z)) == (1 + 4) / 2 + 1 / 2
    assert d.tolist() == [[0.5, -1.0], [-0.5, 0.0]]


def test_binary_cross_entropy_is_minus_log_of_the_probability():
    z, y = 3 * random(3, 8, 1), np.array([[0.0], [1.0]] * 4)
    p = 1 / (1 + np.exp(-z))
    loss = binary_cross_entropy(z, y, 1.0, d := np.empty_like(z))
    np.testing.assert_allclose(loss, np.sum(-y * np.log(p) - (1 - y) * np.log(1 - p)), rtol=1e-13)
    np.testing.assert_allclose(d, p - y, rtol=1e-13)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), seeds)
def test_binary_cross_entropy_is_cross_entropy_of_the_logits_0_and_z(B, seed):
    z, y = 5 * random(seed, B, 1), np.random.default_rng(seed).integers(0, 2, B)
    two = np.hstack([np.zeros_like(z), z])
    expected = softmax_cross_entropy(two, y, 1 / B, two)
    loss = binary_cross_entropy(z, y.reshape(-1, 1).astype(float), 1 / B, z)
    np.testing.assert_allclose(loss, expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(z, two[:, 1:], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_logits_of_binary_cross_entropy_stay_finite(dtype):
    z, y = np.array([[-1e4], [-1e4], [1e4], [1e4]], dtype), np.array([[0], [1], [0], [1]], dtype)
    losses = [float(binary_cross_entropy(z[k : k + 1], y[k : k + 1], 1.0, np.empty((1, 1), dtype))) for k in range(4)]
    assert losses == [0, 1e4, 1e4, 0]
    binary_cross_entropy(z, y, 0.5, z)
    assert z[:, 0].tolist() == [0, -0.5, 0.5, 0]


def test_huge_logits_of_cross_entropy_stay_finite():
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


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_may_be_written_over_z_and_otherwise_z_and_y_are_left_alone(name, dtype):
    loss, z, y = case(name, dtype=dtype)
    apart, over, kept = np.empty_like(z), z.copy(), (z.tobytes(), y.tobytes())
    total = loss(z, y, 1 / 6, apart)
    assert total.dtype == dtype and (z.tobytes(), y.tobytes()) == kept
    assert total == loss(over, y, 1 / 6, over)
    assert over.tobytes() == apart.tobytes()


# --- strict arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("B", [1, 5])
def test_the_layers_need_only_the_listed_functions_of_their_namespace(dtype, B):
    x, W, b, d, ones = (random(i, *s).astype(dtype) for i, s in enumerate([(B, 3), (3, 4), (4,), (B, 4), (B,)]))
    both(linear, x, W, b, d)
    both(linear_backward, d, x, W, ones, np.empty_like(W), np.empty_like(b), np.empty_like(x))
    both(linear_backward, d, x, W, ones, np.empty_like(W), np.empty_like(b), None)
    for name in ACTIVATIONS:
        both(lambda z, d: both_ways(name, z, d), random(9, B, 4).astype(dtype), d)
    for name in LOSSES:
        loss, z, y = case(name, B, dtype=dtype)
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
