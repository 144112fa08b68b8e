"""Where arrays come from: the namespace of the array in hand, and random numbers that do not depend on who draws."""

import threading
from contextlib import contextmanager
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
    if hasattr(x, "__array_namespace__"):  # a NumPy scalar, or a device that tests stand in for
        xp = x.__array_namespace__()
    else:
        import cupy as xp
    return _substitutes.get(xp, xp)


_substitutes = {}


@contextmanager
def substituted(xp, other):
    """with substituted(xp, other): namespace(x) is `other` for arrays of xp.  So a captured step has its own products."""
    _substitutes[xp] = other
    try:
        yield
    finally:
        del _substitutes[xp]


def take(source, rows, out=None):
    """The rows `rows` of source, in `out` or new; all of them are there."""
    if isinstance(source, np.ndarray):
        return np.take(source, rows, axis=0, out=out, mode="clip")  # NumPy then skips a copy
    return namespace(source).take(source, rows, axis=0, out=out)


# --- the way between a device and the host.  A NumPy array is on the host already.


def on_host(x):
    """Whether x lies in the host's memory."""
    return isinstance(x, (np.ndarray, np.generic))


def to_host(x, out=None):
    """x itself if it is on the host; else a copy there, once all that computes x is done: in `out`, or as x lies."""
    if on_host(x):
        return x
    return x.get(order="A") if out is None else x.get(out=out)


def fill(x, values):
    """x ← values, of the same shape, an array of the host's."""
    if on_host(x):
        x[:] = values
    else:
        x.set(values)


def pinned(xp, n, dtype):
    """(n,) memory on the host, which a card of CuPy's copies to without a detour; the device of xp may have no such thing."""
    if not hasattr(xp, "cuda"):
        return np.empty(n, dtype)
    return np.frombuffer(xp.cuda.alloc_pinned_memory(max(n * dtype.itemsize, 1)), dtype, n)


def address(x):
    """Where the memory of a device's array begins."""
    return x.__cuda_array_interface__["data"][0]


def rng(seed, purpose, *key):
    """A generator that is a pure function of (seed, purpose, key).  Always NumPy's: both devices follow one trajectory.

    >>> bool((rng(0, "init", 1).standard_normal(3) == rng(0, "init", 1).standard_normal(3)).all())
    True
    """
    return np.random.default_rng([seed, PURPOSES[purpose], *key])


def chance(*key):
    """A number in (0, 1), uniform, a function of the key (str, int, float, bool) alone: for one draw, cheaper than rng.

    >>> chance("compute", 0, 1) == chance("compute", 0, 1) != chance("compute", 0, 2)
    True
    """
    bits = int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 11
    return (bits + 0.5) / 2**53


def readonly(x):
    """A view of x that refuses to be written."""
    view = x.view()
    view.setflags(write=False)
    return view


def writable(x):
    """x itself, or a copy if it refuses to be written."""
    return np.require(x, requirements="W") if on_host(x) else x


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


def held():
    """The zeros, and this thread's scratch memory; whoever holds what is returned keeps it from being given back."""
    return [*_zeros.values(), *_scratch.__dict__.values()]
