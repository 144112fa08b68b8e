"""Where arrays come from: the namespace of the array in hand, and random numbers that do not depend on who draws."""

import numpy as np

# What a stream of random numbers is for.  The number is part of the key, so the order here is part of the results.
PURPOSES = {"init": 0, "split": 1, "batch": 2, "teacher": 3, "quadratic": 4}


def namespace(x):
    """The module whose functions work on x: numpy for a NumPy array, cupy for a CuPy array."""
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    import cupy

    return cupy.get_array_module(x)


def rng(seed, purpose, *key):
    """A generator that is a pure function of (seed, purpose, key).  Always NumPy's: both devices follow one trajectory."""
    return np.random.default_rng([seed, PURPOSES[purpose], *key])


def readonly(x):
    """A view of x that refuses to be written."""
    view = x.view()
    view.setflags(write=False)
    return view
