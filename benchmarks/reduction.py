"""The exact sum with the update fused, in shared memory, beside MPI_Allreduce and a plain update; on 2 and 4 ranks.

    mpirun -n 2 python -m benchmarks.reduction      the ranks, which `python -m benchmarks reduction` starts

A round is what `sharded-update` does after a gradient: reduce_scatter, SGD on the own slice, allgather, as a run drives it.
The other side sums in place, in the library's order, and updates all of x in two passes.  float32.  Both places where the
parameters can lie are measured, in each rank's own memory and once per host; the ratio is that of the one dsgd chooses.
"""

import json
import sys

SIZES = (256, 1024, 4096, 16_384, 101_770, 669_706, 1_863_690, 10_000_000)  # parameters; of MLPs, some of them
LARGE, BARS = 16_000, (1.5, 0.75)  # below so many parameters, and from there on
WAYS = ("private", "once", "library")
ROUNDS, ITEM = 11, 4  # bytes of a parameter


def exact(comm, n, rounds):
    """A function of so many rounds of sharded-update with n parameters, whose gradient is there already."""
    import numpy as np

    from dsgd.algorithms import ALGORITHMS
    from dsgd.algorithms.sharded_update import one_slice_each
    from dsgd.layout import Layout
    from dsgd.norms import Norms
    from dsgd.optimizers import SGD
    from dsgd.schedules import constant
    from dsgd.state import HEAD, State
    from dsgd.update import Update

    class Ready:
        """Stands in for objective and local: the packet is full of zeros."""

        layout = Layout({"weight": (n,)})
        packet = comm.empty(HEAD + n)

        def samples(self, t):
            return 1

        def gradient(self, x, t, scale):
            return self.packet

    Ready.packet[:] = 0
    _, lo, hi = one_slice_each(comm.size, Ready).owners[comm.rank]
    start = np.zeros(n, np.float32)
    state = State(start[lo:hi], start)
    update, schedule = Update(SGD(), Norms(Ready.layout, lo, hi)), constant(lr=0.1)
    program = ALGORITHMS["sharded-update"].run(comm, Ready(), state, optimizer=update, schedule=schedule, steps=10**9)

    def run():
        for _ in range(rounds):
            next(program)
            state.heads.clear()

    return run


def library(world, n, rounds):
    """The same with MPI_Allreduce."""
    import numpy as np
    from mpi4py import MPI

    x, g, s = np.zeros((3, n), np.float32)

    def run():
        for _ in range(rounds):
            world.Allreduce(MPI.IN_PLACE, g)
            np.multiply(g, 0.1, out=s)
            np.subtract(x, s, out=x)

    return run


def measure(n, repetitions):
    """{way: median seconds of a round} on this rank."""
    from unittest.mock import patch

    from mpi4py import MPI

    from benchmarks.measure import interleaved
    from dsgd.mpi import window
    from dsgd.mpi.shared import SharedComm
    from dsgd.mpi.waiting import crowded
    from dsgd.state import HEAD

    world, rounds = MPI.COMM_WORLD.Dup(), max(1, min(100, 2_000_000 // n))
    comms = []
    for once in (False, True):
        comm = SharedComm(world.Dup(), dtype="float32", crowded=crowded(world))
        with patch.object(window, "PRIVATE", 0 if once else 2**62):
            comm.share(window.open_window(world, HEAD + n, "float32", comm.crowded))
        comms.append(comm)
    runs = [*(exact(comm, n, rounds) for comm in comms), library(world, n, rounds)]
    medians = interleaved(dict(zip(WAYS, runs)), repetitions)
    for comm in comms:
        comm.free()
    return {way: seconds / rounds for way, seconds in medians.items()}


def rank_main():
    """One of the ranks; rank 0 prints {parameters: {way: seconds}}."""
    from mpi4py import MPI

    found = {n: measure(n, ROUNDS) for n in SIZES}
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(found))
    return 0


def main():
    from benchmarks.launching import told
    from benchmarks.measure import Figure
    from dsgd.mpi.window import PRIVATE
    from dsgd.state import HEAD

    for ranks in (2, 4):
        what = f"exact sum and update / MPI_Allreduce and update, {ranks} ranks"
        for n, seconds in told("benchmarks.reduction", ranks=ranks).items():
            ours = "private" if ITEM * (HEAD + int(n)) <= PRIVATE else "once"  # as the window chooses
            note = ", ".join(f"{way} {1e6 * seconds[way]:.0f}" for way in WAYS) + " µs"
            most = BARS[int(n) >= LARGE]
            yield Figure(what, f"{int(n):,} parameters", seconds[ours] / seconds["library"], most=most, note=note)


if __name__ == "__main__":
    from dsgd.mpi.launch import guard

    sys.exit(guard(rank_main))
