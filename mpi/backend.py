"""MPI as a backend of a run: one rank in each process."""

import json

import numpy as np
from mpi4py import MPI

from dsgd import errors
from dsgd.command import say
from dsgd.errors import DsgdError, UsageError
from dsgd.mpi.activity import ACTIVITY
from dsgd.mpi.clock import common_clock
from dsgd.mpi.comm import MPIComm
from dsgd.mpi.debug import CheckedComm
from dsgd.mpi.late import LateComm
from dsgd.mpi.link import Link
from dsgd.mpi.shared import SharedComm
from dsgd.mpi.waiting import crowded
from dsgd.mpi.watchdog import Watchdog
from dsgd.mpi.window import hosts, open_window
from dsgd.traced import Log, Room, Traced


class MPIBackend:
    """See dsgd.simulator.backend for the other one.  Uses duplicates of COMM_WORLD, never COMM_WORLD itself."""

    name, virtual = "mpi", False

    def __init__(self):
        self._world = MPI.COMM_WORLD
        self.size = self.processes = self._world.size
        self.main = self._world.rank == 0
        host = hosts(self._world)
        self.local_rank = host.rank  # among the processes of this host
        host.Free()
        self._crowded = crowded(self._world)
        self._comm = MPIComm(self._world.Dup(), crowded=self._crowded)

    def watch(self, timeout):
        """with backend.watch(s): the job ends when a rank makes no progress for that long; 0 for never."""
        return Watchdog(self._world.Dup(), timeout)

    def agree(self, action):
        """Run an action that may fail on some ranks: it succeeds on all, or all raise the error of the first that failed."""
        result, text = None, b""
        try:
            result = action()
        except DsgdError as error:
            text = f"{type(error).__name__}:{error}".encode(errors="surrogateescape")  # of a path, perhaps
        for rank, report in enumerate(self._comm.allgather(np.frombuffer(text, np.uint8))):
            if len(report):
                kind, message = report.tobytes().decode(errors="surrogateescape").split(":", 1)
                error = getattr(errors, kind).from_text(message if rank == 0 else f"rank {rank}: {message}")
                error.agreed = True
                raise error
        return result

    def handshake(self, facts, versions):
        """Compare facts over all ranks before the first step, and name what differs; of other versions rank 0 warns."""
        self.agree(lambda: self._compare(self.texts(facts)))
        for rank, theirs in enumerate(self.texts(versions) if self.size > 1 else ()):
            other = [
                f"{what} {theirs[what]} (rank 0: {versions[what]})" for what in theirs if theirs[what] != versions[what]
            ]
            if other and self.main:
                say(f"rank {rank} has {', '.join(other)}: hashes need not agree with those of other runs")

    def texts(self, facts):
        """[the facts of each rank], each what JSON can hold; every rank calls this."""
        return [
            json.loads(text.tobytes())
            for text in self._comm.allgather(np.frombuffer(json.dumps(facts).encode(), np.uint8))
        ]

    def _compare(self, facts):
        for rank, theirs in enumerate(facts):
            for key, value in facts[0].items():
                if theirs.get(key) != value:
                    raise UsageError(
                        f"rank {rank} differs: {key} {theirs.get(key)!r} (rank 0: {value!r}); start every rank with the same flags and files"
                    )

    def share(self, data):
        """Rank 0's bytes, on every process."""
        size = self._comm.bcast(np.array([len(data)], np.int64))
        buffer = np.zeros(int(size[0]), np.uint8)
        if self.main:
            buffer[:] = np.frombuffer(data, np.uint8)
        return self._comm.bcast(buffer).tobytes()

    def link(self):
        """What joins processes that share out simulated ranks."""
        return Link(self._world.Dup(), self._crowded)

    def close(self):
        """Give the communicator back; every rank calls this."""
        self._comm.free()

    def run(self, main, *, roles, dtype, start, reduction, faults, debug, trace, packet):
        """main(comm, observer) on this rank; rank 0's result on rank 0, None elsewhere.

        packet: elements of what all ranks sum in the written order, step by step; 0 if they sum otherwise
        """
        window = open_window(self._world, packet, dtype, self._crowded) if packet else None
        kind = communicator(faults, self._world.rank, debug, trace, SharedComm if window else MPIComm)
        comm = kind(self._world.Dup(), roles, dtype, reduction, crowded=self._crowded)
        if window:
            comm.share(window)
        observer = MPIComm(self._world.Dup(), roles, dtype, crowded=self._crowded)
        if trace:
            clock, self.clock_error = common_clock(self._comm)
            comm.note_to(Log(clock, Room()))
        result = main(comm, observer)
        comm.free()  # not when a rank failed: this waits for all of them
        observer.free()
        ACTIVITY.over = True
        return result


def communicator(faults, rank, debug, trace, plain=MPIComm):
    """The class of the algorithm's communicator: `plain`, and only if they are asked for notes, checks and faults."""
    slowness, lateness = faults.slowness(rank), faults.delay(rank)
    kinds = (Traced,) * trace + (CheckedComm,) * debug + (LateComm,) * (slowness > 1 or lateness > 0)
    return type("Comm", (*kinds, plain), {"slowness": slowness, "lateness": lateness}) if kinds else plain
