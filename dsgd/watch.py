"""Gradients watched: the root mean square of the averaged gradient in each layer, and a plain verdict.

    vanishing: the first layer's is under 1e-4 of the last layer's, in 20 records running
    exploding: the norm of the averaged gradient is over 1,000 times its median so far, or not finite

Reference: Bengio, Simard and Frasconi 1994; Glorot and Bengio 2010, figure 7 (gradients by layer).
"""

from bisect import insort
from math import isfinite, prod, sqrt

VANISHING, RUNNING, EXPLODING = 1e-4, 20, 1000.0
REMEDY = {
    "vanishing": "relu with --init he, or fewer layers, are the usual remedies",
    "exploding": "a smaller --lr, --warmup-steps, --clip-norm or a smaller gain in --init are the usual remedies",
}


class Watch:
    """Sees the gradient of every record, in order.

    Args:
        layout: layout.Layout of the vector.
    """

    def __init__(self, layout):
        self.elements = {}  # of each layer, its bias included
        for name, shape in layout.shapes.items():
            self.elements[layer_of(name)] = self.elements.get(layer_of(name), 0) + prod(shape)
        self._norms = []  # so far, sorted; their median is the upper one of an even number
        self._small = 0  # records running in which the first layer's gradient was small
        self.verdict = None  # on the last record

    def see(self, squares):
        """{"gradient_norm", "gradient_rms": [of each layer], "verdict"} of a gradient.   squares: {array: Σ g²}"""
        sums = dict.fromkeys(self.elements, 0.0)
        for name, square in squares.items():
            sums[layer_of(name)] += square
        rms = [sqrt(sums[layer] / n) for layer, n in self.elements.items()]
        row = {"gradient_norm": sqrt(sum(sums.values())), "gradient_rms": rms}
        return row | {"verdict": self.judge(row)}

    def judge(self, row):
        """The verdict on a record, None if all is well.  Every record is judged once, in order."""
        norm, rms = row["gradient_norm"], row["gradient_rms"]
        median = self._norms[len(self._norms) // 2] if self._norms else norm
        self._small = self._small + 1 if rms[0] < VANISHING * rms[-1] else 0
        insort(self._norms, norm)
        self.verdict = None
        if not isfinite(norm) or norm > EXPLODING * median > 0:
            self.verdict = "exploding"
        elif self._small >= RUNNING:
            self.verdict = "vanishing"
        return self.verdict


def layer_of(array):
    """The layer that an array belongs to: "layer 3" of "layer 3 weight"."""
    return array.rpartition(" ")[0] or array


def describe(row):
    """A record's verdict in a sentence."""
    first, last, norm = row["gradient_rms"][0], row["gradient_rms"][-1], row["gradient_norm"]
    how = {
        "vanishing": f"the first layer's root mean square gradient is {first:.1e}, the last layer's {last:.1e}",
        "exploding": f"the norm of the gradient is {norm:.1e}, over {EXPLODING:,.0f} times its median so far",
    }[row["verdict"]]
    return f"step {row['step']}: {row['verdict']} gradients: {how}; {REMEDY[row['verdict']]}"
