"""What a trained network is worth on samples it has not seen."""

import numpy as np

from dsgd.arrays import to_host

ROWS = 1000  # evaluated at a time: a fixed shape, whatever the number of workers


def evaluate(objective, x):
    """{"test_loss", "test_accuracy"}, and "test_r2" for a regression, of parameters x on the test part.

    accuracy is None for a regression: R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)², over all outputs;
    None where y is constant.
    """
    data = objective.data
    X, y, classes = data.X_test, data.y_test, data.classes
    loss, right, missed = 0.0, 0, 0.0
    for lo in range(0, len(X), ROWS):
        z, target = to_host(objective.predict(x, data.inputs(X[lo : lo + ROWS]))), y[lo : lo + ROWS]
        if classes:
            right += int(np.sum(decide(z) == target.reshape(len(z))))
        else:
            missed += float(np.sum(np.subtract(z, target, dtype=np.float64) ** 2))
        loss += float(objective.loss(z, target, 1.0, z))
    found = {"test_loss": loss / len(X), "test_accuracy": right / len(X) if classes else None}
    if not classes:
        spread = float(np.sum((y - y.mean(axis=0, dtype=np.float64)) ** 2))
        found["test_r2"] = 1 - missed / spread if (y != y[0]).any() else None
    return found


def decide(z):
    """Class numbers (B,) from logits: the largest of (B, C), or for (B, 1) whether it is positive.

    >>> import numpy as np
    >>> decide(np.array([[0.1, 2.0, -1.0]])), decide(np.array([[-0.3], [0.3]]))
    (array([1]), array([0, 1]))
    """
    return np.argmax(z, axis=1) if z.shape[1] > 1 else (z[:, 0] > 0).astype(np.intp)


def classify(objective, x):
    """{"labels", "confusion", "recall"} of parameters x on the test part, for JSON.

    labels: names of the classes, in the order of their numbers.
    confusion: counts [C][C], row c holds the samples of class c, column k those that were taken for class k.
    recall: of the samples of each class, the part that was recognised, [C]; None for a class without samples.
    """
    data = objective.data
    X, y, C = data.X_test, data.y_test, data.classes
    blocks = (data.inputs(X[lo : lo + ROWS]) for lo in range(0, len(X), ROWS))
    taken = np.concatenate([decide(to_host(objective.predict(x, block))) for block in blocks])
    counts = np.bincount(y.reshape(len(y)).astype(np.intp) * C + taken, minlength=C * C).reshape(C, C)
    recall = [float(row[c] / row.sum()) if row.sum() else None for c, row in enumerate(counts)]
    return {"labels": list(objective.data.labels), "confusion": counts.tolist(), "recall": recall}
