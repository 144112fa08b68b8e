"""The guard around a process of an MPI job: MPI first, then everything else, and no rank fails alone.

MPI must be imported before NumPy and before anything that can raise: a rank that ends with an exception before
MPI_Init leaves the others waiting for ever under MPICH.
"""

import os
import sys
import time
import traceback
import warnings

from dsgd.command import say

# What launchers tell their processes: (number of ranks, this rank).  SLURM's are those of the step, not of the job; a
# step of one is an interactive shell.
LAUNCHERS = {
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "PMI_SIZE": "PMI_RANK",
    "PALS_SIZE": "PALS_RANKID",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}


def launched():
    """(size, rank) that the launcher's environment speaks of; (0, 0) without a launcher."""
    for size, rank in LAUNCHERS.items():
        if os.environ.get(size, "").isdigit() and not (size.startswith("SLURM") and os.environ[size] == "1"):
            return int(os.environ[size]), int(os.environ.get(rank, 0) or 0)
    return 0, 0


def guard(main):
    """Run main() as one rank; returns the exit code.  Any failure ends the whole job, with one message."""
    size, rank = launched()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mpi4py's about a foreign launcher: below, rank 0 says it once
            from mpi4py import MPI
    except Exception as error:
        _die_before_mpi(error, rank)
    world = MPI.COMM_WORLD
    try:
        if size > 1 and world.size == 1:
            if rank == 0:
                say(
                    f"the launcher started {size} processes, but MPI sees each of them alone: the launcher and the MPI library do not "
                    f"belong together ({MPI.Get_library_version().split(chr(10))[0].strip()}); use that library's own mpirun"
                )
            return 2
        return main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            say(error.code)
    except KeyboardInterrupt:
        code = 130
        if world.rank == 0:
            say("interrupted; --resume goes on from the last checkpoint, if there is one")
    except BaseException as error:
        code = getattr(error, "code", 70)
        if getattr(error, "agreed", False):
            if world.rank == 0:
                say(str(error))
            return code
        if hasattr(error, "agreed"):
            say(f"[rank {world.rank}] {error}")
        else:
            text = "".join(traceback.format_exception(error))
            sys.stderr.write("".join(f"[rank {world.rank}] {line}\n" for line in text.splitlines()))
    if code and world.size > 1:
        abort(code)
    return code


def abort(code):
    """End the whole job.  A launcher may drop what it has not read yet: it gets a moment for the message."""
    from mpi4py import MPI

    sys.stderr.flush()
    time.sleep(0.1)
    MPI.COMM_WORLD.Abort(code)


def _die_before_mpi(error, rank):
    """Without MPI a rank cannot tell the others: only a death by signal makes every launcher end the job."""
    if rank:
        time.sleep(0.5)  # rank 0 speaks for all; if it is well, this rank speaks for itself
    say(
        f"[rank {rank}] cannot use MPI ({error}); pip install 'dsgd[mpich]', or run without mpirun: python -m dsgd.train --simulate 4"
    )
    os.abort()
