"""Do all workers hold the same parameters?  Where they do not, a message names step, worker and layer.

Synchronous data parallelism rests on it: every worker applies the same update to the same x, and nothing ever compares
them again.  A flipped bit, or one rank with another library, would go unnoticed and train N networks.
"""

from collections import Counter
from hashlib import blake2b

import numpy as np

SIZE = 8  # bytes of a hash


def hashes(layout, x):
    """The hash of each array of x (n,), one after the other: (arrays · SIZE,) uint8."""
    found = (blake2b(np.ascontiguousarray(x[lo:hi]), digest_size=SIZE).digest() for lo, hi in spans(layout))
    return np.frombuffer(b"".join(found), np.uint8)


def spans(layout):
    return [layout.span([name]) for name in layout.shapes]


def differences(layout, parts, workers, step):
    """What differs after `step` steps, in a sentence; None if nothing does.

    Args:
        parts: `hashes` of each rank, in the order of ranks.  workers: the ranks to be compared.
    """
    held = {rank: parts[rank].tobytes() for rank in workers}
    common, count = Counter(held.values()).most_common(1)[0]
    odd = [rank for rank in workers if held[rank] != common]
    if not odd:
        return None
    names, rank = list(layout.shapes), odd[0]
    other = [
        n for i, n in enumerate(names) if held[rank][SIZE * i : SIZE * (i + 1)] != common[SIZE * i : SIZE * (i + 1)]
    ]
    more = f" and {len(other) - 1} more arrays" if len(other) > 1 else ""
    if 2 * count > len(workers):
        who, those = f"worker {workers.index(rank)} (rank {rank}) holds other parameters than the majority", "that rank"
        others = f"; so do {len(odd) - 1} more workers" if len(odd) > 1 else ""
    else:  # nobody knows which of them is right
        a, b = sorted((rank, next(rank for rank in workers if held[rank] == common)))
        who = f"workers {workers.index(a)} and {workers.index(b)} (ranks {a} and {b}) hold different parameters"
        those, others = "both ranks", ""
    return (
        f"step {step}: {who}: {other[0]}{more}{others}; the replicas have drifted apart: --resume goes on from the last "
        f"checkpoint, if there is one, and memory, libraries and --threads of {those} want a look"
    )
