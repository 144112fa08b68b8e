"""What a seed of dsgd.chaos stands for: a small configuration, a plan of faults, and a task that keeps its own books."""

import random
from typing import NamedTuple

import numpy as np

from dsgd.algorithms import ALGORITHMS
from dsgd.collectives import REDUCTIONS
from dsgd.layout import Layout
from dsgd.objectives import Quadratic
from dsgd.specs import parse

LR = 0.125  # a power of two, with which the ledger stays exact
NOT_PLAYED = {  # an algorithm that does not apply each gradient once, as it is, belongs here too
    "sgd": "it is one rank, which sends no message",
    "easgd": "its workers push a share of how far they are from the centre, and no gradient",
    "model-parallel": "it deals the layers of a network, and the ledger has none",
    "overlapped": "it sums a network layer by layer, and the ledger has no layers",
}
PLAYED = (
    *sorted(ALGORITHMS.keys() - NOT_PLAYED.keys()),
    "parameter-server:servers=2",
    "parameter-server:colocated=true",
    "parameter-server:consistency=asp",
    "parameter-server:consistency=asp,colocated=true",
    "parameter-server:consistency=ssp,bound=1,servers=2",
    "parameter-server:consistency=ssp,bound=1,apply=clock",
)

REDUCED = ("tree", "ring", *REDUCTIONS)  # a ring twice: in it several messages are on one way at once


class Ledger(Quadratic):
    """A quadratic in the first part of x; in the last, one element for each sample counts how often it was applied.

    A sample's gradient is 1 in its own element, whatever the scale, so x ends with −η times the number there.
    The quadratic's bits show the order of all additions, the ledger shows what was applied, by any algorithm.
    """

    SAMPLES, SIZE = 40, 300  # together more than one block, which two servers can share

    def __init__(self, dtype):
        super().__init__(size=self.SIZE, samples=self.SAMPLES, dtype=dtype)
        self.layout = Layout({"theta": (self.SIZE,), "ledger": (self.SAMPLES,)})

    def start(self, seed, dtype):
        return np.concatenate([np.ones(self.SIZE, dtype), np.zeros(self.SAMPLES, dtype)])

    def flops(self, rows, layers=None):
        return 1e5 * rows  # 10 µs: about as long as a message

    def gradient(self, params, grads, batch, scale):
        grads[self.SIZE :] = 0
        grads[self.SIZE + batch.rows] = 1
        return super().gradient(params[: self.SIZE], grads[: self.SIZE], batch, scale)

    def evaluate(self, x):
        return super().evaluate(x[: self.SIZE])


class Case(NamedTuple):
    """A seed's configuration, {field of Config: value}, and its faults, [spec]."""

    config: dict
    faults: list

    @property
    def synchronous(self):
        name, options = parse(self.config["algorithm"], ALGORITHMS, "--algorithm", schema=lambda part: part.run)
        return ALGORITHMS[name].synchronous(**options)

    @property
    def crashes(self):
        """The faults that kill a rank."""
        return [fault for fault in self.faults if fault.startswith("kill:")]

    def without_faults(self):
        return self._replace(faults=[])

    @staticmethod
    def words(crash):
        """What the error of the rank that this fault kills says."""
        rank, step = (option.partition("=")[2] for option in crash.partition(":")[2].split(","))
        return f"rank {rank} was killed before step {step} "

    def __str__(self):
        flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in self.config.items())
        return f'{flags} --faults "{"; ".join(self.faults)}"'


def draw(seed):
    """The Case of a seed."""
    r = random.Random(seed)
    algorithm = r.choice(PLAYED)
    servers = 2 if "servers=2" in algorithm else 0 if "colocated" in algorithm else 1
    size = r.randint(servers + 1, 6) if servers else 2  # co-located ranks have a block of keys each
    sums = ALGORITHMS[algorithm.partition(":")[0]].sums
    config = dict(
        algorithm=algorithm,
        reduction=r.choice(REDUCED) if sums == "allreduce" else "tree",
        simulate=size,
        steps=r.randint(3, 8),
        batch_size=r.randint(3, 16),
        checkpoint_every=r.randint(1, 3),
        log_every=1,
        optimizer="sgd",
        lr=LR,
        dtype=r.choice(["float32", "float64"]),
        seed=seed,
    )
    return Case(config, plan(r, servers, size, config["steps"]))


def plan(r, servers, size, steps):
    """[spec] of faults, at least one of them of messages.   r: random.Random.   servers: so many first ranks may serve"""
    ranks = r.sample(range(size), r.randint(1, size - 1))
    begins = r.uniform(0, 2e-3)
    anyone = [-1, *range(size)]
    choices = [
        f"drop:p={r.uniform(0.02, 0.3):.2f},rank={r.choice(anyone)}",
        f"duplicate:p={r.uniform(0.05, 0.5):.2f},rank={r.choice(anyone)}",
        f"reorder:p={r.uniform(0.05, 0.5):.2f},s={r.uniform(0, 1e-3):.2g},rank={r.choice(anyone)}",
        f"delay:rank={r.randrange(size)},s={r.uniform(0, 5e-4):.2g}",
        f"partition:ranks={'/'.join(map(str, sorted(ranks)))},from={begins:.3g},to={begins + r.uniform(1e-4, 5e-3):.3g}",
    ]
    faults = r.sample(choices, r.randint(1, len(choices)))
    if r.random() < 0.5:
        faults.append(f"slow:rank={r.randrange(servers, size)},x={r.uniform(1, 10):.1f}")
    if r.random() < 0.4:
        crashes = {(r.randrange(size), r.randint(1, steps)) for _ in range(r.randint(1, 2))}
        faults += [f"kill:rank={rank},step={step}" for rank, step in sorted(crashes)]
    return faults
