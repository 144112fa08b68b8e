"""Which samples form global batch t, and which of them are worker i's.

`shuffled` is the article's "distribute at random", repeated every step: batch t is a function of (seed, t) alone,
and worker i of N computes its contiguous part of it.  Nothing depends on the number of workers but the cuts.

With any other partition the data stay where they are: worker i keeps shard i, n_i samples, for the whole run.  An epoch
has S = ⌈n/batch⌉ steps; in step j worker i takes elements ⌊n_i j/S⌋ to ⌊n_i (j+1)/S⌋ of its shard, which is permuted
anew each epoch.  So every sample is used once an epoch, all shards end together, a worker with an empty shard has
empty parts, and m follows from the sizes of the shards without a message.
Exact when: always sgd, to rounding, fed the union of the workers' parts.
"""

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from dsgd.arrays import rng
from dsgd.errors import UsageError
from dsgd.specs import parse


class Batch(NamedTuple):
    """Samples of one step: all of a global batch, or the part of a worker, or a micro-batch of it."""

    rows: np.ndarray  # sample numbers (B,)
    step: int  # t
    first: int = 0  # position of rows[0] in global batch t

    def __len__(self):
        return len(self.rows)

    def part(self, lo, hi):
        """The samples lo to hi of these."""
        return Batch(self.rows[lo:hi], self.step, self.first + lo)


class Shuffled:
    """Each epoch is one permutation of the n samples, cut into S = ⌈n/batch⌉ batches; the last one may be smaller.

    Args:
        n: samples in the training set.  batch: size of the global batch.  workers: N.

    >>> sampler = Shuffled(n=10, batch=6, seed=0, workers=4)
    >>> [sampler.part(0, worker).rows.tolist() for worker in range(4)]
    [[8], [2, 1], [0], [5, 6]]
    >>> sampler.part(0).rows.tolist(), sampler.samples(1)
    ([8, 2, 1, 0, 5, 6], 4)
    """

    splits = True  # a batch can be split over the workers in any way

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

    def part(self, t, worker=None, shares=None):
        """Worker's Batch of step t, possibly empty; the whole global batch without a worker.

        shares: (N,), s_i > 0 with sum 1, if the workers' parts are not to be even: worker i's borders are m Σ_{j<i} s_j and
            m Σ_{j≤i} s_j, rounded, so that its part is within one sample of m s_i.
        """
        epoch, lo, hi = self._bounds(t)
        first = 0
        if worker is not None:
            m = hi - lo
            first, end = m * worker // self.workers, m * (worker + 1) // self.workers
            if shares is not None:
                first, end = (
                    m if i == self.workers else int(m * np.sum(shares[:i]) + 0.5) for i in (worker, worker + 1)
                )
            lo, hi = lo + first, lo + end
        return Batch(self.permutation(epoch)[lo:hi], t, first)


class Ordered(Shuffled):
    """The same with the data as they stand, in every epoch alike."""

    def _permutation(self, epoch):
        return np.arange(self.n)


class Sharded:
    """Every worker draws from its own shard.

    Args:
        shards: sample numbers of each worker, [(n_i,)].  batch: size of the global batch.
    """

    splits = False

    def __init__(self, shards, *, batch, seed):
        self.shards, self.seed, self.workers = shards, seed, len(shards)
        self.sizes = [len(shard) for shard in shards]
        self.n = sum(self.sizes)
        self.steps_per_epoch = -(-self.n // batch)
        self.permutation = lru_cache(maxsize=3 * len(shards))(self._permutation)
        self.starts = lru_cache(maxsize=16)(self._starts)

    def _permutation(self, epoch, worker):
        return rng(self.seed, "batch", epoch, worker).permutation(self.shards[worker])

    def _starts(self, t):
        """Where each worker's part begins in global batch t, and where the last one ends: (N + 1)."""
        S, j = self.steps_per_epoch, t % self.steps_per_epoch
        return (0, *accumulate(n * (j + 1) // S - n * j // S for n in self.sizes))

    def samples(self, t):
        """m: the size of global batch t."""
        return self.starts(t)[-1]

    def part(self, t, worker=None, shares=None):
        """Worker's Batch of step t, possibly empty, whatever the shares; without a worker the union of all parts, in the workers' order."""
        if worker is None:
            return Batch(np.concatenate([self.part(t, i).rows for i in range(self.workers)]), t)
        epoch, j = divmod(t, self.steps_per_epoch)
        n, S = self.sizes[worker], self.steps_per_epoch
        return Batch(self.permutation(epoch, worker)[n * j // S : n * (j + 1) // S], t, self.starts(t)[worker])


def shuffled(labels, n, workers, seed):
    """the data are dealt at random anew in each step: batch t is a function of (seed, t) alone"""
    return None


def ordered(labels, n, workers, seed):
    """nothing is shuffled: the batches follow the order of the data, the same in every epoch"""
    return None


def iid(labels, n, workers, seed):
    """each worker keeps a random shard, all of one size"""
    return _even(rng(seed, "partition").permutation(n), workers)


def contiguous(labels, n, workers, seed):
    """each worker keeps a shard of neighbours, in the order of the data"""
    return _even(np.arange(n), workers)


def by_label(labels, n, workers, seed):
    """the samples are sorted by label and dealt in that order: a worker sees few classes (McMahan et al. 2017)

    >>> import numpy as np
    >>> [shard.tolist() for shard in by_label(np.array([1, 0, 1, 0]), n=4, workers=2, seed=0)]
    [[1, 3], [0, 2]]
    """
    return _even(np.argsort(_classes("by-label", labels), kind="stable"), workers)


EVEN = 1e9  # an alpha at which all proportions are equal to 4 digits; far larger ones overflow


def dirichlet(labels, n, workers, seed, *, alpha: float = 0.5):
    """each class is dealt in proportions drawn from Dir(alpha): the smaller alpha, the more uneven (Hsu et al. 2019)"""
    if not 0 < alpha <= EVEN:
        raise UsageError(
            f"--partition dirichlet:alpha={alpha} must be over 0 (very uneven) and at most {EVEN:g} (even)"
        )
    generator, parts = rng(seed, "partition"), [[] for _ in range(workers)]
    for label in np.unique(_classes("dirichlet", labels)):
        members = generator.permutation(np.flatnonzero(labels == label))
        borders = np.cumsum(generator.dirichlet(np.full(workers, alpha)))[:-1]
        for part, piece in zip(parts, np.split(members, np.round(borders * len(members)).astype(int))):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


def _even(order, workers):
    """`workers` consecutive shards, as even as can be."""
    n = len(order)
    return [order[n * i // workers : n * (i + 1) // workers] for i in range(workers)]


def _classes(name, labels):
    if labels is None:
        raise UsageError(f"--partition {name} needs classes, and these data have none; iid and contiguous do without")
    return labels


WHOLE = {"shuffled": Shuffled, "ordered": Ordered}  # those that keep no shards
PARTITIONS = {
    "shuffled": shuffled,
    "ordered": ordered,
    "iid": iid,
    "contiguous": contiguous,
    "by-label": by_label,
    "dirichlet": dirichlet,
}


def make_sampler(spec, *, labels, n, batch, seed, workers):
    """The sampler that --partition names.

    Args:
        labels: class numbers (n,), or None.  n: samples in the training set.
    Raises:
        UsageError: an unknown name or option, or steps without a sample.
    """
    name, options = parse(spec, PARTITIONS, "--partition")
    shards = PARTITIONS[name](labels, n, workers, seed, **options)
    if shards is None:
        return WHOLE[name](n=n, batch=batch, seed=seed, workers=workers)
    largest, S = max(map(len, shards)), -(-n // batch)
    if largest < S:  # otherwise its worker has a sample in every step
        raise UsageError(
            f"--partition {spec}: no shard of the {workers} has over {largest} samples, for the {S} steps of an epoch, "
            f"so that some steps would have none; use --batch-size {-(-n // largest)} or more"
        )
    return Sharded(shards, batch=batch, seed=seed)
