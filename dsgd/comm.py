"""The communicator: all that an algorithm may know of the world.  Names and meaning are mpi4py's.

One array is one message: (n,), contiguous, of one of DTYPES, with a header of four integers.  What a call
returns is read-only and may be one array for all ranks: copy it to change it.  A sent buffer belongs to the backend
until the call, or the request's `wait()`, returns.  Every rank calls the collectives in the same order.
`dsgd.simulator.comm.SimComm` and `dsgd.mpi.comm.MPIComm` implement this page and pass one contract suite.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

ANY_SOURCE = -1
ANY_TAG = -1
DTYPES = tuple(map(np.dtype, ("float32", "float64", "uint8", "int64")))  # what may travel; a message names it by number
TRAVELLERS = frozenset(DTYPES)
# These take one length and one dtype on all ranks.
ALIKE = ("bcast", "reduce", "allreduce", "iallreduce", "reduce_scatter", "allgather_in_place")


def require(x):
    """Raise unless x may travel.  Both backends ask before every array, or a program could be right in one only."""
    if isinstance(x, np.ndarray):
        if x.ndim == 1 and x.flags.c_contiguous and x.dtype in TRAVELLERS:
            return
    elif hasattr(x, "__cuda_array_interface__"):  # an MPI that knows nothing of cards would read it as host memory
        raise TypeError(
            f"an array {x.shape} on a card may not be sent: wrap the communicator, staging.Staged(comm, xp)"
        )
    else:
        raise TypeError(f"only arrays (n,) may be sent, not a {type(x).__name__}")
    if x.dtype not in TRAVELLERS:
        raise TypeError(f"only arrays of {', '.join(map(str, DTYPES))} may be sent, not of {x.dtype}")
    raise ValueError(f"only contiguous arrays (n,) may be sent, not one of shape {x.shape} and strides {x.strides}")


def own_slice(x, counts, rank):
    """A rank's slice of x, which is cut into slices of counts[0], counts[1], … elements."""
    lo = sum(counts[:rank])
    return x[lo : lo + counts[rank]]


class Header(NamedTuple):
    """Four integers that arrive with a message: what staleness, deduplication and replay need."""

    version: int = 0  # of the parameters concerned
    step: int = 0
    push: int = 0  # the sender's number of this push
    range: int = 0  # which part of the vector


class Message(NamedTuple):
    data: object  # (n,) array, read-only
    source: int
    tag: int
    header: Header


@dataclass(frozen=True)
class Roles:
    """Who does what.  Shards, trees and random numbers go by worker number (the place in `workers`), never by rank."""

    workers: tuple  # ranks that hold a share of the data, in the order of their numbers
    owners: tuple = ()  # (rank, lo, hi): whose x counts, range by range
    servers: tuple = ()  # ranks that serve
    synchronous: bool = True
    pushes: int = 0  # gradients of workers that one update averages; 0 for those of all workers
    owners_step: bool = True  # whether the optimizer's steps are made by the owners of x, and not by the workers
    every: int = 1  # steps of a worker from one pull to its next: whole numbers of them make a run
    spare: bool = False  # whether the run goes on without a worker that is silent

    @cached_property
    def number(self):
        """{rank: worker number}"""
        return {rank: worker for worker, rank in enumerate(self.workers)}

    @cached_property
    def owned(self):
        """{rank: (lo, hi)}, its range of x"""
        return {rank: (lo, hi) for rank, lo, hi in self.owners}


class Request(Protocol):
    def wait(self):
        """Block until it is done; the Message of an irecv, None for an isend."""


class Comm(Protocol):
    rank: int
    size: int
    workers: tuple  # ranks of the workers
    worker: int | None  # this rank's worker number; None on a rank that only serves
    servers: tuple
    dtype: object  # the run's
    reduction: str  # how allreduce sums: "tree", "native" (under MPI), or a name in collectives.REDUCTIONS
    sent: object  # costs.Sent: messages and bytes, by the written schedules, over this communicator and those split from it
    place: tuple  # rank -> the process that hosts it: under MPI the identity, as one process hosts one rank

    def empty(self, n):
        """(n,) memory for messages, which the backend may share, pin or register."""

    def replica(self, n):
        """(n,) memory for a vector that all ranks hold alike, which the backend may keep once for the ranks of a host.

        Every rank calls this.  A rank writes to its own slice alone, after a collective that shows that all have read the
        last values and before the allgather_in_place that hands out the new ones; at the start all may write the same.
        """

    def copy(self, x):
        """A read-only copy of x (n,), which may be sent to many: messages of it are not copied again."""

    def send(self, x, dest, tag=0, header=Header()):
        """Send x (n,).  May wait for the receive: two ranks that both send first can hang."""

    def recv(self, source=ANY_SOURCE, tag=ANY_TAG, timeout=None):
        """The next matching Message; messages of one sender arrive in order.  PeerError after `timeout` seconds."""

    def isend(self, x, dest, tag=0, header=Header()):
        """Start a send; x must not change until the request's wait() returns."""

    def irecv(self, source=ANY_SOURCE, tag=ANY_TAG):
        """Start a receive; a message goes to the first one started that it matches, whichever is waited for first.

        Under MPI messages come in during the calls of this section: a sender may wait for a rank in a collective.
        """

    def wait_any(self, requests):
        """(i, result) of the first request that is done."""

    def bcast(self, x, root=0):
        """root's x (n,); the others pass an array of the same length, whose values are ignored."""

    def reduce(self, x, root=0):
        """Σ x (n,) over the ranks, in the written order, at root; None elsewhere."""

    def allreduce(self, x):
        """Σ x (n,) over the ranks, with the same bits on every rank.

        In the written order ((0+1)+(2+3))+…, unless the communicator was made with another `reduction`, whose schedule
        then sends its messages apart from the program's; they are counted here.
        """

    def iallreduce(self, x):
        """Start an allreduce; x must not change until the request's wait(), which returns the sum.

        Several may be under way; they are started in the same order on every rank, and so are other collectives meanwhile.
        A communicator whose `reduction` is not "tree" is done with each when it returns, and so is a network with faults.
        """

    def reduce_scatter(self, x, counts):
        """Rank i's slice, of counts[i] elements, of Σ x; the sum is in the written order."""

    def gather(self, x, root=0):
        """[x of rank 0, x of rank 1, ...], lengths may differ, at root; None elsewhere."""

    def allgather(self, x):
        """[x of rank 0, x of rank 1, ...] on every rank; lengths may differ."""

    def allgather_in_place(self, x, counts):
        """Fill in the others' slices of x (Σ counts,), of which rank r has written its own, r's counts[r] elements."""

    def scatter(self, parts, root=0):
        """parts[rank] of root's list of arrays; the others pass None."""

    def alltoall(self, parts):
        """[what rank 0 had for this rank, ...]: parts[j] goes to rank j; lengths may differ."""

    def barrier(self):
        """Wait for all ranks."""

    def split(self, color, key=0):
        """The communicator of the ranks with this color, ordered by (key, rank); it all-reduces as this one does."""

    def without(self, ranks):
        """The communicator of the others, who all call this; these do not, and were given up.  Itself without nobody."""

    def give_up(self, rank):
        """This rank is silent: nobody waits for it any more, nor for its end."""

    def free(self):
        """Give the communicator back, and what was split off it: nobody uses them any more.  Every rank calls this."""

    def compute(self, work, step, flops, unless=None, part=1):
        """Call work() and return its result: under MPI that is all; the simulator charges its virtual time for it.

        flops: of a whole gradient, of which the work is this `part`.
        unless: an irecv; in the simulator the work is abandoned, and None returned, once its message is there.
        """

    def clock(self):
        """Seconds: virtual in the simulator, since the start under MPI."""
