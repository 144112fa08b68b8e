"""Where arrays come from: the namespace of the array in hand, and random numbers that do not depend on who draws."""

import threading
from hashlib import blake2b

import numpy as np

# What a stream of random numbers is for.  The number is part of the key, so the order here is part of the results.
PURPOSES = {
    name: i for i, name in enumerate("init split batch teacher quadratic dropout partition consistency".split())
}


def namespace(x):
    """The module whose functions work on x: numpy for a NumPy array, cupy for a CuPy array."""
    if isinstance(x, np.ndarray):  # asked some ten times a step
        return np
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    import cupy

    return cupy.get_array_module(x)


def rng(seed, purpose, *key):
    """A generator that is a pure function of (seed, purpose, key).  Always NumPy's: both devices follow one trajectory."""
    return np.random.default_rng([seed, PURPOSES[purpose], *key])


def chance(*key):
    """A number in (0, 1), uniform, a function of the key (str, int, float, bool) alone: for one draw, cheaper than rng."""
    bits = int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 11
    return (bits + 0.5) / 2**53


def readonly(x):
    """A view of x that refuses to be written."""
    view = x.view()
    view.setflags(write=False)
    return view


_zeros = {}


def zeros(like):
    """Zeros of like's shape, dtype and device, in memory that is kept: not to be written."""
    key, n = (type(like), like.dtype), like.size
    if key not in _zeros or _zeros[key].shape[0] < n:
        _zeros[key] = namespace(like).zeros(n, dtype=like.dtype)
    return _zeros[key][:n].reshape(like.shape)


_scratch = threading.local()


def scratch(like, n):
    """(n,) elements of like's dtype and device, to be used at once: the next call on this thread gives the same memory.

    A fresh array of this size would come from the operating system page by page, each time.
    """
    kept = _scratch.__dict__
    key = (type(like), like.dtype)
    if key not in kept or kept[key].shape[0] < n:
        kept[key] = namespace(like).empty(n, dtype=like.dtype)
    return kept[key][:n]
