"""The gradient of a network of relu layers with cross-entropy in plain NumPy: no guards, no generality, all in place."""

import numpy as np


def make(widths, rows):
    """(x (n,), g (n,), gradient(X, y) -> mean loss), float32; g is of the mean over the rows."""
    pairs = list(zip(widths, widths[1:]))
    n = sum(a * b + b for a, b in pairs)
    x, g = np.zeros(n, np.float32), np.zeros(n, np.float32)
    (W, b), (dW, db) = views(x, pairs), views(g, pairs)
    for w, (n_in, _) in zip(W, pairs):
        w[:] = np.random.default_rng(0).standard_normal(w.shape) * np.sqrt(2 / n_in)
    outputs, deltas = ([np.empty((rows, width), np.float32) for width in widths[1:]] for _ in range(2))
    last, ones, line = len(pairs) - 1, np.ones(rows, np.float32), np.arange(rows)

    def gradient(X, y):
        a = X
        for l, z in enumerate(outputs):
            np.matmul(a, W[l], out=z)
            z += b[l]
            a = np.maximum(z, 0, out=z) if l < last else z
        d = a
        d -= d.max(axis=1, keepdims=True)
        true = d[line, y]
        np.exp(d, out=d)
        total = d.sum(axis=1, keepdims=True)
        d /= total
        d[line, y] -= 1
        d /= rows
        for l in range(last, -1, -1):
            np.matmul((outputs[l - 1] if l else X).T, d, out=dW[l])
            np.dot(ones, d, out=db[l])
            if l:
                d = np.matmul(d, W[l].T, out=deltas[l - 1])
                d *= outputs[l - 1] > 0
        return float((np.log(total[:, 0]) - true).mean())

    return x, g, gradient


def views(flat, pairs):
    """([W of each layer], [b of each layer]) within a flat vector."""
    weights, biases, at = [], [], 0
    for a, b in pairs:
        weights.append(flat[at : at + a * b].reshape(a, b))
        biases.append(flat[at + a * b : at + a * b + b])
        at += a * b + b
    return weights, biases
