"""What simulating costs: beside a plain loop with the same arithmetic, per event, and with a great many workers."""

import subprocess
import sys
import time

import numpy as np

from benchmarks.measure import Figure, interleaved
from benchmarks.step import data
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

WIDTHS, BATCH = (784, 128, 10), 32
PUSH, PULL, PARAMETERS = range(3)  # tags


def in_place_tree(stack):
    """The tree sum of a plain loop, which may destroy its inputs."""
    distance = 1
    while distance < len(stack):
        for i in range(0, len(stack) - distance, 2 * distance):
            np.add(stack[i], stack[i + distance], out=stack[i])
        distance *= 2
    return stack[0]


def overhead(workers, steps, rounds=7):
    """(simulated, plain) seconds of a worker-step."""
    X, y = data(20000)
    objective = Supervised(MLP(WIDTHS), Dataset(X, y, X[:1], y[:1], 10), loss="cross-entropy")
    sampler = Shuffled(n=len(X), batch=BATCH * workers, seed=0, workers=workers)
    start = objective.start(0, np.float32)
    states = [State(start) for _ in range(workers)]
    updates = [Update(SGD(), Norms(objective.layout)) for _ in range(workers)]
    locals_ = [None] * workers

    def simulated():
        world = World(workers, dtype=np.float32)

        def main(rank):
            comm = world.comm(rank)
            local = locals_[rank] = locals_[rank] or Local(comm, objective, sampler)
            local.comm, states[rank].t = comm, 0
            for _ in ALGORITHMS["data-parallel"].run(
                comm, local, states[rank], optimizer=updates[rank], schedule=constant(lr=1e-6), steps=steps
            ):
                states[rank].heads.clear()

        world.run(main)

    vectors, grads = [start.copy() for _ in range(workers)], [np.empty_like(start) for _ in range(workers)]
    params, views = [objective.views(x) for x in vectors], [objective.views(g) for g in grads]
    optimizers = [SGD() for _ in range(workers)]

    def plain():
        for t in range(steps):
            for w in range(workers):
                objective.gradient(params[w], views[w], sampler.part(t, w), 1 / sampler.samples(t))
            total = in_place_tree(grads)
            for w in range(workers):
                optimizers[w].step(vectors[w], total, 1e-6)

    medians = interleaved({"simulated": simulated, "plain": plain}, rounds)
    return medians["simulated"] / workers / steps, medians["plain"] / workers / steps


def event(ranks=1000, rounds=20):
    """Seconds of an event without arithmetic: every rank passes messages round a ring."""
    world = World(ranks)
    nothing = np.empty(1)

    def main(rank):
        comm = world.comm(rank)
        for _ in range(rounds):
            comm.send(nothing, (rank + 1) % ranks)
            comm.recv((rank - 1) % ranks)

    start = time.perf_counter()
    world.run(main)
    return (time.perf_counter() - start) / world.kernel.events


def asynchronous(workers=999, pushes=30):
    """Events a second at one server to which all workers push and from which they pull, without arithmetic.

    An event: a gradient ended, or a message delivered; of these each push has three (push, pull, parameters).
    """
    world, numbers, nothing = World(workers + 1), np.empty(4), np.empty(0)

    def serve(comm):
        x = comm.copy(numbers)
        for _ in range(2 * pushes * workers):
            message = comm.recv()
            if message.tag == PULL:
                comm.isend(x, message.source, PARAMETERS)

    def work(comm):
        for step in range(pushes):
            comm.compute(int, step, 1e6)
            comm.isend(numbers, 0, PUSH)
            comm.isend(nothing, 0, PULL)
            comm.recv(0)

    start = time.perf_counter()
    world.run(lambda rank: (work if rank else serve)(world.comm(rank)))
    return 4 * pushes * workers / (time.perf_counter() - start)


CROWDS = {  # what: (call, most seconds, most MB or None)
    "1,000 workers × 8 samples × 10 steps, teacher 64-64-32-10": (
        "run(data='teacher:samples=100000', hidden='64,32', batch_size=8000, steps=10, simulate=1000)",
        5,
        400,
    ),
    "1,000 workers × 8 samples × 50 pushes of an asynchronous parameter server, the same network": (
        "run(data='teacher:samples=100000', hidden='64,32', batch_size=8000, steps=50, simulate=1001, algorithm='parameter-server:consistency=asp', optimizer='sgd', lr=1e-3)",
        60,
        None,
    ),
    "10,000 workers × 5 steps, a quadratic": (
        "run(objective=Quadratic(samples=20000), batch_size=10000, steps=5, simulate=10000, dtype='float64')",
        5,
        500,
    ),
}


def crowd(call):
    """(seconds, peak MB) of a run in a process of its own."""
    code = (
        f"import time\nfrom dsgd import run, Quadratic\nt = time.perf_counter()\n{call}\nprint(time.perf_counter() - t)"
    )
    code += (
        "\nprint(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    return map(
        float, subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )


def main():
    for workers, steps in ((16, 60), (64, 20), (256, 10)):
        simulated, plain = overhead(workers, steps)
        note = f"{simulated * 1e6:.0f} µs, in a plain loop {plain * 1e6:.0f}"
        what = "a simulated worker-step beside one in a plain loop"
        yield Figure(what, f"{workers} workers", simulated / plain, most=1.1, note=note)
    yield Figure("an event without arithmetic", "1,000 ranks", min(event() for _ in range(5)) * 1e6, "µs", most=5)
    events = max(asynchronous() for _ in range(5))
    yield Figure("asynchronous traffic of 999 workers and a server", "", events, "events a second", least=150_000)
    for name, (call, longest, largest) in CROWDS.items():
        seconds, megabytes = crowd(call)
        yield Figure(name, "seconds", seconds, "s", most=longest)
        yield Figure(name, "memory", megabytes, "MB", most=largest)
