"""Where the time of a step goes, each part beside its ceiling: products, or the copying of as many bytes.

The parts of a step on one worker are timed alone and in turns.  What is left of the whole step is the run itself: the
algorithm, the communicator's notes, the observer.  What a second rank costs is the step of 2 ranks, less that of one rank
with half the batch.
"""

from functools import partial
from itertools import cycle

import numpy as np

from benchmarks import floor
from benchmarks.ceilings import SQUARE
from benchmarks.launching import alternated
from benchmarks.measure import NETWORKS, Figure, interleaved
from benchmarks.peers import numpy_batch
from benchmarks.step import HotBatch, dsgd_steps
from dsgd.data import Dataset
from dsgd.local import Local
from dsgd.mlp import MLP
from dsgd.norms import Norms
from dsgd.objectives import Supervised
from dsgd.optimizers import SGD
from dsgd.sampling import Shuffled
from dsgd.simulator import World
from dsgd.state import HEAD
from dsgd.update import Update

ROUNDS, LAUNCHES = 9, 3
SAMPLES = 20_000  # 63 MB of 784 features: more than a cache, so that a draw reads memory
CHUNK_FLOPS = 2e9  # of the steps that are timed as one


def parts(widths, batch):
    """{part: function} of a step, and of what each can be measured by."""
    X, y = numpy_batch(widths, SAMPLES)
    dataset = Dataset(X, y, X, y, widths[-1])
    hot, cold = (kind(MLP(widths), dataset, loss="cross-entropy") for kind in (HotBatch, Supervised))
    sampler = Shuffled(n=SAMPLES, batch=batch, seed=0, workers=1)
    batches = [sampler.part(t) for t in range(SAMPLES // batch)]
    in_turn = cycle(batches)
    x, packet = hot.start(0, np.float32).copy(), np.zeros(HEAD + hot.layout.size, np.float32)
    g, copy = packet[HEAD:], np.zeros_like(x)
    drawn = np.empty((batch, widths[0]), dataset.dtype), np.empty(batch, y.dtype)
    params, grads = hot.views(x), hot.views(g)
    local, update = Local(World(1, dtype=np.float32).comm(0), hot, sampler), Update(SGD(), Norms(hot.layout))
    return {
        "products": floor.products(widths, batch),
        "gradient": partial(hot.gradient, params, grads, batches[0], 1 / batch),
        "check": lambda: local.sign(packet, g, 0, batch, 0.0),
        "update": lambda: update.step(x, g, 1e-6),
        "draw": lambda: cold.draw(next(in_turn).rows, *drawn),
        "copy of x": partial(np.copyto, copy, x),
    }


def measure(network):
    """({part: seconds}, floating-point operations of the products) of a step on one worker."""
    widths, batch = NETWORKS[network]
    weights = [a * b for a, b in zip(widths, widths[1:])]
    flops = 2 * batch * (3 * sum(weights) - weights[0])  # no derivative by the inputs
    chunk = max(1, round(CHUNK_FLOPS / flops))
    functions = {part: partial(repeat, function, chunk) for part, function in parts(widths, batch).items()}
    functions["step"] = dsgd_steps(widths, batch, chunk)
    return {part: seconds / chunk for part, seconds in interleaved(functions, ROUNDS).items()}, flops


def repeat(function, times):
    for _ in range(times):
        function()


def ceiling():
    """Operations a second of a large product."""
    a, b, out = (np.ones((SQUARE, SQUARE), np.float32) for _ in range(3))
    return 2 * SQUARE**3 / interleaved({"product": lambda: np.matmul(a, b, out=out)}, ROUNDS)["product"]


def main():
    most = ceiling()
    for network in NETWORKS:
        seconds, flops = measure(network)
        step, gradient, copied = seconds["step"], seconds["gradient"], seconds["copy of x"]
        check, update = seconds["check"], seconds["update"]
        yield row("a hot step", network, step)
        yield row(
            "products (of a large product's speed)",
            network,
            seconds["products"],
            f"{flops / seconds['products'] / most:.0%}",
        )
        yield row("element-wise passes", network, gradient - seconds["products"])
        yield row("finite check, agreed numbers (in copies of x)", network, check, f"{check / copied:.1f}")
        yield row("update (in copies of x)", network, update, f"{update / copied:.1f}")
        yield row("the run itself", network, step - gradient - check - update)
        yield row("a draw from memory, in place of the hot batch", network, seconds["draw"])
    yield from second_rank()


def second_rank():
    """What a step takes longer than one rank's with half the batch."""
    halves = [(widths, batch // 2) for widths, batch in NETWORKS.values()]
    programs = {1: ("sgd", halves, None), 2: ("sharded-update", list(NETWORKS.values()), 2)}
    medians, missing = alternated(programs, LAUNCHES)
    what = "a second rank: barriers, sum, gathering"
    if missing:
        yield Figure(what, "", None, "µs", note=" ".join(missing.values()))
        return
    for network, alone, together in zip(NETWORKS, *medians.values()):
        yield row(what, network, together - alone)


def row(part, network, seconds, note=""):
    return Figure(part, network, seconds * 1e6, "µs", note=note)
