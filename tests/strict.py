"""A strict array type: NumPy underneath, but only what the numeric modules promise to need, and no way back to the host.

It stands in for a GPU array.  What passes on it uses the functions of its own namespace on its own arrays, converts
nothing implicitly and iterates over nothing; `to_host` is the one way out, and it is counted.
"""

import numpy as np

FUNCTIONS = (
    "add", "subtract", "multiply", "divide", "matmul", "maximum", "minimum", "greater", "where", "exp", "log", "log1p", "tanh",
    "sqrt", "negative", "absolute", "sign", "sum", "max", "take", "arange", "empty", "ones", "zeros",
    "zeros_like", "concatenate",
)  # fmt: skip


def inside(value):
    """The NumPy array in a strict one; Python numbers, shapes and dtypes pass, host arrays do not."""
    if isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"a host array (shape {value.shape}) among device arrays")
    if isinstance(value, tuple):
        return tuple(inside(item) for item in value)
    return value.array if isinstance(value, StrictArray) else value


def strict(function):
    """The function on strict arrays; with `out` it returns that very array, as NumPy does."""

    def call(*arguments, out=None, **options):
        options = {key: inside(value) for key, value in options.items()}
        if out is not None:
            function(*map(inside, arguments), out=inside(out), **options)
            return out
        return StrictArray(function(*map(inside, arguments), **options))

    return call


class Namespace:
    """What `namespace(x)` gives for a strict array: the listed functions, an AttributeError for any other."""


for _name in FUNCTIONS:
    setattr(Namespace, _name, staticmethod(strict(getattr(np, _name))))
Namespace.add.reduceat = strict(np.add.reduceat)
Namespace.asarray = staticmethod(lambda array: StrictArray(np.array(array)))  # the explicit way in from the host


def _refuse(self, *arguments, **options):
    raise TypeError("implicit conversion to host")


def _in_place(operator):
    def apply(self, other):
        getattr(self.array, operator)(inside(other))
        return self

    return apply


class StrictArray:
    """Shape, dtype, views, assignment and arithmetic with its own kind and with Python numbers; nothing else."""

    transfers = 0  # explicit copies to the host, of all arrays

    def __init__(self, array):
        self.array = np.asarray(array)

    shape, dtype = property(lambda self: self.array.shape), property(lambda self: self.array.dtype)
    size, T = property(lambda self: self.array.size), property(lambda self: StrictArray(self.array.T))

    def to_host(self):
        StrictArray.transfers += 1
        return self.array.copy()

    def reshape(self, *shape):
        view = self.array.reshape(*shape)
        assert np.shares_memory(view, self.array) or not view.size, "this reshape copies"
        return StrictArray(view)

    def max(self, axis):
        return StrictArray(self.array.max(axis=axis))

    def sum(self, axis=None):
        return StrictArray(self.array.sum(axis=axis))

    def __getitem__(self, key):
        return StrictArray(self.array[inside(key)])

    def __setitem__(self, key, value):
        self.array[inside(key)] = inside(value)

    def __len__(self):
        return len(self.array)

    def __array_namespace__(self):
        return Namespace

    __mul__, __sub__, __add__ = (strict(getattr(np, name)) for name in ("multiply", "subtract", "add"))
    __imul__, __isub__, __iadd__ = (_in_place(name) for name in ("__imul__", "__isub__", "__iadd__"))
    __array__ = __array_ufunc__ = __array_function__ = __iter__ = _refuse
    __float__ = __int__ = __index__ = __bool__ = _refuse


def both(function, *arrays):
    """Run function(*arrays) on NumPy copies and on strict copies; assert equal bits in every array and in the result.

    Returns the NumPy result.  Arrays may be dicts of arrays, or None.
    """

    def each(change, value):
        if isinstance(value, dict):
            return {key: each(change, item) for key, item in value.items()}
        return value if value is None else change(value)

    plain = [each(np.array, value) for value in arrays]
    device = [each(lambda array: StrictArray(array.copy()), value) for value in arrays]
    before = StrictArray.transfers
    results = function(*plain), function(*device)
    assert StrictArray.transfers == before, "a numeric module copied to the host"
    for ours, theirs in zip([*plain, results[0]], [*device, results[1]]):
        same_bits(ours, theirs)
    return results[0]


def same_bits(plain, device):
    """Assert that a NumPy value (array, dict, tuple or None) and its strict counterpart are the same, to the bit."""
    if isinstance(plain, dict):
        plain, device = tuple(plain.values()), tuple(device.values())
    if isinstance(plain, tuple):
        for ours, theirs in zip(plain, device, strict=True):
            same_bits(ours, theirs)
    elif plain is not None:
        assert isinstance(device, StrictArray), f"{type(device)} is not a device array"
        ours, theirs = np.asarray(plain), device.to_host()
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
