"""--device gpu: the trajectory against float64 on the CPU, a captured step beside PyTorch's, wide layers beside their products."""

from importlib.util import find_spec

import numpy as np

import dsgd
from benchmarks.measure import NETWORKS, Figure
from benchmarks.step import data
from dsgd.algorithms import ALGORITHMS
from dsgd.data import Dataset
from dsgd.device import open_device
from dsgd.errors import UsageError
from dsgd.graph import Card, Replay
from dsgd.local import Local
from dsgd.mlp import MLP
from dsgd.norms import Norms
from dsgd.objectives import Supervised
from dsgd.optimizers import SGD
from dsgd.products import BF16, EXACT, TF32
from dsgd.sampling import Shuffled
from dsgd.schedules import constant
from dsgd.simulator import World
from dsgd.staging import Staged
from dsgd.state import State
from dsgd.update import Update

SMALL, WIDE, WIDE_BATCH = "784-128-10", (4096, 4096, 4096, 10), 4096
STEPS, ROUNDS, SAMPLES = 200, 9, 8192
TRAJECTORY = {"data": "fashion-mnist", "hidden": "128", "batch_size": 128, "steps": 100, "quiet": True}


def main():
    try:
        xp = open_device("gpu")
    except UsageError as error:
        print(f"  left out: {error}")
        return
    yield Figure("distance from the CPU's float64 trajectory after 100 steps", SMALL, apart(), "relative", most=1e-5)
    yield from beside_pytorch(xp)
    yield from beside_products(xp)


def apart():
    """‖x − x₆₄‖ / ‖x₆₄‖ of a float32 run on the card and a float64 run on the CPU, from one start."""
    exact = dsgd.run(**TRAJECTORY, dtype="float64").params
    found = dsgd.run(**TRAJECTORY, device="gpu").params
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def beside_pytorch(xp):
    widths, batch = NETWORKS[SMALL]
    functions = {"captured": steps(xp, widths, batch), "kernel by kernel": steps(xp, widths, batch, None)}
    if find_spec("torch"):
        functions |= torch_steps(widths, batch)
    seconds = timed(xp, functions)
    for name, value in seconds.items():
        yield Figure(f"a step, {name}", SMALL, value * 1e6, "µs")
    if "PyTorch" not in seconds:
        note = "PyTorch with CUDA is not installed"
        yield Figure("captured, times as fast as eager PyTorch", SMALL, None, note=note)
        return
    captured = seconds["captured"]
    yield Figure("captured, times as fast as eager PyTorch", SMALL, seconds["PyTorch"] / captured, least=5)
    yield Figure("captured, times as fast as PyTorch's graph", SMALL, seconds["PyTorch's graph"] / captured, least=1)
    eager = seconds["PyTorch"] / seconds["kernel by kernel"]
    yield Figure("kernel by kernel, times as fast as eager PyTorch", SMALL, eager, least=1)


def beside_products(xp):
    """The part of a step at 4096-wide layers that its products alone would take."""
    for name, types in (("TF32", TF32), ("bf16", BF16)):
        card = Card(xp, types)
        functions = {
            "step": steps(xp, WIDE, WIDE_BATCH, types, count=3),
            "products": products(xp, card, WIDE, WIDE_BATCH, count=3),
        }
        seconds = timed(xp, functions, count=3)
        yield Figure(f"products alone / step, {name}", "4096 wide", seconds["products"] / seconds["step"], least=0.8)


def steps(xp, widths, batch, types=EXACT, count=STEPS):
    """A function that makes `count` steps of sgd on a device.   types: of captured products; None to capture nothing"""
    X, y = data(SAMPLES)
    X = np.resize(X, (SAMPLES, widths[0]))
    objective = Supervised(MLP(widths), Dataset(X, y, X[:1], y[:1], 10), loss="cross-entropy")
    objective.place(xp)
    objective.replay = types and Replay(Card(xp, types))
    sampler = Shuffled(n=SAMPLES, batch=batch, seed=0, workers=1)
    state, update = State(xp.asarray(objective.start(0, np.float32))), Update(SGD(), Norms(objective.layout))
    world = World(1, dtype=np.float32)
    local = Local(Staged(world.comm(0), xp), objective, sampler)

    def make():
        def rank(number):
            local.comm, state.t = Staged(world.comm(0), xp), 0
            program = ALGORITHMS["sgd"].run(
                local.comm, local, state, optimizer=update, schedule=constant(lr=1e-6), steps=count
            )
            for _ in program:
                state.heads.clear()

        nonlocal world
        world = World(1, dtype=np.float32)
        world.run(rank)

    return make


def products(xp, card, widths, batch, count):
    """A function that makes the matrix products of `count` steps, and nothing else."""
    ones = {
        shape: xp.ones(shape, dtype="float32") for shape in {(batch, n) for n in widths} | set(zip(widths, widths[1:]))
    }
    outputs = {shape: xp.empty(shape, dtype="float32") for shape in ones}
    multiply = card.products.matmul

    def make():
        for _ in range(count):
            for l, (n_in, n_out) in enumerate(zip(widths, widths[1:])):
                a, W, d = ones[batch, n_in], ones[n_in, n_out], ones[batch, n_out]
                multiply(a, W, out=outputs[batch, n_out])
                multiply(a.T, d, out=outputs[n_in, n_out])
                if l:
                    multiply(d, W.T, out=outputs[batch, n_in])

    return make


def torch_steps(widths, batch):
    """{name: function} of as many steps by PyTorch on the card, eager and as a graph; {} where it has no CUDA."""
    import torch
    from torch import nn

    if not torch.cuda.is_available():
        return {}
    X, y = (torch.from_numpy(part).cuda() for part in data(batch))
    layers = [nn.Linear(n_in, n_out) for n_in, n_out in zip(widths, widths[1:])]
    model = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))[:-1].cuda()
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=1e-6), nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad(set_to_none=False)
        loss(model(X), y).backward()
        optimizer.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def repeated(once):
        def make():
            for _ in range(STEPS):
                once()
            torch.cuda.synchronize()

        return make

    return {"PyTorch": repeated(step), "PyTorch's graph": repeated(graph.replay)}


def timed(xp, functions, count=STEPS):
    """{name: median seconds of a step}, by events on the card; each round calls every function once."""
    times = {name: [] for name in functions}
    for function in (*functions.values(), *functions.values()):
        function()  # kernels are compiled, steps captured
    for _ in range(ROUNDS):
        for name, function in functions.items():
            begin, end = xp.cuda.Event(), xp.cuda.Event()
            xp.cuda.Device().synchronize()
            begin.record()
            function()
            xp.cuda.Device().synchronize()
            end.record()
            end.synchronize()
            times[name].append(xp.cuda.get_elapsed_time(begin, end) / 1e3 / count)
    return {name: float(np.median(values)) for name, values in times.items()}
