"""Forward and backward pairs, one derivation each.  B is the number of rows, n_in and n_out the widths.

Every function writes into arrays that it is given: a step allocates nothing of the parameters' size.
`d` is ∂loss/∂(output) on the way in and ∂loss/∂(input) on the way out.
"""

from dsgd.arrays import namespace


def linear(x, W, b, z):
    """z = x W + b.   x (B, n_in), W (n_in, n_out), b (n_out,), z (B, n_out)"""
    xp = namespace(x)
    xp.matmul(x, W, out=z)
    xp.add(z, b, out=z)


def linear_backward(d, x, W, ones, dW, db, dx):
    """z_kj = Σ_i x_ki W_ij + b_j, hence

        ∂/∂W_ij = Σ_k x_ki d_kj = (xᵀ d)_ij      ∂/∂b_j = Σ_k d_kj      ∂/∂x_ki = Σ_j d_kj W_ij = (d Wᵀ)_ki

    d (B, n_out), x (B, n_in), ones (B,), dW like W, db like b, dx like x or None for the first layer.
    """
    xp = namespace(d)
    xp.matmul(x.T, d, out=dW)
    xp.matmul(ones, d, out=db)
    if dx is not None:
        xp.matmul(d, W.T, out=dx)


def relu(z):
    """a = max(z, 0), in place.   (B, n)"""
    namespace(z).maximum(z, 0, out=z)


def relu_backward(d, a):
    """∂a/∂z = 1 where z > 0, that is where a > 0; 0 elsewhere.   d, a (B, n), d in place"""
    xp = namespace(d)
    xp.multiply(d, xp.greater(a, 0), out=d)


def tanh(z):
    """a = tanh z, in place.   (B, n)"""
    namespace(z).tanh(z, out=z)


def tanh_backward(d, a):
    """∂a/∂z = 1 − tanh² z = 1 − a².   d, a (B, n), d in place"""
    xp = namespace(d)
    slope = xp.multiply(a, a)
    xp.subtract(1, slope, out=slope)
    xp.multiply(d, slope, out=d)


def softmax_cross_entropy(z, y, scale, d):
    """L = −log p_y with p = softmax z;  ∂L/∂z_c = p_c − [c = y].

    The row-wise maximum is subtracted first: softmax does not change, and exp cannot overflow.
    Args:
        z: logits (B, C).  y: class numbers (B,).  scale: 1/m, m the size of the global batch.
        d: (B, C), receives scale · ∂L/∂z; may be z itself.
    Returns:
        Σ L over the rows, a 0-d array.
    """
    xp = namespace(z)
    p = xp.empty(z.shape[::-1], dtype=z.dtype)  # (C, B): maximum and sum then run along whole rows
    p[:] = z.T
    xp.subtract(p, xp.max(p, axis=0), out=p)
    at = y * p.shape[1]
    at += xp.arange(p.shape[1])  # where p[y_k, k] lies in the flat p
    flat = p.reshape(-1)
    z_y = xp.take(flat, at)
    xp.exp(p, out=p)
    total = xp.sum(p, axis=0)
    xp.divide(p, total, out=p)
    loss = xp.sum(xp.subtract(xp.log(total), z_y))
    flat[at] -= 1
    xp.multiply(p.T, scale, out=d)
    return loss


def mean_squared_error(z, y, scale, d):
    """L = (1/C) Σ_c (z_c − y_c)²;  ∂L/∂z_c = (2/C) (z_c − y_c).   z, y, d (B, C); see softmax_cross_entropy"""
    xp = namespace(z)
    xp.subtract(z, y, out=d)
    loss = xp.divide(xp.sum(xp.multiply(d, d)), z.shape[1])
    xp.multiply(d, scale * (2 / z.shape[1]), out=d)
    return loss


ACTIVATIONS = {"relu": (relu, relu_backward), "tanh": (tanh, tanh_backward)}
LOSSES = {"cross-entropy": softmax_cross_entropy, "mse": mean_squared_error}
