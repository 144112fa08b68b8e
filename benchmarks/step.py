"""One step of sgd on one worker, float32, one BLAS thread, beside its matrix products alone and eager PyTorch."""

import numpy as np

from benchmarks import floor
from benchmarks.measure import NETWORKS, interleaved
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
BARS = {  # of a step's time that the products are; how many times faster than PyTorch's
    "784-128-10": (0.82, 1.4),
    "7 layers": (0.82, 1.2),
    "784-512-512-10": (0.90, None),
    "784-1024-1024-10": (0.94, 1.0),
}
CHUNK_FLOPS = 4e9  # of the steps that are timed as one: clocks and calls then count for nothing


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


def dsgd_steps(widths=WIDTHS, batch=BATCH, chunk=CHUNK, algorithm="sgd"):
    """A function that makes `chunk` steps in a world of one rank."""
    X, y = data(batch)
    objective = HotBatch(MLP(widths), Dataset(X, y, X, y, 10), loss="cross-entropy")
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
    """Eager PyTorch, one thread, zero_grad and step included."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    X, y = map(torch.from_numpy, data(batch))
    layers = [nn.Linear(n_in, n_out) for n_in, n_out in zip(widths, widths[1:])]
    model = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))[:-1]
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=1e-6), nn.CrossEntropyLoss()

    def steps():
        for _ in range(chunk):
            optimizer.zero_grad()
            loss(model(X), y).backward()
            optimizer.step()

    return steps


def measure(network, rounds=ROUNDS):
    """{"products", "dsgd", "torch": median seconds of a step} of a name in NETWORKS; no "torch" where it is not installed."""
    widths, batch = NETWORKS[network]
    flops = 6 * batch * sum(a * b for a, b in zip(widths, widths[1:]))
    chunk = max(1, round(CHUNK_FLOPS / flops))
    functions = {"products": product_steps(widths, batch, chunk), "dsgd": dsgd_steps(widths, batch, chunk)}
    try:
        functions["torch"] = torch_steps(widths, batch, chunk)
    except ImportError:
        pass
    return {name: seconds / chunk for name, seconds in interleaved(functions, rounds).items()}


def main():
    for network, (share, faster) in BARS.items():
        seconds = measure(network)
        found = ", ".join(f"{name} {1e6 * s:.0f}" for name, s in seconds.items())
        print(f"  {network} ({NETWORKS[network][1]}): µs a step: {found}")
        print(f"    the products are {seconds['products'] / seconds['dsgd']:.3f} of the step (bar {share})")
        if "torch" in seconds:
            bar = f" (bar {faster})" if faster else ""
            print(f"    {seconds['torch'] / seconds['dsgd']:.2f} × as fast as eager PyTorch{bar}")
    if "torch" not in seconds:
        print("  eager PyTorch is not installed: left out (pip install torch)")
