"""N simulated workers on p processes: 64 workers on 784-128-10, batch 32 each, and 10,000 workers of 8 samples.

             python -m benchmarks.processes      one of the runs that `python -m benchmarks processes` starts, in turn:
mpirun -n 2 python -m benchmarks.processes      in one process, the plain simulator without MPI, and on two
"""

import json
import statistics
import sys

WORKERS, BATCH, STEPS, ROUNDS = 64, 32, 30, 5
CROWD = "run(data='teacher:samples=100000', hidden='64,32', batch_size=80000, steps={steps}, simulate=10000)"
CROWD_ROUNDS, MORE = 3, 2  # further steps


def job_main(backend=None):
    """One run on the processes of this job; process 0 prints seconds a step and the hash of the parameters."""
    from benchmarks.step import data
    from dsgd.data import Dataset
    from dsgd.mlp import MLP
    from dsgd.objectives import Supervised
    from dsgd.runner import run

    X, y = data(WORKERS * BATCH * 10)
    objective = Supervised(MLP((784, 128, 10)), Dataset(X, y, X[:1], y[:1], 10), loss="cross-entropy")
    result = run(
        backend=backend,
        objective=objective,
        simulate=WORKERS,
        batch_size=WORKERS * BATCH,
        steps=STEPS,
        log_every=STEPS,
    )
    if result:
        print(json.dumps([result.seconds["steps"] / STEPS, result.summary["params_sha256"]]))
    return 0


def processes_figures():
    """64 workers on one process and on two."""
    from benchmarks.launching import told
    from benchmarks.measure import Figure

    counts, found = {1: None, 2: 2}, {}  # processes: ranks under mpirun; one process pays for no MPI
    for _ in range(ROUNDS):
        for processes, ranks in counts.items():
            found.setdefault(processes, []).append(told("benchmarks.processes", ranks=ranks))
    seconds = {processes: statistics.median(s for s, _ in runs) for processes, runs in found.items()}
    hashes = {digest for runs in found.values() for _, digest in runs}
    for processes in counts:
        yield Figure("a step of 64 workers", f"p = {processes}", 1e3 * seconds[processes], "ms")
    yield Figure("2 processes against one without mpirun", "64 workers", seconds[1] / seconds[2], least=1.8)
    yield Figure("different hashes", "64 workers", len(hashes), "", most=1)


def crowd_figures():
    """10,000 workers in one process: the runs of one step, and what each further step takes."""
    from benchmarks.measure import Figure
    from benchmarks.simulator import crowd

    runs = {1: [], 1 + MORE: []}
    for _ in range(CROWD_ROUNDS):
        for steps, seconds in runs.items():
            seconds.append(next(crowd(CROWD.format(steps=steps))))
    first, longer = map(statistics.median, runs.values())
    yield Figure("a step of 10,000 workers", "8 samples each, a further step", (longer - first) / MORE, "s", most=3)
    yield Figure("a run of one step of 10,000 workers", "start-up of the ranks included", first, "s", most=3)


def main():
    yield from processes_figures()
    yield from crowd_figures()


if __name__ == "__main__":
    from dsgd.mpi.launch import guard, launched

    sys.exit(guard(lambda: job_main("mpi")) if launched()[0] else job_main())
