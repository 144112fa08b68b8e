"""Forward and backward pairs, one derivation each.  B is the number of rows, n_in and n_out the widths.

Every function writes into arrays that it is given: a step allocates nothing of the parameters' size.
`d` is ∂loss/∂(output) on the way in and ∂loss/∂(input) on the way out.
"""

from math import pi, sqrt
from typing import NamedTuple

from dsgd.arrays import namespace, zeros


def linear(x, W, b, z):
    """z = x W + b.   x (B, n_in), W (n_in, n_out), b (n_out,), z (B, n_out)

    >>> import numpy as np
    >>> z = np.empty((1, 2))
    >>> linear(np.array([[1.0, 2.0]]), W=np.array([[1.0, 0.0], [0.0, 3.0]]), b=np.array([0.5, 0.5]), z=z)
    >>> z
    array([[1.5, 6.5]])
    """
    xp = namespace(x)
    xp.matmul(x, W, out=z)
    xp.add(z, b, out=z)


def linear_backward(d, x, W, ones, dW, db, dx):
    """z_kj = Σ_i x_ki W_ij + b_j, hence

        ∂/∂W_ij = Σ_k x_ki d_kj = (xᵀ d)_ij      ∂/∂b_j = Σ_k d_kj      ∂/∂x_ki = Σ_j d_kj W_ij = (d Wᵀ)_ki

    d (B, n_out), x (B, n_in), ones (B,), dW like W, db like b, dx like x or None for the first layer.

    >>> import numpy as np
    >>> x, W, d = np.array([[1.0, 2.0]]), np.eye(2), np.array([[3.0, 4.0]])
    >>> dW, db, dx = np.empty((2, 2)), np.empty(2), np.empty((1, 2))
    >>> linear_backward(d, x, W, np.ones(1), dW, db, dx)
    >>> dW, db, dx
    (array([[3., 4.],
           [6., 8.]]), array([3., 4.]), array([[3., 4.]]))
    """
    xp = namespace(d)
    xp.matmul(x.T, d, out=dW)
    xp.matmul(ones, d, out=db)
    if dx is not None:
        xp.matmul(d, W.T, out=dx)


def identity(z, a):
    """a = z: none.   z, a (B, n), a may be z"""
    a[:] = z


def identity_backward(d, a):
    """∂a/∂z = 1.   d, a (B, n), d in place"""


def relu(z, a):
    """a = max(z, 0).   z, a (B, n), a may be z"""
    namespace(z).maximum(z, zeros(z), out=a)  # NumPy is 4 times as fast with an array as with a number


def relu_backward(d, a):
    """∂a/∂z = 1 where z > 0, that is where a > 0; 0 elsewhere.   d, a (B, n), d in place

    >>> import numpy as np
    >>> d = np.array([[5.0, 5.0]])
    >>> relu_backward(d, a=np.array([[2.0, 0.0]]))
    >>> d
    array([[5., 0.]])
    """
    xp = namespace(d)
    xp.multiply(d, xp.greater(a, 0), out=d)


LEAK = 0.01  # PyTorch's negative_slope


def leaky_relu(z, a):
    """a = max(z, 0.01 z), Maas et al. 2013.   z, a (B, n), a may be z"""
    xp = namespace(z)
    xp.maximum(z, xp.multiply(z, LEAK), out=a)


def leaky_relu_backward(d, a):
    """∂a/∂z = 1 where z > 0, that is where a > 0; 0.01 elsewhere.   d, a (B, n), d in place"""
    xp = namespace(d)
    d[:] = xp.where(xp.greater(a, 0), d, xp.multiply(d, LEAK))


def tanh(z, a):
    """a = tanh z.   z, a (B, n), a may be z"""
    namespace(z).tanh(z, out=a)


def tanh_backward(d, a):
    """∂a/∂z = 1 − tanh² z = 1 − a².   d, a (B, n), d in place"""
    xp = namespace(d)
    slope = xp.multiply(a, a)
    xp.subtract(1, slope, out=slope)
    xp.multiply(d, slope, out=d)


def sigmoid(z, a):
    """a = σ(z) = 1/(1 + e^−z) = e^min(z, 0) / (1 + e^−|z|).   z, a (B, n), a may be z

    Neither power overflows, and a σ near 0 keeps all its digits, which (1 + tanh(z/2))/2 loses from z = −15 on.
    """
    xp = namespace(z)
    e = xp.absolute(z)
    xp.exp(xp.negative(e, out=e), out=e)
    xp.add(e, 1, out=e)
    xp.exp(xp.minimum(z, 0, out=a), out=a)
    xp.divide(a, e, out=a)


def sigmoid_backward(d, a):
    """∂a/∂z = σ(z) (1 − σ(z)) = a (1 − a).   d, a (B, n), d in place"""
    xp = namespace(d)
    slope = xp.subtract(1, a)
    xp.multiply(slope, a, out=slope)
    xp.multiply(d, slope, out=d)


C, K = sqrt(2 / pi), 0.044715  # of gelu


def gelu(z, a):
    """a = z/2 (1 + tanh u),  u = √(2/π) (z + 0.044715 z³).   z, a (B, n), not the same

    The tanh form of Hendrycks and Gimpel 2016 (arXiv 1606.08415), section 2; PyTorch's approximate="tanh".
    """
    xp = namespace(z)
    xp.multiply(z, _gelu_tanh(z), out=a)
    xp.add(a, z, out=a)
    xp.multiply(a, 0.5, out=a)


def gelu_backward(d, z):
    """∂a/∂z = (1 + T)/2 + z/2 (1 − T²) u′,  T = tanh u,  u′ = √(2/π) (1 + 3 · 0.044715 z²).   d, z (B, n), d in place"""
    xp = namespace(d)
    T = _gelu_tanh(z)
    slope = xp.multiply(z, z)
    xp.multiply(slope, 3 * C * K, out=slope)
    xp.add(slope, C, out=slope)  # u′
    xp.multiply(slope, z, out=slope)
    xp.multiply(slope, xp.subtract(1, xp.multiply(T, T)), out=slope)
    xp.add(slope, T, out=slope)
    xp.add(slope, 1, out=slope)
    xp.multiply(slope, 0.5, out=slope)
    xp.multiply(d, slope, out=d)


def _gelu_tanh(z):
    xp = namespace(z)
    u = xp.multiply(z, z)
    xp.multiply(u, C * K, out=u)
    xp.add(u, C, out=u)
    xp.multiply(u, z, out=u)
    return xp.tanh(u, out=u)


def softmax_cross_entropy(z, y, scale, d):
    """L = −log p_y with p = softmax z;  ∂L/∂z_c = p_c − [c = y].

    The row-wise maximum is subtracted first: softmax does not change, and exp cannot overflow.
    Args:
        z: logits (B, C).  y: class numbers (B,).  scale: 1/m, m the size of the global batch.
        d: (B, C), receives scale · ∂L/∂z; may be z itself.
    Returns:
        Σ L over the rows, a 0-d array.

    >>> import numpy as np
    >>> d = np.empty((2, 2))
    >>> loss = softmax_cross_entropy(np.zeros((2, 2)), y=np.array([0, 1]), scale=1 / 2, d=d)
    >>> round(float(loss), 6), d  # 2 ln 2, and (p − [c = y]) / 2
    (1.386294, array([[-0.25,  0.25],
           [ 0.25, -0.25]]))
    """
    xp, p = namespace(z), d.T  # (C, B): where z lies column by column, maximum and sum run along whole rows
    xp.subtract(z.T, z.T.max(axis=0), out=p)
    at = y, xp.arange(p.shape[1])  # p[y_k, k] for all k
    z_y = p[at]
    xp.exp(p, out=p)
    total = p.sum(axis=0)
    loss = (xp.log(total) - z_y).sum()
    xp.divide(total, scale, out=total)
    xp.divide(p, total, out=p)
    p[at] -= scale
    return loss


def mean_squared_error(z, y, scale, d):
    """L = (1/C) Σ_c (z_c − y_c)²;  ∂L/∂z_c = (2/C) (z_c − y_c).   z, y, d (B, C); see softmax_cross_entropy"""
    xp = namespace(z)
    xp.subtract(z, y, out=d)
    loss = xp.divide(xp.sum(xp.multiply(d, d)), z.shape[1])
    xp.multiply(d, scale * (2 / z.shape[1]), out=d)
    return loss


def binary_cross_entropy(z, y, scale, d):
    """L = −y log σ(z) − (1 − y) log(1 − σ(z)) = max(z, 0) − z y + log(1 + e^−|z|);  ∂L/∂z = σ(z) − y.

    z: logits (B, 1).  y: 0 or 1, (B, 1), of z's dtype.  d: (B, 1); see softmax_cross_entropy.
    """
    xp = namespace(z)
    terms = xp.log1p(xp.exp(xp.negative(xp.absolute(z))))
    xp.add(terms, xp.maximum(z, 0), out=terms)
    loss = xp.sum(xp.subtract(terms, xp.multiply(z, y)))
    sigmoid(z, d)
    xp.subtract(d, y, out=d)
    xp.multiply(d, scale, out=d)
    return loss


class Activation(NamedTuple):
    """forward(z, a) writes a = φ(z); backward(d, s) multiplies d by φ′, with s the output a, or else the input z."""

    forward: object
    backward: object
    of_output: bool = True  # whether φ′ is known from a: z is then not kept


ACTIVATIONS = {
    "identity": Activation(identity, identity_backward),
    "relu": Activation(relu, relu_backward),
    "leaky-relu": Activation(leaky_relu, leaky_relu_backward),
    "tanh": Activation(tanh, tanh_backward),
    "sigmoid": Activation(sigmoid, sigmoid_backward),
    "gelu": Activation(gelu, gelu_backward, of_output=False),
}
LOSSES = {
    "cross-entropy": softmax_cross_entropy,
    "binary-cross-entropy": binary_cross_entropy,
    "mse": mean_squared_error,
}
