"""One rank of a program that is timed: an algorithm of this library, or a peer.

    [mpirun -n 2] python -m benchmarks.worker PROGRAM '[[widths, batch], ...]'

Rank 0 prints [seconds a step], case by case.  The batch is the global one, cut evenly over the ranks; it stays in the
cache, as it does for all programs: what draws cost is in `epoch`.
"""

import json
import os
import statistics
import sys

WARM, REPEATS = 10, 3  # steps; runs, of which the median counts
WORK, LEAST, MOST = 1e10, 10, 300  # floating-point operations of a run, in so many steps
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def steps_of(widths, batch):
    """How many steps make a run that is long enough to be timed."""
    flops = 6 * batch * sum(a * b for a, b in zip(widths, widths[1:]))
    return int(min(MOST, max(LEAST, WORK / flops)))


def ours(algorithm, world):
    """(widths, batch) -> run(steps) -> seconds, of a run of this library with all that belongs to it."""
    from benchmarks.peers import numpy_batch
    from benchmarks.step import HotBatch
    from dsgd import run
    from dsgd.data import Dataset
    from dsgd.mlp import MLP

    class Endless(HotBatch):
        """As many samples as the steps want, all of them in one batch: nothing is evaluated before the end."""

        labels = None  # they are shuffled, whatever they are

        def __init__(self, widths, batch, steps):
            X, y = numpy_batch(widths, batch)
            super().__init__(MLP(widths), Dataset(X, y, X[:10], y[:10], widths[-1]), loss="cross-entropy")
            self.samples = batch * steps

    backend = None
    if world:
        from dsgd.mpi.backend import MPIBackend

        backend = MPIBackend()
    flags = dict(algorithm=algorithm, optimizer="sgd", lr=1e-6, quiet=True, no_plot=True)

    def start(widths, batch):
        def timed(steps):
            result = run(
                objective=Endless(widths, batch, steps), backend=backend, batch_size=batch, steps=steps, **flags
            )
            return result and result.seconds["steps"]

        return timed

    return start


def main(world=None):
    """world: COMM_WORLD under mpirun"""
    from benchmarks.peers import PEERS, timed

    name, cases = sys.argv[1], json.loads(sys.argv[2])
    start = timed(PEERS[name], world) if name in PEERS else ours(name, world)
    found = []
    for widths, batch in cases:
        run, steps = start(tuple(widths), batch), steps_of(widths, batch)
        run(WARM)
        found.append([run(steps) for _ in range(REPEATS)])
    if world is None or world.rank == 0:
        seconds = [statistics.median(runs) / steps_of(*case) for runs, case in zip(found, cases)]
        print(json.dumps(seconds), flush=True)
    return 0


def rank_main():
    from mpi4py import MPI

    return main(MPI.COMM_WORLD)


if __name__ == "__main__":
    from dsgd.command import run_command
    from dsgd.mpi.launch import guard, launched

    sys.exit(guard(rank_main) if launched()[0] else run_command(lambda _: main()))
