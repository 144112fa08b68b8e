"""One step of sgd on one worker, float32, one BLAS thread, beside its matrix products alone and eager PyTorch."""

from importlib.util import find_spec

import numpy as np

from benchmarks import floor, peers
from benchmarks.measure import NETWORKS, Figure, interleaved
from dsgd.algorithms import ALGORITHMS
from dsgd.data import Dataset
from dsgd.local import Local
from dsgd.mlp import MLP
from dsgd.norms import Norms
from dsgd.objectives import Supervised
from dsgd.optimizers import SGD
from dsgd.sampling import Shuffled
from dsgd.schedules import constant
from dsgd.simulator import World
from dsgd.state import State
from dsgd.update import Update

WIDTHS, BATCH, CHUNK, ROUNDS = (784, 128, 10), 128, 40, 15
BARS = {  # per cent of a step's time that the products are, how many times as fast as PyTorch's a step is: at least
    "784-128-10": (82, 1.4),
    "7 layers": (82, 1.2),
    "784-512-512-10": (90, None),
    "784-1024-1024-10": (94, 1.0),
}
CHUNK_FLOPS = 4e9  # of the steps that are timed as one: clocks and calls then count for nothing


def data(n):
    generator = np.random.default_rng(0)
    X, y = generator.random((n, 784), np.float32), generator.integers(0, 10, n)
    return X, y


class HotBatch(Supervised):
    """Its batch is always the same and stays in the cache, as the floor's does; what draws cost is in `epoch`."""

    def __init__(self, *network, **options):
        super().__init__(*network, **options)
        self.drawn = set()  # numbers of rows

    def draw(self, rows, X, y):
        if len(rows) not in self.drawn:
            super().draw(rows, X, y)
            self.drawn.add(len(rows))


def dsgd_steps(widths=WIDTHS, batch=BATCH, chunk=CHUNK, algorithm="sgd", samples=0):
    """A function that makes `chunk` steps in a world of one rank, on one hot batch, or drawn from so many samples."""
    X, y = data(samples or batch)
    kind = Supervised if samples else HotBatch
    objective = kind(MLP(widths), Dataset(X, y, X, y, 10), loss="cross-entropy")
    sampler = Shuffled(n=batch * chunk, batch=batch, seed=0, workers=1)
    state, local = State(objective.start(0, np.float32)), None
    update = Update(SGD(), Norms(objective.layout))

    def steps():
        world = World(1, dtype=np.float32)

        def main(rank):
            nonlocal local
            comm = world.comm(0)
            local = local or Local(comm, objective, sampler)
            local.comm, state.t = comm, 0
            for _ in ALGORITHMS[algorithm].run(
                comm, local, state, optimizer=update, schedule=constant(lr=1e-6), steps=chunk
            ):
                state.heads.clear()

        world.run(main)

    return steps


def product_steps(widths, batch, chunk):
    """The same for the matrix products alone."""
    products = floor.products(widths, batch)

    def steps():
        for _ in range(chunk):
            products()

    return steps


def torch_steps(widths, batch, chunk):
    """The same for eager PyTorch, one thread, zero_grad and step included."""
    step = peers.eager(None, widths, batch)

    def steps():
        for _ in range(chunk):
            step()

    return steps


def measure(network, rounds=ROUNDS):
    """{"products", "dsgd", "torch": median seconds of a step} of a name in NETWORKS; no "torch" where it is not installed."""
    widths, batch = NETWORKS[network]
    flops = 6 * batch * sum(a * b for a, b in zip(widths, widths[1:]))
    chunk = max(1, round(CHUNK_FLOPS / flops))
    functions = {"products": product_steps(widths, batch, chunk), "dsgd": dsgd_steps(widths, batch, chunk)}
    if find_spec("torch"):
        functions["torch"] = torch_steps(widths, batch, chunk)
    return {name: seconds / chunk for name, seconds in interleaved(functions, rounds).items()}


def main():
    for network, (share, faster) in BARS.items():
        seconds = measure(network)
        yield Figure("a step of sgd", network, 1e6 * seconds["dsgd"], "µs")
        yield Figure(
            "of it the matrix products alone", network, 100 * seconds["products"] / seconds["dsgd"], "%", share
        )
        ahead = seconds["torch"] / seconds["dsgd"] if "torch" in seconds else None
        note = "" if ahead else "PyTorch is not installed; pip install torch"
        yield Figure("eager PyTorch's step beside it", network, ahead, least=faster, note=note)
