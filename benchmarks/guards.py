"""What the guards cost: a step at 784-128-10, batch 128, float32, on 1 and 2 ranks, with and without them.

    mpirun -n 2 python -m benchmarks.guards      two ranks, which `python -m benchmarks guards` starts

With them: the run's own step.  Without: the same, but for the finite check, the four numbers in front of the gradient,
what is agreed in them, and the notes of the communicator.  The watchdog's thread runs beside both: it wakes once a second.
"""

import json
import sys

WIDTHS, BATCH, CHUNK, ROUNDS, BAR = (784, 128, 10), 128, 40, 31, 3


def steps(comm, bare):
    """{name: function} of CHUNK steps each on this rank.   bare: a communicator that makes no notes"""
    from benchmarks.step import HotBatch, data
    from dsgd.algorithms import ALGORITHMS
    from dsgd.data import Dataset
    from dsgd.local import Local
    from dsgd.mlp import MLP
    from dsgd.norms import Norms
    from dsgd.optimizers import SGD
    from dsgd.sampling import Shuffled
    from dsgd.schedules import constant
    from dsgd.state import HEAD, State
    from dsgd.update import Update

    class BareLocal(Local):
        def sign(self, packet, *_):
            return packet

    class BareState(State):
        def agree(self, packet):
            return packet[HEAD:]

    X, y = data(BATCH)
    objective = HotBatch(MLP(WIDTHS), Dataset(X, y, X, y, 10), loss="cross-entropy")
    sampler = Shuffled(n=BATCH * CHUNK, batch=BATCH, seed=0, workers=comm.size)

    def chunk(comm, local, state):
        state = state(objective.start(0, comm.dtype))
        local, update = local(comm, objective, sampler), Update(SGD(), Norms(objective.layout))

        def run():
            state.t = 0
            for _ in ALGORITHMS["data-parallel"].run(
                comm, local, state, optimizer=update, schedule=constant(lr=1e-6), steps=CHUNK
            ):
                state.heads.clear()

        return run

    return {"guarded": chunk(comm, Local, State), "bare": chunk(bare, BareLocal, BareState)}


def measure(comm, bare):
    """{name: median seconds of CHUNK steps}"""
    from benchmarks.measure import interleaved

    return interleaved(steps(comm, bare), ROUNDS)


def rank_main():
    """One of two ranks; rank 0 prints the medians."""
    from mpi4py import MPI
    from threadpoolctl import threadpool_limits

    from dsgd.mpi.comm import MPIComm
    from dsgd.mpi.waiting import crowded
    from dsgd.mpi.watchdog import Watchdog

    class BareComm(MPIComm):
        allreduce = MPIComm.allreduce.__wrapped__

    world = MPI.COMM_WORLD
    with threadpool_limits(limits=1, user_api="blas"), Watchdog(world.Dup(), 600):
        kinds = (MPIComm, BareComm)
        medians = measure(*(kind(world.Dup(), dtype="float32", crowded=crowded(world)) for kind in kinds))
    if world.rank == 0:
        print(json.dumps(medians))
    return 0


def main():
    from benchmarks.launching import told
    from benchmarks.measure import Figure
    from dsgd.simulator import simulate

    what = "a step with guards takes longer than one without by"
    medians = {1: simulate(lambda comm: measure(comm, comm), 1, dtype="float32")[0]}
    medians[2] = told("benchmarks.guards", ranks=2)
    for ranks, seconds in medians.items():
        guarded, bare = (1e6 * seconds[name] / CHUNK for name in ("guarded", "bare"))
        note = f"{guarded:.0f} µs, {bare:.0f} without"
        yield Figure(what, f"{ranks} rank{'s' * (ranks > 1)}", 100 * (guarded / bare - 1), "%", most=BAR, note=note)


if __name__ == "__main__":
    from dsgd.mpi.launch import guard

    sys.exit(guard(rank_main))
