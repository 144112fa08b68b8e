"""One step of data-parallel on one worker, 784-128-10, batch 128, float32, beside the floor and eager PyTorch."""

import numpy as np

from benchmarks import floor
from benchmarks.measure import interleaved
from dsgd.algorithms import ALGORITHMS
from dsgd.data import Dataset
from dsgd.local import Local
from dsgd.mlp import MLP
from dsgd.objectives import Supervised
from dsgd.norms import Norms
from dsgd.optimizers import SGD
from dsgd.sampling import Shuffled
from dsgd.schedules import constant
from dsgd.simulator import World
from dsgd.state import State
from dsgd.update import Update

WIDTHS, BATCH, CHUNK, ROUNDS = (784, 128, 10), 128, 40, 15


def data(n):
    generator = np.random.default_rng(0)
    X, y = generator.random((n, 784), np.float32), generator.integers(0, 10, n)
    return X, y


class HotBatch(Supervised):
    """Its batch is always the same and stays in the cache, as the floor's does; what draws cost is in `epoch`."""

    def draw(self, rows):
        if not self._passes:
            super().draw(rows)
        return self._passes[len(rows)][:2]


def dsgd_steps():
    """A function that makes CHUNK steps of data-parallel in a world of one rank."""
    X, y = data(BATCH)
    objective = HotBatch(MLP(WIDTHS), Dataset(X, y, X, y, 10), loss="cross-entropy")
    sampler = Shuffled(n=BATCH * CHUNK, batch=BATCH, seed=0, workers=1)
    state, local = State(objective.start(0, np.float32)), None
    update = Update(SGD(), Norms(objective.layout))

    def steps():
        world = World(1, dtype=np.float32)

        def main(rank):
            nonlocal local
            comm = world.comm(0)
            local = local or Local(comm, objective, sampler)
            local.comm, state.t = comm, 0
            for _ in ALGORITHMS["data-parallel"].run(
                comm, local, state, optimizer=update, schedule=constant(lr=1e-6), steps=CHUNK
            ):
                state.heads.clear()

        world.run(main)

    return steps


def floor_steps():
    X, y = data(BATCH)
    p, g, grad = floor.make(WIDTHS, BATCH)
    tmp = np.empty_like(p)

    def steps():
        for _ in range(CHUNK):
            grad(X, y)
            np.multiply(g, 1e-6, out=tmp)
            np.subtract(p, tmp, out=p)

    return steps


def torch_steps():
    """Eager PyTorch, one thread, zero_grad and step included."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    X, y = map(torch.from_numpy, data(BATCH))
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=1e-6), nn.CrossEntropyLoss()

    def steps():
        for _ in range(CHUNK):
            optimizer.zero_grad()
            loss(model(X), y).backward()
            optimizer.step()

    return steps


def main():
    functions = {"floor": floor_steps(), "data-parallel": dsgd_steps()}
    try:
        functions["eager PyTorch"] = torch_steps()
    except ImportError:
        print("eager PyTorch is not installed: left out (pip install torch)")
    medians = interleaved(functions, ROUNDS)
    for name, seconds in medians.items():
        print(f"  {name:14s} {seconds / CHUNK * 1e6:6.0f} µs a step, {seconds / medians['floor']:.2f} × the floor")
    if "eager PyTorch" in medians:
        print(f"  data-parallel takes {medians['data-parallel'] / medians['eager PyTorch']:.2f} × eager PyTorch's time")
