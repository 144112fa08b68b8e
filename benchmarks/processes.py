"""N simulated workers on p processes: 64 workers on 784-128-10, batch 32 each, and 10,000 workers of 8 samples.

mpirun -n 2 python -m benchmarks.processes      one of the runs that `python -m benchmarks processes` starts, in turn
"""

import json
import statistics
import subprocess
import sys

WORKERS, BATCH, STEPS, ROUNDS = 64, 32, 30, 5
CROWD = "run(data='teacher:samples=100000', hidden='64,32', batch_size=80000, steps={steps}, simulate=10000)"


def job_main():
    """One run on the processes of this job; process 0 prints seconds a step and the hash of the parameters."""
    from benchmarks.step import data
    from dsgd.data import Dataset
    from dsgd.mlp import MLP
    from dsgd.mpi.backend import MPIBackend
    from dsgd.objectives import Supervised
    from dsgd.runner import run

    X, y = data(WORKERS * BATCH * 10)
    objective = Supervised(MLP((784, 128, 10)), Dataset(X, y, X[:1], y[:1], 10), loss="cross-entropy")
    result = run(
        backend=MPIBackend(),
        objective=objective,
        simulate=WORKERS,
        batch_size=WORKERS * BATCH,
        steps=STEPS,
        log_every=STEPS,
    )
    if result:
        print(json.dumps([result.seconds["steps"] / STEPS, result.summary["params_sha256"]]))
    return 0


def launch(processes):
    """(seconds a step, hash) of one run."""
    words = ["mpirun", "-n", str(processes), sys.executable, "-m", "benchmarks.processes"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main():
    from benchmarks.measure import Figure
    from benchmarks.simulator import crowd

    counts, found = (1, 2), {}
    for _ in range(ROUNDS):
        for processes in counts:
            found.setdefault(processes, []).append(launch(processes))
    seconds = {processes: statistics.median(s for s, _ in runs) for processes, runs in found.items()}
    hashes = {digest for runs in found.values() for _, digest in runs}
    for processes in counts:
        yield Figure("a step of 64 workers", f"p = {processes}", 1e3 * seconds[processes], "ms")
    yield Figure("2 processes against one", "64 workers", seconds[1] / seconds[2], least=1.8)
    yield Figure("different hashes", "64 workers", len(hashes), "", most=1)
    seconds = {steps: next(crowd(CROWD.format(steps=steps))) for steps in (1, 3)}
    yield Figure(
        "a step, when all is set up", "10,000 workers of 8 samples", (seconds[3] - seconds[1]) / 2, "s", most=3
    )
    yield Figure("a run of one step, set-up included", "10,000 workers of 8 samples", seconds[1], "s")


if __name__ == "__main__":
    from dsgd.mpi.launch import guard

    sys.exit(guard(job_main))
