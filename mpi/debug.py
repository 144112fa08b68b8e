"""--debug-collectives: before every collective the ranks compare what they are about to call."""

import json
import sys
from functools import cached_property, wraps
from inspect import signature

import numpy as np
from mpi4py import MPI

from dsgd.comm import ALIKE
from dsgd.errors import CollectiveMismatch, user_line
from dsgd.mpi.activity import noting
from dsgd.mpi.comm import MPIComm

BACKEND = ("dsgd.mpi.", "dsgd.collectives", "dsgd.traced")  # modules that no user wrote
COLLECTIVES = ("bcast", "reduce", "allreduce", "reduce_scatter", "gather", "allgather", "scatter", "alltoall")
COLLECTIVES += ("allgather_in_place", "iallreduce", "barrier", "split")


def checked(method):
    """The collective, compared over the ranks before it begins."""
    kind, parameters = method.__name__, signature(method)

    @wraps(method)
    def call(self, *arguments, **options):
        bound = parameters.bind(self, *arguments, **options)
        bound.apply_defaults()
        with noting(kind, self.number + 1):
            self.compare(kind, bound.arguments)
            return method(self, *arguments, **options)

    return call


class CheckedComm(MPIComm):
    """An MPIComm that raises CollectiveMismatch, before any data are sent, where the ranks' calls do not belong together."""

    @cached_property
    def _checks(self):
        return MPIComm(self._world.Dup(), crowded=self.crowded)

    def compare(self, kind, values):
        """Compare a call with those of the other ranks.   values: {parameter: value}"""
        facts = {"rank": MPI.COMM_WORLD.rank, "line": user_line(sys._getframe(), BACKEND)}
        call = f"{kind} {self.number + 1}" + (f", root {values['root']}" if "root" in values else "")
        if kind in ALIKE:
            call += f", shape {getattr(values['x'], 'shape', '?')}, {getattr(values['x'], 'dtype', '?')}"
        if "counts" in values:
            call += f", counts {[int(count) for count in values['counts']]}"
        text = json.dumps(facts | {"call": call}).encode()
        calls = [json.loads(other.tobytes()) for other in self._checks.allgather(np.frombuffer(text, np.uint8))]
        for other in calls:
            if other["call"] != calls[0]["call"]:
                self._refuse(calls[0], other)

    def _refuse(self, first, other):
        error = CollectiveMismatch(
            f"rank {other['rank']} calls {other['call']}, but rank {first['rank']} calls {first['call']}\n"
            + "\n".join(f"  rank {call['rank']}: {call['line']}" for call in (first, other))
        )
        error.agreed = self.size == MPI.COMM_WORLD.size
        if not error.agreed and self.rank:  # the ranks outside do not know: the group's first ends the job for all
            self._checks.barrier()
        raise error

    def free(self):
        if "_checks" in vars(self):
            self._checks.free()
        super().free()


for name in COLLECTIVES:
    setattr(CheckedComm, name, checked(getattr(MPIComm, name)))
