"""What the optimizers share: vectors side by side in blocks, weight decay, the count of steps, the range of an option."""

import numpy as np

from dsgd.arrays import on_host, scratch
from dsgd.errors import UsageError

BLOCK = 131072  # elements: 512 KiB of float32


def blocks(*vectors):
    """The blocks of vectors of one length, side by side, and two scratch blocks: (s, d, v0, v1, ...).

    On a device all is one block: there a pass costs its launch, and no cache holds a block from pass to pass.
    """
    n = vectors[0].shape[0]
    size = min(n, BLOCK) if on_host(vectors[0]) else n
    spare = scratch(vectors[0], 2 * size)
    for lo in range(0, n, max(size, 1)):
        hi = min(lo + size, n)
        yield spare[: hi - lo], spare[size : size + hi - lo], *(v[lo:hi] for v in vectors)


def decayed(xp, g, x, weight_decay, out):
    """g + λ x in `out`, or g itself without weight decay (λ = 0)."""
    if not weight_decay:
        return g
    xp.multiply(x, weight_decay, out=out)
    return xp.add(out, g, out=out)


def counted(slots):
    """The number of this step, from 1.  It is kept as an array, as all that a checkpoint holds."""
    slots.setdefault("steps", np.zeros(1, np.int64))[0] += 1
    return int(slots["steps"][0])


def between(low, high, **options):
    """Refuse an option outside of [low, high)."""
    for name, value in options.items():
        if not low <= value < high:
            least = f"in [{low}, {high})" if high < float("inf") else f"a number from {low} on"
            raise UsageError(f"optimizer option {name}={value} is not {least}")


def positive(**options):
    """Refuse an option that is not a positive number."""
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise UsageError(f"optimizer option {name}={value} is not a positive number")
