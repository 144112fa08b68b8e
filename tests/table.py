"""Runs a table of configurations, in the simulator or as one rank of an MPI job, and prints their hashes as JSON.

    python tests/table.py '[{"simulate": 4, "algorithm": "dsgd"}, ...]'
    mpirun -n 4 python tests/table.py '[{"algorithm": "dsgd"}, ...]'

One mpirun runs a whole table: a launch costs more than most of its rows.
"""

import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]


def outcome(result):
    """What a row of a table is compared by."""
    summary = result.summary
    shares = [(w["worker"], w["samples"]) for w in summary["samples_per_worker"]]
    pids = len({w["pid"] for w in summary["samples_per_worker"]})
    losses = [row["train_loss"] for row in result.records]
    return {
        "hash": summary["params_sha256"], "losses": losses, "accuracy": summary["test_accuracy"], "shares": shares, "pids": pids,
        "messages": summary["messages_sent"], "bytes": summary["bytes_sent"],
    }


def run_row(row, backend=None):
    """The outcome of one configuration; None on ranks other than 0."""
    import probes
    from dsgd.algorithms import ALGORITHMS
    from dsgd.runner import run

    ALGORITHMS.update(probes.ALGORITHMS)
    result = run(backend=backend, **row)
    return result and outcome(result)


def main():
    from dsgd.mpi.backend import MPIBackend

    backend = MPIBackend()
    rows = [run_row(row, backend) for row in json.loads(sys.argv[1] if sys.argv[1] != "-" else Path(sys.argv[2]).read_text())]
    if backend.main:
        print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    from dsgd.mpi.launch import guard

    sys.exit(guard(main))
