"""Where each named array lives inside one flat vector, and where that vector may be cut.

Parameters and gradients are one flat vector each; layers see views of it.  So a message is one contiguous
buffer, and an optimizer, a reduction or a server is code on a vector, as in the papers.
"""

from math import prod

BLOCK = 256  # elements; key ranges are cut at its multiples, norms are summed over it


class Layout:
    """Named shapes, one after the other.

    Args:
        shapes: {name: shape}, in the order of the vector.

    >>> import numpy as np
    >>> layout = Layout({"weight": (2, 3), "bias": (3,)})
    >>> flat = np.arange(9.0)
    >>> layout.views(flat)["bias"]
    array([6., 7., 8.])
    >>> layout.views(flat)["weight"][0, 0] = 10  # a window, not a copy
    >>> flat[:2], layout.name_at(7)
    (array([10.,  1.]), 'bias')
    """

    def __init__(self, shapes):
        self.shapes = dict(shapes)
        self.starts, start = {}, 0
        for name, shape in self.shapes.items():
            self.starts[name] = start
            start += prod(shape)
        self.size = start

    def views(self, flat, names=None, offset=0):
        """{name: view}, windows onto `flat`, never copies; flat[0] is element `offset` of the whole vector."""
        views = {}
        for name in names or self.shapes:
            start = self.starts[name] - offset
            views[name] = flat[start : start + prod(self.shapes[name])].reshape(self.shapes[name])
        return views

    def span(self, names):
        """(lo, hi): the range of the vector that holds these consecutive arrays."""
        return self.starts[names[0]], self.starts[names[-1]] + prod(self.shapes[names[-1]])

    def name_at(self, index):
        """The name of the array that holds element `index`."""
        begun = [(start, name) for name, start in self.starts.items() if start <= index and prod(self.shapes[name])]
        return max(begun)[1]


def cut(size, parts):
    """`parts` contiguous ranges (lo, hi) of a vector, cut at block borders, their blocks as even as can be.

    >>> cut(1000, 2)
    [(0, 512), (512, 1000)]
    """
    blocks = -(-size // BLOCK)
    borders = [min(blocks * i // parts * BLOCK, size) for i in range(parts + 1)]
    return list(zip(borders, borders[1:]))
