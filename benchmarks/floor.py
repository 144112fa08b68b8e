"""What a step cannot be faster than: its matrix products alone, each in the layout of memory in which it is fastest.

    layer l:   z = a W  (forward)     ∂W = aᵀ d     ∂a = d Wᵀ  (not in the first layer)

Both factors and the result may lie row by row or column by column: eight layouts a product.  The choice is made for each
product alone, whether or not one step could have them all.
"""

from functools import partial
from itertools import product

import numpy as np

from benchmarks.measure import interleaved

ROUNDS = 9  # of the choice
ORDERS = "CF"  # of NumPy: row by row, column by column


def products(widths, batch, dtype=np.float32):
    """A function that makes the matrix products of one step."""
    chosen = [fastest(layouts) for layouts in all_layouts(widths, batch, dtype)]

    def step():
        for multiply in chosen:
            multiply()

    return step


def all_layouts(widths, batch, dtype):
    """[{(order of the first factor, of the second, of the result): function}], for each product of a step in its turn."""
    arrays, depth = Arrays(dtype), len(widths) - 1
    a = {l: (f"a{l}", batch, widths[l]) for l in range(depth)}
    W = {l: (f"W{l}", widths[l], widths[l + 1]) for l in range(depth)}
    d = {l: (f"d{l}", batch, widths[l]) for l in range(depth + 1)}
    g = {l: (f"g{l}", widths[l], widths[l + 1]) for l in range(depth)}
    forward = [arrays.layouts(a[l], W[l], d[l + 1]) for l in range(depth)]
    backward = []
    for l in reversed(range(depth)):
        backward.append(arrays.layouts(a[l], d[l + 1], g[l], transpose_first=True))
        if l:
            backward.append(arrays.layouts(d[l + 1], W[l], d[l], transpose_second=True))
    return forward + backward


class Arrays:
    """The arrays of a step, each in one or both orders."""

    def __init__(self, dtype):
        self.dtype, self.generator, self.made = dtype, np.random.default_rng(0), {}

    def __call__(self, name, rows, columns, order):
        if (name, order) not in self.made:
            made = self.generator.random((rows, columns)) if order == "C" else self(name, rows, columns, "C")
            self.made[name, order] = np.array(made, self.dtype, order=order)
        return self.made[name, order]

    def layouts(self, first, second, result, transpose_first=False, transpose_second=False):
        """{orders: function} of one product."""
        functions = {}
        for orders in product(ORDERS, repeat=3):
            x, y, out = (self(*name, order) for name, order in zip((first, second, result), orders))
            functions[orders] = partial(
                np.matmul, x.T if transpose_first else x, y.T if transpose_second else y, out=out
            )
        return functions


def fastest(functions):
    medians = interleaved(functions, ROUNDS)
    return functions[min(medians, key=medians.get)]
