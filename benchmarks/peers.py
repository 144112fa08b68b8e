"""What we are measured beside, each as its users write it: plain SGD, float32, one thread a process.

A peer is a function (world, widths, rows of this rank) -> step().   world: COMM_WORLD, None for one process
"""

import atexit
import shutil
import tempfile
import time
from functools import partial

import numpy as np

from benchmarks import tight
from dsgd.errors import UsageError

LR = 1e-6


def numpy_batch(widths, rows):
    """Inputs (B, n_in) and classes (B,)."""
    generator = np.random.default_rng(0)
    return generator.random((rows, widths[0]), np.float32), generator.integers(0, widths[-1], rows)


def missing(what):
    """An error that ends every rank alike, with one line."""
    error = UsageError(what)
    error.agreed = True
    return error


def tight_numpy(world, widths, rows):
    """A step in plain NumPy on one flat vector, MPI_Allreduce if there are ranks, and an update of two passes."""
    X, y = numpy_batch(widths, rows)
    x, g, gradient = tight.make(widths, rows)
    scratch, lr = np.empty_like(x), np.float32(LR / (world.size if world else 1))
    if world:
        from mpi4py import MPI

    def step():
        gradient(X, y)
        if world:
            world.Allreduce(MPI.IN_PLACE, g)
        np.multiply(g, lr, out=scratch)
        np.subtract(x, scratch, out=x)

    return step


def torch_network(widths):
    """(torch, network, loss)"""
    try:
        import torch
    except ImportError:
        raise missing("PyTorch is not installed; pip install torch") from None
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [torch.nn.Linear(a, b) for a, b in zip(widths, widths[1:])]
    pairs = [part for layer in layers[:-1] for part in (layer, torch.nn.ReLU())]
    return torch, torch.nn.Sequential(*pairs, layers[-1]), torch.nn.CrossEntropyLoss()


def torch_step(net, objective, widths, rows, reduce=None):
    """A training step.   objective: (X, y) -> loss.  reduce(): between gradient and update, of gradients that stay in place"""
    import torch

    X, y = map(torch.from_numpy, numpy_batch(widths, rows))
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)

    def step():
        optimizer.zero_grad(set_to_none=not reduce)
        objective(X, y).backward()
        if reduce:
            reduce()
        optimizer.step()

    return step


def eager(world, widths, rows):
    torch, net, loss = torch_network(widths)
    return torch_step(net, lambda X, y: loss(net(X), y), widths, rows)


def compiled(world, widths, rows):
    """Network and loss by torch.compile, which is done when this returns."""
    torch, net, loss = torch_network(widths)
    step = torch_step(net, torch.compile(lambda X, y: loss(net(X), y)), widths, rows)
    try:
        step()
    except Exception as error:  # what is missing differs by version: a C++ compiler, headers of Python
        raise missing(f"torch.compile does not work here: {str(error).strip().splitlines()[0]}") from None
    return step


def ddp(world, widths, rows):
    """DistributedDataParallel over gloo; the ranks find each other by a file."""
    torch, net, loss = torch_network(widths)
    import torch.distributed as dist

    if not dist.is_initialized():
        path = world.bcast(tempfile.mkdtemp() if world.rank == 0 else None)
        dist.init_process_group("gloo", init_method=f"file://{path}/ranks", rank=world.rank, world_size=world.size)
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        atexit.register(dist.destroy_process_group)
    parallel = torch.nn.parallel.DistributedDataParallel(net)
    return torch_step(net, lambda X, y: loss(parallel(X), y), widths, rows)


def torch_over_mpi(world, widths, rows):
    """PyTorch's gradients as one vector, MPI_Allreduce, PyTorch's SGD."""
    from mpi4py import MPI

    torch, net, loss = torch_network(widths)
    sizes = [p.numel() for p in net.parameters()]
    flat = torch.zeros(sum(sizes))
    for p, part in zip(net.parameters(), flat.split(sizes)):
        p.grad = part.view_as(p)
    vector, share = flat.numpy(), np.float32(1 / world.size)

    def average():
        world.Allreduce(MPI.IN_PLACE, vector)
        np.multiply(vector, share, out=vector)

    return torch_step(net, lambda X, y: loss(net(X), y), widths, rows, average)


PEERS = {
    "NumPy": tight_numpy,
    "eager PyTorch": eager,
    "torch.compile": compiled,
    "PyTorch DDP": ddp,
    "PyTorch over mpi4py": torch_over_mpi,
}


def timed(peer, world):
    """(widths, batch) -> run(steps) -> seconds on this rank."""

    def run(step, steps):
        if world:
            world.Barrier()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return time.perf_counter() - start

    return lambda widths, batch: partial(run, peer(world, widths, batch // (world.size if world else 1)))
