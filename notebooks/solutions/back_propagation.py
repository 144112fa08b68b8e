"""Solutions of notebook 1, and the mistakes that are made on the way."""

import numpy as np


def relu_backward(d, a):
    """Only what was above 0 on the way forward takes part."""
    return d * (a > 0)


def linear_backward(d, x, W):
    """z = x W + b: each weight has seen every sample, each bias too, and each input has gone into every output."""
    return x.T @ d, d.sum(axis=0), d @ W.T


def softmax_backward(z, y):
    """(p − [c = y]) / m"""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return p / len(y)


def central_difference(loss, x, h):
    """(L(x + h e_i) − L(x − h e_i)) / 2h, element by element."""
    g = np.empty_like(x)
    for i in range(len(x)):
        at = x[i]
        x[i] = at + h
        above = loss(x)
        x[i] = at - h
        g[i] = (above - loss(x)) / (2 * h)
        x[i] = at
    return g


def keeps_all(d, a):
    return d


def asks_the_delta(d, a):
    return d * (d > 0)


def transposed(d, x, W):
    return d.T @ x, d.sum(axis=0), d @ W.T


def mean_of_the_bias(d, x, W):
    return x.T @ d, d.mean(axis=0), d @ W.T


def weights_not_transposed(d, x, W):
    return x.T @ d, d.sum(axis=0), d @ W if W.shape[0] == W.shape[1] else d @ W.T


def without_the_batch(z, y):
    return softmax_backward(z, y) * len(y)


def forgets_the_label(z, y):
    p = np.exp(z)
    return p / p.sum(axis=1, keepdims=True) / len(y)


def one_sided(loss, x, h):
    base, g = loss(x), np.empty_like(x)
    for i in range(len(x)):
        x[i] += h
        g[i] = (loss(x) - base) / h
        x[i] -= h
    return g


def never_goes_back(loss, x, h):
    g = np.empty_like(x)
    for i in range(len(x)):
        x[i] += h
        above = loss(x)
        x[i] -= 2 * h
        g[i] = (above - loss(x)) / (2 * h)
    return g


MISTAKES = [
    ("relu_backward", keeps_all, "Step 1, layer 0 delta"),
    ("relu_backward", asks_the_delta, "Step 1, layer 0 delta"),
    ("linear_backward", transposed, "Step 1, layer 1 weight"),
    ("linear_backward", mean_of_the_bias, "Step 1, layer 1 bias"),
    ("linear_backward", weights_not_transposed, "Step 1, layer 1 input"),
    ("softmax_backward", without_the_batch, "Step 1, layer 1 delta"),
    ("softmax_backward", forgets_the_label, "Step 1, layer 1 delta"),
    ("central_difference", one_sided, "Step 1, layer 0 weight"),
    ("central_difference", never_goes_back, "Step 1, layer 0 weight"),
]
