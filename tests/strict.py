"""A strict array type: NumPy underneath, but only what the numeric modules promise to need, and no way back to the host.

It stands in for a GPU array.  What passes on it uses the functions of its own namespace on its own arrays, converts
nothing implicitly and iterates over nothing; `get` is the one way out, and it is counted.
"""

import numpy as np

FUNCTIONS = (
    "add", "subtract", "multiply", "divide", "matmul", "maximum", "minimum", "greater", "where", "exp", "log", "log1p", "tanh",
    "sqrt", "negative", "absolute", "sign", "sum", "max", "take", "arange", "empty", "ones", "zeros",
    "zeros_like", "concatenate", "isfinite", "all", "logical_and", "logical_not",
)  # fmt: skip


def inside(value):
    """The NumPy array in a strict one; Python numbers, shapes and dtypes pass, host arrays do not."""
    if isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"a host array (shape {value.shape}) among device arrays")
    if isinstance(value, (tuple, list)):
        return type(value)(inside(item) for item in value)
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


def _asarray(array):
    """The explicit way in from the host."""
    assert not StrictArray.sealed
    return array if isinstance(array, StrictArray) else StrictArray(np.array(array))


Namespace.asarray = staticmethod(_asarray)


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
    copied = []  # how many elements each of them had
    sealed = False  # whether a step is captured, in which nothing may pass to the host or come from it

    def __init__(self, array):
        self.array = np.asarray(array)

    shape, dtype = property(lambda self: self.array.shape), property(lambda self: self.array.dtype)
    size, T = property(lambda self: self.array.size), property(lambda self: StrictArray(self.array.T))

    ndim, nbytes = property(lambda self: self.array.ndim), property(lambda self: self.array.nbytes)
    itemsize, strides = property(lambda self: self.array.itemsize), property(lambda self: self.array.strides)

    @property
    def __cuda_array_interface__(self):
        return {"data": (self.array.ctypes.data, False), "shape": self.shape, "typestr": self.dtype.str, "version": 3}

    def get(self, order="C", out=None):
        """A copy on the host, as CuPy has it."""
        assert not StrictArray.sealed
        StrictArray.transfers += 1
        StrictArray.copied.append(self.size)
        if out is None:
            return self.array.copy(order)
        assert type(out) is np.ndarray and (out.shape, out.dtype) == (self.shape, self.dtype)
        out[:] = self.array
        return out

    def set(self, values):
        """This array ← values of the host's, as CuPy has it."""
        assert (
            not StrictArray.sealed
            and type(values) is np.ndarray
            and (values.shape, values.dtype) == (self.shape, self.dtype)
        )
        self.array[:] = values

    def tolist(self):
        return self.get().tolist()

    def copy(self):
        return StrictArray(self.array.copy())

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
        ours, theirs = np.asarray(plain), device.get()
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
