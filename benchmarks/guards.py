"""What the guards cost: a step at 784-128-10, batch 128, float32, on 1 and 2 ranks, with and without them.

    mpirun -n 2 python -m benchmarks.guards      two ranks, which `python -m benchmarks guards` starts

With them: the run's own step, with the finite check, the four numbers in front of the gradient and what is agreed in
them, and the notes of the communicator.  Without: the same gradient, sum and update on a bare vector.  The watchdog's
thread runs beside both: it wakes once a second.
"""

import json
import subprocess
import sys

WIDTHS, BATCH, CHUNK, ROUNDS, BAR = (784, 128, 10), 128, 40, 31, 3


def steps(comm):
    """{name: function} of CHUNK steps each on this rank."""
    import numpy as np

    from benchmarks.step import HotBatch, data
    from dsgd.algorithms import ALGORITHMS
    from dsgd.data import Dataset
    from dsgd.local import Local
    from dsgd.mlp import MLP
    from dsgd.norms import Norms
    from dsgd.optimizers import SGD
    from dsgd.sampling import Shuffled
    from dsgd.schedules import constant
    from dsgd.state import State
    from dsgd.update import Update

    X, y = data(BATCH)
    objective = HotBatch(MLP(WIDTHS), Dataset(X, y, X, y, 10), loss="cross-entropy")
    sampler = Shuffled(n=BATCH * CHUNK, batch=BATCH, seed=0, workers=comm.size)
    state, local = State(objective.start(0, comm.dtype)), Local(comm, objective, sampler)
    update, schedule, flops = Update(SGD(), Norms(objective.layout)), constant(lr=1e-6), objective.flops(BATCH)
    x, g = state.x.copy(), np.empty_like(state.x)
    params, grads = objective.views(x), objective.views(g)
    allreduce = type(comm).allreduce
    allreduce = getattr(allreduce, "__wrapped__", allreduce)  # under MPI without its note

    def guarded():
        state.t = 0
        run = ALGORITHMS["data-parallel"].run
        for _ in run(comm, local, state, optimizer=update, schedule=schedule, steps=CHUNK):
            state.heads.clear()

    def bare():
        for t in range(CHUNK):
            batch = sampler.part(t, comm.worker)
            comm.compute(lambda batch=batch: objective.gradient(params, grads, batch, 1 / BATCH), t, flops)
            update.step(x, allreduce(comm, g), schedule(t))

    return {"guarded": guarded, "bare": bare}


def measure(comm):
    """{name: median seconds of CHUNK steps}"""
    from benchmarks.measure import interleaved

    return interleaved(steps(comm), ROUNDS)


def rank_main():
    """One of two ranks; rank 0 prints the medians."""
    from mpi4py import MPI
    from threadpoolctl import threadpool_limits

    from dsgd.mpi.comm import MPIComm
    from dsgd.mpi.waiting import crowded
    from dsgd.mpi.watchdog import Watchdog

    world = MPI.COMM_WORLD
    with threadpool_limits(limits=1, user_api="blas"), Watchdog(world.Dup(), 600):
        medians = measure(MPIComm(world.Dup(), dtype="float32", crowded=crowded(world)))
    if world.rank == 0:
        print(json.dumps(medians))
    return 0


def main():
    from dsgd.simulator import simulate

    medians = {1: simulate(measure, 1, dtype="float32")[0]}
    done = subprocess.run(
        ["mpirun", "-n", "2", sys.executable, "-m", "benchmarks.guards"], capture_output=True, text=True
    )
    if done.returncode:
        print(f"  2 ranks are left out: {done.stderr.strip() or 'mpirun failed'}")
    else:
        medians[2] = json.loads(done.stdout)
    for ranks, seconds in medians.items():
        cost = 100 * (seconds["guarded"] / seconds["bare"] - 1)
        print(
            f"  {ranks} rank{'s' * (ranks > 1)}: {seconds['guarded'] / CHUNK * 1e6:.0f} µs a step, "
            f"{seconds['bare'] / CHUNK * 1e6:.0f} without guards: {cost:+.1f} % (bar {BAR} %)"
        )


if __name__ == "__main__":
    from dsgd.mpi.launch import guard

    sys.exit(guard(rank_main))
