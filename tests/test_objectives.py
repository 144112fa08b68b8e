"""Objectives: penalties and losses against differences, scikit-learn's gradients, parts of a batch that add up."""

import inspect

import numpy as np
import pytest
from strict import both
from test_layers import check, random

from dsgd.data import Dataset
from dsgd.layout import cut
from dsgd.mlp import MLP
from dsgd.norms import Norms
from dsgd.objectives import Quadratic, Supervised
from dsgd.sampling import Batch
from dsgd.update import Update

N, TEST, B = 30, 12, 8  # samples, of the test part, rows of a batch
FEATURES = 5
LOSSES = {"cross-entropy": 3, "binary-cross-entropy": 1, "mse": 3}  # and outputs of the network


def data(loss):
    X, X_test = random(0, N, FEATURES), random(1, TEST, FEATURES)
    if loss == "mse":
        return Dataset(X, random(2, N, 3), X_test, random(3, TEST, 3), classes=0)
    C = 2 if loss == "binary-cross-entropy" else 3
    return Dataset(X, np.arange(N) % C, X_test, np.arange(TEST) % C, classes=C, labels=tuple("abc"[:C]))


def supervised(loss="cross-entropy", activation="tanh", hidden=(4, 6)):
    net = MLP((FEATURES, *hidden, LOSSES[loss]), activation)
    return Supervised(net, data(loss), loss=loss, init="glorot")


def start(objective):
    """Random biases, too; no weight stands near 0, where |w| has no derivative."""
    x = objective.start(0, "float64") + 0.3 * random(1, objective.layout.size)
    return x + np.copysign(1e-3, x)


def gradient(objective, x, batch, scale=1 / B):
    """(Σ L, the gradient), every element of which is assigned."""
    g = np.full_like(x, np.nan)
    loss = objective.gradient(objective.views(x), objective.views(g), batch, scale)
    return float(loss), g


def some(rows=B, first=0):
    return Batch(np.arange(rows) * 7 % N, 0, first)


def weights(objective, flat):
    return [view for name, view in objective.views(flat).items() if name.endswith("weight")]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("borders", [(0, 4, 8), (0, 1, 7, 8), (0, 1, 2, 3, 4, 5, 6, 7, 8)])
def test_the_parts_of_a_batch_add_up(loss, borders):
    objective, whole = supervised(loss), some()
    x = start(objective)
    expected = gradient(objective, x, whole)
    parts = [gradient(objective, x, whole.part(lo, hi)) for lo, hi in zip(borders, borders[1:])]
    np.testing.assert_allclose(sum(loss for loss, _ in parts), expected[0], rtol=1e-13)
    np.testing.assert_allclose(sum(g for _, g in parts), expected[1], rtol=1e-12, atol=1e-14)


def test_the_bits_of_a_gradient_do_not_depend_on_the_passes_before_it():
    """Parts of all sizes use one memory, whose first rows they are; a resumed run has had other passes."""
    made = data("cross-entropy")
    made = made._replace(X=made.X.astype("float32"))
    used, *fresh = (Supervised(MLP((FEATURES, 40, 33, 3)), made, loss="cross-entropy") for _ in range(N))
    x = used.start(0, "float32")
    gradient(used, x, Batch(np.arange(N), 0))
    for rows, other in enumerate(fresh, start=1):
        (loss, g), (expected, alone) = (gradient(objective, x, some(rows)) for objective in (used, other))
        assert loss == expected and g.tobytes() == alone.tobytes(), rows


# --- penalties, which the update adds to the averaged gradient

PENALTIES = [{"l1": 0.03}, {"l2": 0.2}, {"l1": 0.03, "l2": 0.2}]
penalties = pytest.mark.parametrize("options", PENALTIES, ids=["l1", "l2", "both"])


class Taker:
    """An optimizer that only keeps the gradient it is given."""

    layerwise = False

    def step(self, x, g, lr, lengths):
        self.g = g * 1.0


def penalised(layout, x, g, lo=0, hi=None, clip_norm=0.0, **options):
    """What the optimizer of a range of x is given for the averaged gradient g."""
    update = Update(Taker(), Norms(layout, lo, hi), clip_norm, **options)
    update.step(x[lo:hi], g[lo:hi], 1.0)
    return update.optimizer.g


@penalties
@pytest.mark.parametrize("loss", LOSSES)
def test_the_penalised_gradient_is_the_derivative_of_the_penalised_loss(loss, options):
    objective = supervised(loss)
    x = start(objective)
    l1, l2 = options.get("l1", 0.0), options.get("l2", 0.0)

    def f():
        penalty = sum(l1 * np.abs(W).sum() + l2 / 2 * (W * W).sum() for W in weights(objective, x))
        return gradient(objective, x, some())[0] / B + penalty

    check(f"{loss}, {options}", f, x, penalised(objective.layout, x, gradient(objective, x, some())[1], **options))


@penalties
def test_biases_are_free_and_the_averaged_gradient_is_left_alone(options):
    objective = supervised()
    x = start(objective)
    _, g = gradient(objective, x, some())
    g.flags.writeable = False
    found = objective.views(penalised(objective.layout, x, g, **options))
    for name, ours in objective.views(g).items():
        assert (ours == found[name]).all() == name.endswith("bias"), name


def test_l1_does_not_move_a_weight_that_is_0():
    objective = supervised()
    x, g = start(objective), random(4, objective.layout.size)
    x[::2] = 0
    moved = penalised(objective.layout, x, g, l1=0.5) != g
    assert not moved[::2].any() and moved[1::2].any()


@penalties
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_penalty_is_its_formula_wherever_the_vector_is_cut(options, dtype):
    """A layer longer than one block of the optimizers, in key ranges that cut it and in ranges of layers."""
    layout = MLP((400, 350, 3)).layout()
    x, g = random(0, layout.size).astype(dtype), random(1, layout.size).astype(dtype)
    expected, free = penalised(layout, x, g, **options), layout.views(g)
    for name, W in layout.views(x).items():
        extra = options.get("l1", 0.0) * np.sign(W) + options.get("l2", 0.0) * W if W.ndim == 2 else 0 * W
        np.testing.assert_allclose(
            layout.views(expected)[name], free[name] + extra, atol=1e-6 if dtype == "float32" else 1e-15
        )
    for ranges in (cut(layout.size, 3), [(0, 140350), (140350, layout.size)]):
        parts = [penalised(layout, x, g, lo, hi, **options) for lo, hi in ranges]
        assert np.concatenate(parts).tobytes() == expected.tobytes()


def test_the_clip_is_on_what_came_from_the_data_and_the_penalty_comes_after_it():
    """Step after step, clipped and not: the memory that is kept carries nothing over."""
    objective = supervised()
    layout, x = objective.layout, start(objective)
    update = Update(Taker(), Norms(layout), 1.0, l2=0.2)
    for size in (5.0, 0.5, 5.0, 0.3):
        g = random(4, layout.size)
        g *= size / np.linalg.norm(g)
        update.step(x, g, 1.0)
        expected = penalised(layout, x, g * min(1, 1 / size), l2=0.2)
        np.testing.assert_allclose(update.optimizer.g, expected, rtol=1e-4, atol=1e-6)


def test_penalties_run_on_the_strict_array():
    layout = supervised().layout
    x, g = random(0, layout.size), random(9, layout.size)
    for dtype in ("float32", "float64"):
        both(lambda x, g: penalised(layout, x, g, l1=0.03, l2=0.2), x.astype(dtype), g.astype(dtype))


# --- scikit-learn

SCIKIT = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}  # our name: theirs


def theirs(objective, x, alpha):
    """(loss, gradient) of scikit-learn's MLPClassifier or MLPRegressor over all samples, at parameters x.

    With n samples and C outputs, theirs is for both kinds of cross-entropy the gradient of

        (1/n) Σ L_i + α/(2n) Σ W²                     so that λ₂ = α/n

    and for a regression that of (1/n) Σ_i Σ_c ½ (z − y)² + α/(2n) Σ W², which is C/2 times ours for λ₂ = (2/C) α/n.
    The loss of a regression is ½ of the mean over samples and outputs: half of ours.
    """
    networks = pytest.importorskip("sklearn.neural_network")
    net, params, y = objective.net, objective.views(x), objective.data.y.reshape(N, -1)
    C, classes = net.widths[-1], objective.data.classes
    kind = networks.MLPClassifier if classes else networks.MLPRegressor
    model = kind(activation=SCIKIT[net.activation], alpha=alpha)
    model.n_layers_, model.n_outputs_ = net.depth + 1, C
    model.out_activation_ = "identity" if not classes else "softmax" if C > 1 else "logistic"
    model.coefs_ = [params[f"layer {l} weight"] for l in range(net.depth)]
    model.intercepts_ = [params[f"layer {l} bias"] for l in range(net.depth)]
    y = np.eye(C)[y[:, 0]] if C > 1 and classes else y
    kept = {key: [None] * net.depth for key in ("deltas", "coef_grads", "intercept_grads")}
    weighted = {"sample_weight": None} if "sample_weight" in inspect.signature(model._backprop).parameters else {}
    activations = [objective.data.X] + [None] * net.depth
    loss, coefs, intercepts = model._backprop(objective.data.X, y, activations=activations, **kept, **weighted)
    g = np.concatenate([part.ravel() for pair in zip(coefs, intercepts) for part in pair])
    return (loss, g) if classes else (2 * loss, g * 2 / C)


@pytest.mark.parametrize("scale", [1, 8, 16])  # of the start's weights: units saturate, and small slopes count
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("activation", SCIKIT)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_scikit_learns(loss, activation, alpha, scale):
    l2 = alpha / N if loss != "mse" else alpha / N * 2 / LOSSES["mse"]
    objective = supervised(loss, activation)
    x = scale * start(objective)
    _, expected = theirs(objective, x, alpha)
    _, g = gradient(objective, x, Batch(np.arange(N), 0), 1 / N)
    np.testing.assert_allclose(penalised(objective.layout, x, g, l2=l2), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_scikit_learns(loss):
    objective = supervised(loss)
    x = start(objective)
    expected, _ = theirs(objective, x, 0.0)
    np.testing.assert_allclose(gradient(objective, x, Batch(np.arange(N), 0), 1 / N)[0] / N, expected, rtol=1e-12)


# --- the objective's other parts


@pytest.mark.parametrize("loss", LOSSES)
def test_batches_of_different_sizes_do_not_disturb_each_other(loss):
    objective = supervised(loss)
    x, batches = start(objective), [some(3), some(8), some(3, first=5), some(8)]
    found = [gradient(objective, x, batch)[1].tobytes() for batch in batches]
    assert found == [gradient(supervised(loss), x, batch)[1].tobytes() for batch in batches]
    assert found[1] == found[3]


def test_labels_are_class_numbers_and_none_for_a_regression():
    for loss in ("cross-entropy", "binary-cross-entropy"):
        labels = supervised(loss).labels
        assert labels.dtype == np.intp and (labels == data(loss).y).all()
    assert supervised("mse").labels is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_targets_of_one_logit_are_numbers_of_the_samples_dtype(dtype):
    made = data("binary-cross-entropy")
    made = made._replace(X=made.X.astype(dtype), X_test=made.X_test.astype(dtype))
    objective = Supervised(MLP((FEATURES, 4, 1)), made, loss="binary-cross-entropy")
    x = objective.start(0, dtype)
    assert objective.data.y.shape == (N, 1) and objective.data.y.dtype == objective.data.y_test.dtype == dtype
    assert gradient(objective, x, some())[1].dtype == dtype and objective.predict(x, made.X_test).shape == (TEST, 1)


def test_one_logit_and_two_classes_learn_the_same_separation():
    """The gradient of one logit is the difference of the gradients of two, whose difference it is."""
    one, made = supervised("binary-cross-entropy", hidden=()), data("binary-cross-entropy")
    two = Supervised(MLP((FEATURES, 2)), made, loss="cross-entropy")
    x = start(one)
    y = np.zeros(two.layout.size)
    for name, view in two.views(y).items():
        view[..., 1] = one.views(x)[name].reshape(view.shape[:-1])
    (loss, g), (other_loss, other) = gradient(one, x, some()), gradient(two, y, some())
    np.testing.assert_allclose(loss, other_loss, rtol=1e-13)
    np.testing.assert_allclose(g, np.concatenate([v[..., 1].ravel() for v in two.views(other).values()]), rtol=1e-12)


def test_a_quadratic_is_half_a_square_and_its_parts_add_up():
    objective, batch = Quadratic(size=4, samples=N, curvature=3.0), some()
    x = random(0, 4)
    loss, g = gradient(objective, x, batch)
    check("quadratic", lambda: gradient(objective, x, batch)[0] / B, x, g)
    np.testing.assert_allclose(loss, 1.5 * np.sum((x - objective.centres[batch.rows]) ** 2), rtol=1e-13)
    parts = [gradient(objective, x, batch.part(lo, hi))[1] for lo, hi in ((0, 3), (3, 8))]
    np.testing.assert_allclose(sum(parts), g, rtol=1e-12)
