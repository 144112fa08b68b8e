"""Runs a table of configurations, in the simulator or as one rank of an MPI job, and prints their outcomes as JSON.

    python tests/table.py '[{"simulate": 4, "algorithm": "dsgd"}, ...]'
    mpirun -n 4 python tests/table.py '[{"algorithm": "dsgd"}, ...]'

One mpirun runs a whole table: a launch costs more than most of its rows.  A row has the fields of Config, and may have
"resume_at": k, for a run that a signal stops in step k and that is then resumed; it needs an "output" folder.
With "timed": true the virtual seconds belong to the outcome.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

TIMES = ("time", "virtual_time")


def timeless(records):
    """Records without what a clock put into them."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in records]


def outcome(result):
    """What a row of a table is compared by; as JSON, floats keep every bit."""
    summary = result.summary
    return {
        "hash": summary["params_sha256"],
        "records": timeless(result.records),
        "steps": summary["steps"],
        "epochs": summary["epochs"],
        "train_loss": summary["train_loss"],
        "test_loss": summary["test_loss"],
        "accuracy": summary["test_accuracy"],
        "shares": [[w["worker"], w["samples"]] for w in summary["samples_per_worker"]],
        "pids": len({w["pid"] for w in summary["samples_per_worker"]}),
        "messages": summary["messages_sent"],
        "bytes": summary["bytes_sent"],
    }


@contextmanager
def stop_wished_in(step):
    """Every worker wishes to stop in this step (numbered from 1), as after a signal."""
    from dsgd.local import Local
    from dsgd.state import STOP

    sign = Local.sign

    def sign_and_wish(self, packet, g, t, *rest):
        sign(self, packet, g, t, *rest)
        packet[STOP] = t + 1 == step
        return packet

    with patch.object(Local, "sign", sign_and_wish):
        yield


def run_row(row, backend=None):
    """The outcome of one configuration; None on ranks other than 0."""
    import probes
    from dsgd.algorithms import ALGORITHMS
    from dsgd.runner import run

    row = dict(row)
    resume_at, timed = row.pop("resume_at", None), row.pop("timed", False)
    with patch.dict(ALGORITHMS, probes.ALGORITHMS):
        if resume_at:
            with stop_wished_in(resume_at):
                stopped = run(backend=backend, **row)
            late = "consistency" in row["algorithm"]  # its workers are not all in this step
            steps = stopped.summary["steps"] if stopped else resume_at
            assert steps == resume_at or late and 0 < steps < row["steps"], stopped.summary
            row["resume"] = True
        result = run(backend=backend, **row)
    times = {"virtual_seconds": result.summary["virtual_seconds"]} if result and timed else {}
    return result and outcome(result) | times


def main():
    from dsgd.mpi.backend import MPIBackend

    backend = MPIBackend()
    rows = [
        run_row(row, backend)
        for row in json.loads(sys.argv[1] if sys.argv[1] != "-" else Path(sys.argv[2]).read_text())
    ]
    if backend.main:
        print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    from dsgd.mpi.launch import guard, launched

    if launched()[0]:
        sys.exit(guard(main))
    print(json.dumps([run_row(row) for row in json.loads(sys.argv[1])]))
