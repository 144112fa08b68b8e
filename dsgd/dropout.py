"""Dropout: a unit's output is 0 with probability p, and multiplied by 1/(1 − p) otherwise, so that its mean stays.

Whether unit j of hidden layer l is dropped for the sample at position k of global batch t is a function of
(seed, t, l, k, j): so the same units are dropped whoever computes the sample, on one worker or on many.

Reference: Srivastava et al. 2014 (JMLR 15); the factor at training time is PyTorch's torch.nn.Dropout.
"""

from functools import lru_cache

import numpy as np
from numpy.random import Philox, SeedSequence

from dsgd.arrays import PURPOSES, fill, namespace, on_host

PER_COUNTER = 8  # numbers of 32 bits that one value of Philox's counter gives


@lru_cache
def key_of(seed):
    """Philox's key for the dropout of a run, (2,) uint64."""
    return SeedSequence([seed, PURPOSES["dropout"]]).generate_state(2, np.uint64)


def masks(p, seed, batch, widths, layers, like, kept=None):
    """{l: mask (B, n)} for the outputs of the hidden layers among `layers`: 0 or 1/(1 − p), of like's dtype and device.

    There is one stream for each (step, layer).  Every row of the global batch has its own range of whole counters in it,
    so the rows from `batch.first` on are reached by one jump.

    Args:
        batch: sampling.Batch.  widths: of the network's layers, input first.
        kept: masks of as many rows on a device, to be filled with these: a captured step knows them by their memory.
    """
    xp, factor, found = namespace(like), like.dtype.type(1 / (1 - p)), {}
    for l in layers:
        if l == len(widths) - 2:  # the output layer is not hidden
            continue
        n = widths[l + 1]
        counters = -(-n // PER_COUNTER)
        stream = Philox(key=key_of(seed), counter=[batch.first * counters, l, batch.step, 0])
        numbers = stream.random_raw(len(batch) * counters * PER_COUNTER // 2).view(np.uint32)
        stays = numbers.reshape(len(batch), counters * PER_COUNTER)[:, :n] >= round(p * 2**32)
        found[l] = np.multiply(stays, factor, dtype=like.dtype)
    if on_host(like) or not kept:
        return {l: xp.asarray(mask) for l, mask in found.items()}
    for l, mask in found.items():
        fill(kept[l], mask)
    return kept
