"""Evaluation: accuracy, confusion, recall and R² against plain loops and definitions, whatever the number of rows."""

import json
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_layers import random

from dsgd.data import Dataset
from dsgd.layers import LOSSES
from dsgd.metrics import ROWS, classify, decide, evaluate
from dsgd.mlp import MLP
from dsgd.objectives import Supervised


class Identity(NamedTuple):
    """An objective whose outputs are the samples themselves."""

    data: Dataset
    loss: object

    def predict(self, x, X):
        return X.copy()


def classifier(z, y, C):
    z, y = np.asarray(z, float), np.asarray(y)
    y, loss = (y.reshape(-1, 1) * 1.0, "binary-cross-entropy") if z.shape[1] == 1 else (y, "cross-entropy")
    return Identity(Dataset(z[:0], y[:0], z, y, classes=C, labels=tuple("abcdef"[:C])), LOSSES[loss])


def regression(z, y):
    z, y = (np.asarray(array, float).reshape(len(z), -1) for array in (z, y))
    return Identity(Dataset(z[:0], y[:0], z, y, classes=0), LOSSES["mse"])


def test_the_largest_logit_decides_and_of_one_its_sign():
    assert decide(np.array([[0.1, 3, -1], [5, 1, 2], [0, 0, 0]])).tolist() == [1, 0, 0]  # the first of equals
    found = decide(np.array([[-2.0], [0.0], [1e-9]]))
    assert found.tolist() == [0, 0, 1] and found.dtype == np.intp


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_accuracy_confusion_and_recall_are_a_plain_loops(n, outputs, seed):
    """With few samples some classes have none, and with some a class is never taken."""
    C, z = max(outputs, 2), random(seed, n, outputs)
    y = np.random.default_rng(seed).integers(0, C, n)
    counts, right = [[0] * C for _ in range(C)], 0
    for logits, label in zip(z.tolist(), y.tolist()):
        taken = max(range(C), key=lambda c: logits[c]) if outputs > 1 else int(logits[0] > 0)
        counts[label][taken] += 1
        right += taken == label
    found = classify(classifier(z, y, C), None)
    assert found["confusion"] == counts and found["labels"] == list("abcdef"[:C])
    assert found["recall"] == [counts[c][c] / sum(counts[c]) if sum(counts[c]) else None for c in range(C)]
    assert evaluate(classifier(z, y, C), None)["test_accuracy"] == right / n
    json.dumps(found)


def test_a_class_without_samples_has_no_recall():
    found = classify(classifier([[9, 0, 0], [9, 0, 0], [0, 0, 9]], [0, 2, 2], 3), None)
    assert found["confusion"] == [[1, 0, 0], [0, 0, 0], [1, 0, 1]] and found["recall"] == [1.0, None, 0.5]


@pytest.mark.parametrize("n", [1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 5])
def test_every_row_counts_once_however_many_there_are(n):
    z, y = random(0, n, 3), np.arange(n) % 3
    objective = classifier(z, y, 3)
    found = evaluate(objective, None)
    assert found["test_accuracy"] == np.mean(z.argmax(axis=1) == y)
    np.testing.assert_allclose(found["test_loss"], objective.loss(z.copy(), y, 1.0, z.copy()) / n, rtol=1e-12)
    assert np.sum(classify(objective, None)["confusion"]) == n
    z, y = random(0, n, 2), random(1, n, 2) + 1
    found = evaluate(regression(z, y), None)
    np.testing.assert_allclose(found["test_loss"], np.mean((z - y) ** 2), rtol=1e-12)
    if n > 1:
        np.testing.assert_allclose(found["test_r2"], r2(z, y), rtol=1e-12)


def r2(z, y):
    """1 − Σ (y − ŷ)² / Σ (y − ȳ)², over all outputs."""
    missed = spread = 0.0
    means = [sum(column) / len(column) for column in y.T.tolist()]
    for output, target in zip(z.tolist(), y.tolist()):
        missed += sum((a - b) ** 2 for a, b in zip(output, target))
        spread += sum((b - mean) ** 2 for b, mean in zip(target, means))
    return 1 - missed / spread


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_r2_is_its_definition(n, outputs, seed):
    z, y = random(seed, n, outputs), random(seed + 1, n, outputs)
    found = evaluate(regression(z, y), None)
    np.testing.assert_allclose(found["test_r2"], r2(z, y), rtol=1e-11)
    assert found["test_accuracy"] is None


def test_r2_is_1_for_the_targets_and_0_for_their_mean():
    y = random(0, 30, 2)
    assert evaluate(regression(y, y), None)["test_r2"] == 1
    np.testing.assert_allclose(
        evaluate(regression(np.tile(y.mean(axis=0), (30, 1)), y), None)["test_r2"], 0, atol=1e-14
    )


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e-30, 12345.678])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_targets_have_no_r2(value, dtype):
    """The mean of seven times 0.1 is not 0.1: a spread of 1e-33 is none."""
    y = np.full((7, 2), value, dtype)
    found = evaluate(Identity(Dataset(y[:0], y[:0], y + 1, y, classes=0), LOSSES["mse"]), None)
    assert found["test_r2"] is None and found["test_loss"] > 0.9


def test_r2_of_float32_is_added_up_in_float64():
    y = (random(0, 5000, 1) + 1000).astype("float32")
    z = (y + 0.3 * random(1, 5000, 1)).astype("float32")
    found = evaluate(Identity(Dataset(z[:0], y[:0], z, y, classes=0), LOSSES["mse"]), None)
    np.testing.assert_allclose(found["test_r2"], r2(z, y), rtol=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_network_is_evaluated_on_its_test_part_with_its_own_outputs(loss):
    X, C = random(0, 30, 4), {"cross-entropy": 3, "binary-cross-entropy": 2, "mse": 0}[loss]
    y = np.arange(30) % C if C else random(1, 30, 2)
    data = Dataset(X[:20], y[:20], X[20:], y[20:], classes=C, labels=tuple("abc"[:C]))
    objective = Supervised(MLP((4, 5, {3: 3, 2: 1, 0: 2}[C])), data, loss=loss)
    x = objective.start(0, "float64")
    z, found = objective.predict(x, X[20:]), objective.evaluate(x)
    if not C:
        np.testing.assert_allclose(
            [found["test_r2"], found["test_loss"]], [r2(z, y[20:]), np.mean((z - y[20:]) ** 2)], rtol=1e-12
        )
        assert found["test_accuracy"] is None and objective.classify(x) == {}
        return
    taken = z.argmax(axis=1) if C > 2 else z[:, 0] > 0
    assert found["test_accuracy"] == np.mean(taken == y[20:]) and "test_r2" not in found
    logits = z if C > 2 else np.hstack([0 * z, z])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["test_loss"], -np.log(p[range(10), y[20:]]).mean(), rtol=1e-12)
    assert np.diag(objective.classify(x)["confusion"]).sum() == 10 * found["test_accuracy"]
