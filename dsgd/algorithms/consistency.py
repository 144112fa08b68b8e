"""Consistency models of the parameter server: which pushes make an update, and when a pull is answered.

    x ← x − η (1/m) Σ_{i in K} ∇L_i(x_v)      K: the pushes of an update, v: the version that each was computed on

N workers push; clocks[i] counts worker i's pushes, and versions of x are counted in updates.  A model is two dials.
*Apply*: how many pushes make an update, and which belong together.  *Release*: whether a worker that waits may go on.

Reference: Ho et al. 2013 (NIPS), "More effective distributed ML via a stale synchronous parallel parameter server".
Exact when: ssp with bound 0 that applies by clocks, k-sync with k = N and backup with b = 0 are bsp, to the bit.
"""

from typing import NamedTuple

from dsgd.specs import options


class Model(NamedTuple):
    """What a server does.

    Attributes:
        collect: so many pushes make an update.
        of: "round": pushes computed on the current version, later ones are dropped; "clock": the c-th push of every
            worker; "any": whoever comes next.
        release: (worker, progress) -> whether this worker may go on; see Progress.
        synchronous: all ranks stand still after every update.
        cancel: late workers abandon their gradient when the update is made.
        until: what has to change before a worker that waits may be released: the "version", the number of pushes
            "handled", or the "slowest" clock; None if it waits for the end of the run alone.
        bound: how far a worker may be ahead, at the start; None where that does not matter.
        gradients: of a worker in each of its pushes.  pushes: of a worker for each of its pulls.
        exchange: each push follows a pull, the first one too, and all workers make as many.
    """

    collect: int
    of: str
    release: object
    synchronous: bool = False
    cancel: bool = False
    until: str | None = "version"
    bound: int | None = None
    gradients: int = 1
    pushes: int = 1
    exchange: bool = False

    @property
    def averages(self):
        """Whether an update is an average over workers, and no single push."""
        return self.of != "any" or self.collect > 1


class Progress(NamedTuple):
    """What a release is decided by.   Workers that were given up are in none of it."""

    clocks: dict  # worker -> pushes made
    slowest: int  # the least of them
    version: int  # updates made
    held: dict  # worker -> the version it was given last
    collected: dict  # worker -> its pushes that wait for others
    draw: object  # (worker, clock) -> a numpy Generator that is a function of the seed and these
    bound: int | None  # the model's, or what a controller has made of it


def bsp(workers):
    """x ← x − η (1/m) Σ_i g_i(x_t) once all N pushes of a clock are there; nobody goes on before

    Reference: Valiant 1990 (CACM 33), bulk synchronous parallel
    Exact when: always data-parallel
    """
    return Model(workers, "round", _has_a_newer_version, synchronous=True)


def ssp(workers, *, bound: int = None, apply: str = "each"):
    """x ← x − η g_i(x_{t−τ}) as each push arrives, or by clocks; worker i is at most `bound` pushes ahead of the slowest

    Reference: Ho et al. 2013 (NIPS), stale synchronous parallel
    Exact when: bound=0,apply=clock is bsp; bound ≥ steps is asp under the same order
    """
    if bound < 0:
        raise ValueError(f"bound={bound}: a worker is ahead of the slowest by 0 or more")
    if apply not in ("each", "clock"):
        raise ValueError(f"apply={apply} is not each or clock")

    def release(worker, now):
        return now.clocks[worker] - now.slowest <= now.bound

    collect, of = (1, "any") if apply == "each" else (workers, "clock")
    return Model(collect, of, release, until="slowest", bound=bound)


def asp(workers):
    """x ← x − η g_i(x_{t−τ}) as each push arrives; nobody waits

    Reference: Dean et al. 2012 (NIPS), section 4.1; Recht et al. 2011 (arXiv 1106.5730)
    Exact when: one worker is sgd
    """
    return Model(1, "any", _always, until=None)


def backup(workers, *, b: int = None, cancel: bool = False):
    """x ← x − η (1/m_K) Σ_{first N−b of N} g_i(x_t), m_K: the samples in these; the b late pushes are dropped

    Reference: Chen et al. 2016 (arXiv 1604.00981), b backup workers
    Exact when: b=0 is bsp; always k-sync with k = N − b
    """
    if not 0 <= b < workers:
        raise ValueError(f"b={b} backup workers of {workers}: 0 to {workers - 1}, so that one is waited for")
    return k_sync(workers, k=workers - b, cancel=cancel)


def k_sync(workers, *, k: int = None, cancel: bool = False):
    """x ← x − η (1/m_K) Σ_{first k} g_i(x_t), m_K: the samples in these; late pushes are dropped

    Reference: Dutta et al. 2018 (arXiv 1803.01113), section 2
    Exact when: k = N is bsp
    """
    _at_most(k, workers)
    return Model(k, "round", _has_a_newer_version, cancel=cancel)


def k_async(workers, *, k: int = None):
    """x ← x − η (1/k) Σ_{next k} g_i(x_{t−τ_i}); a worker goes on once its push is in x

    Reference: Dutta et al. 2018 (arXiv 1803.01113), section 2
    Exact when: k=1 is asp under the same order
    """
    _at_most(k, workers)
    return Model(k, "any", lambda worker, now: not now.collected[worker])


def softsync(workers, *, n: int = None):
    """x ← x − η (1/c) Σ_{next c} g_i(x_{t−τ_i}), c = ⌊N/n⌋; nobody waits

    Reference: Zhang et al. 2016 (arXiv 1511.05950), n-softsync
    Exact when: n = N is asp; n=1 is not bsp, nobody waits
    """
    if not 1 <= n <= workers:
        raise ValueError(f"n={n}-softsync with {workers} workers: n is 1 to {workers}, an update takes ⌊N/n⌋ pushes")
    return Model(workers // n, "any", _always, until=None)


def sampled(workers, *, sample: int = None, bound: int = None):
    """x ← x − η g_i(x_{t−τ}) as each push arrives; worker i is at most `bound` ahead of `sample` others, drawn anew for each push

    Reference: Wang, Catterall and Mortier 2017 (arXiv 1709.07772), probabilistic synchronous parallel
    Exact when: sample=0 is asp; sample = N − 1 is ssp
    """
    if not 0 <= sample < workers:
        raise ValueError(f"sample={sample} of {workers - 1} other workers")
    if bound < 0:
        raise ValueError(f"bound={bound}: a worker is ahead of the others by 0 or more")

    def release(worker, now):
        others = [other for other in now.clocks if other != worker]
        drawn = now.draw(worker, now.clocks[worker]).permutation(len(others))[:sample]
        return all(now.clocks[worker] - now.clocks[others[i]] <= now.bound for i in drawn)

    return Model(1, "any", release, until="handled", bound=bound)


MODELS = {
    "bsp": bsp,
    "ssp": ssp,
    "asp": asp,
    "backup": backup,
    "k-sync": k_sync,
    "k-async": k_async,
    "softsync": softsync,
    "sampled": sampled,
}


def _always(worker, now):
    return True


def _has_a_newer_version(worker, now):
    return now.held[worker] < now.version


def _at_most(k, workers):
    if not 1 <= k <= workers:
        raise ValueError(f"k={k} of {workers} workers: k is 1 to {workers}")


def choose_model(name, workers, **given):
    """The Model of that name for so many workers.   given: its options, None for those that were not given

    Raises:
        ValueError: an unknown name, an option that is another model's or is missing, or a value that cannot be.

    >>> choose_model("backup", 8, b=2).collect, choose_model("ssp", 8, bound=3).bound
    (6, 3)
    """
    if name not in MODELS:
        raise ValueError(f"consistency {name!r} is not one of {', '.join(MODELS)}")
    known = options(MODELS[name])
    values = {option: value for option, value in given.items() if value is not None}
    for option in (option for option in values if option not in known):
        owners = [other for other in MODELS if option in options(MODELS[other])]
        raise ValueError(f"{option}= belongs to consistency={' or '.join(owners)}, not to {name}")
    missing = [option for option, parameter in known.items() if parameter.default is None and option not in values]
    if missing:
        raise ValueError(f"consistency={name} needs {missing[0]}=")
    return MODELS[name](workers, **values)
