"""Which samples form global batch t, and which of them are worker i's.

`shuffled` is the article's "distribute at random", repeated every step: batch t is a function of (seed, t) alone,
and worker i of N computes its contiguous part of it.  Nothing depends on the number of workers but the cuts.
"""

from functools import lru_cache

from dsgd.arrays import rng


class Shuffled:
    """Each epoch is one permutation of the n samples, cut into S = ⌈n/batch⌉ batches; the last one may be smaller.

    Args:
        n: samples in the training set.  batch: size of the global batch.  workers: N.
    """

    def __init__(self, *, n, batch, seed, workers):
        self.n, self.batch, self.seed, self.workers = n, batch, seed, workers
        self.steps_per_epoch = -(-n // batch)
        self.permutation = lru_cache(maxsize=3)(self._permutation)  # asynchronous workers may be in different epochs

    def _permutation(self, epoch):
        return rng(self.seed, "batch", epoch).permutation(self.n)

    def _bounds(self, t):
        epoch, j = divmod(t, self.steps_per_epoch)
        return epoch, j * self.batch, min((j + 1) * self.batch, self.n)

    def samples(self, t):
        """m: the size of global batch t."""
        _, lo, hi = self._bounds(t)
        return hi - lo

    def rows(self, t, worker=None):
        """Sample numbers of worker's part of global batch t, possibly none; of the whole batch without a worker."""
        epoch, lo, hi = self._bounds(t)
        if worker is not None:
            m = hi - lo
            lo, hi = lo + m * worker // self.workers, lo + m * (worker + 1) // self.workers
        return self.permutation(epoch)[lo:hi]


PARTITIONS = {"shuffled": Shuffled}
