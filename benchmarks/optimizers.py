"""One step of each optimizer on 1M and 10M float32 elements beside as many bytes copied; clipping too.

A step reads and writes each of its vectors once: sgd reads x and g and writes x, so 3 vectors are moved; a copy of one
vector moves 2.
"""

import numpy as np

from benchmarks.measure import Figure, interleaved
from dsgd.layout import Layout
from dsgd.norms import Norms
from dsgd.optimizers import OPTIMIZERS, SGD
from dsgd.specs import build
from dsgd.update import Update

ROUNDS, BAR = 15, 1.3
VECTORS = {  # spec: vectors read and written
    "sgd": 3,
    "sgd:momentum=0.9": 5,
    "adagrad": 5,
    "rmsprop": 5,
    "adam": 7,
    "adamw": 7,
    "lars": 7,  # x and g for the norms, then as sgd with momentum
    "lamb": 12,  # x, g, m, v → m, v, r; x and r for the norms; x, r → x
}


def layers(n):
    """Arrays as a network has them: matrices and biases."""
    width = 1000
    depth = n // (width * (width + 1))
    shapes = {
        f"layer {l} {name}": size for l in range(depth) for name, size in (("W", (width, width)), ("b", (width,)))
    }
    return Layout(shapes | {"rest": (n - depth * width * (width + 1),)})


def steps(n):
    """{name: function} of one step each on n elements, and of one copied vector."""
    x, g, target = np.random.default_rng(0).standard_normal((3, n), np.float32)
    norms = Norms(layers(n))
    functions = {"copy": lambda: np.copyto(target, x)}
    for spec in VECTORS:
        update, at = Update(build(spec, OPTIMIZERS), norms), x.copy()
        functions[spec] = lambda update=update, at=at: update.step(at, g, 1e-6)
    clip, at = Update(SGD(), norms, clip_norm=1.0), x.copy()
    return functions | {"sgd, clipped": lambda: clip.step(at, g, 1e-6)}


def main():
    vectors = VECTORS | {"sgd, clipped": 6}  # g for the norm; g → clipped; x, clipped → x
    for n in (1_000_000, 10_000_000):
        medians = interleaved(steps(n), ROUNDS)
        copied = medians["copy"]
        yield Figure("a vector copied", f"{n:,} elements", 1e6 * copied, "µs")
        for name, count in vectors.items():
            ratio = medians[name] / (copied * count / 2)
            yield Figure(f"{name} beside the copying of {count} vectors", f"{n:,} elements", ratio, most=BAR)
