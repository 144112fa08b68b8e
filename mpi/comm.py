"""The communicator over mpi4py, buffer calls only.

A message travels as bytes: five integers (the header and the dtype), then the data, in one MPI message.
"""

import time
from functools import cached_property

import numpy as np
from mpi4py import MPI

from dsgd.arrays import readonly
from dsgd.collectives import REDUCTIONS, tree_steps, tree_sum
from dsgd.comm import ANY_SOURCE, ANY_TAG, DTYPES, Header, Message, Roles, require
from dsgd.costs import Sent, traffic
from dsgd.errors import PeerError
from dsgd.mpi.requests import RecvRequest, SendRequest, poll
from dsgd.pool import Pool

HEADER = 64  # bytes in front of the data, which stays aligned
WORDS = HEADER // 8


class MPIComm:
    """See dsgd.comm.Comm.

    Args:
        world: an mpi4py communicator of this object's own.  roles: comm.Roles.
        reduction: "tree", the written order; "native", the library's; or the name of the schedule in
            collectives.REDUCTIONS that all-reduces.
        sent: costs.Sent, the count of the communicator that this one is made of.
    """

    def __init__(self, world, roles=None, dtype=np.float64, reduction="tree", sent=None):
        self._world, self.rank, self.size = world, world.rank, world.size
        roles = roles or Roles(tuple(range(self.size)), ())
        self.workers, self.servers = roles.workers, roles.servers
        self.worker = roles.number.get(self.rank)
        self.place = tuple(range(self.size))
        self.dtype, self.reduction, self._native = np.dtype(dtype), reduction, reduction == "native"
        self._schedule = None if reduction in ("tree", "native") else REDUCTIONS[reduction]
        self.sent = sent or Sent()
        self.posted = []  # receives without their message, in the order in which they were started
        self._unclaimed = []  # messages that came before their receive was posted, in order
        self._pool = Pool(np.empty)
        self._began = MPI.Wtime()
        self._parts = []  # communicators that were split off, and live as long as this one at most

    def empty(self, n):
        return np.empty(n, self.dtype)

    def clock(self):
        return MPI.Wtime() - self._began

    def compute(self, work, step, flops):
        return work()

    # --- point to point

    def isend(self, x, dest, tag=0, header=Header()):
        require(x)
        self.sent.add(1, x.nbytes)
        words = np.zeros(WORDS, np.int64)
        words[:4], words[4] = header, DTYPES.index(x.dtype)
        if not x.nbytes:
            return SendRequest(self, self._world.Isend([words, MPI.INT64_T], self.place[dest], tag), words)
        pieces = MPI.BYTE.Create_hindexed([HEADER, x.nbytes], [MPI.Get_address(words), MPI.Get_address(x)]).Commit()
        request = self._world.Isend([MPI.BOTTOM, 1, pieces], self.place[dest], tag)
        pieces.Free()  # MPI keeps it until the send is done
        return SendRequest(self, request, words, x)

    def send(self, x, dest, tag=0, header=Header()):
        self.isend(x, dest, tag, header).wait()

    def recv(self, source=ANY_SOURCE, tag=ANY_TAG, timeout=None):
        request = self.irecv(source, tag)
        if timeout is None or poll(request.test, time.monotonic() + timeout):
            return request.wait()
        self.posted.remove(request)
        peer = "anyone" if source == ANY_SOURCE else f"rank {source}"
        raise PeerError(f"rank {self.rank}: nothing came within {timeout} s from {peer}")

    def irecv(self, source=ANY_SOURCE, tag=ANY_TAG):
        request = RecvRequest(self, source, tag)
        for i, message in enumerate(self._unclaimed):
            if request.matches(message):
                request.message = self._unclaimed.pop(i)
                return request
        self.posted.append(request)
        return request

    def wait_any(self, requests):
        poll(lambda: any(request.test() for request in requests))
        i = next(i for i, request in enumerate(requests) if request.test())
        return i, requests[i].wait()

    def progress(self, wait=False):
        """Take one message off the network for the receives that are posted, if there is one or once there is.

        A receive on its own probes for its messages and leaves the others with their senders.  Among several, the
        order in which all messages come decides who gets which, so all are taken, and kept if nobody claims them.
        """
        first, *others = self.posted
        source = MPI.ANY_SOURCE if others or first.source == ANY_SOURCE else self.place[first.source]
        tag = MPI.ANY_TAG if others or first.tag == ANY_TAG else first.tag
        found = (self._world.Mprobe if wait else self._world.Improbe)(source, tag, status := MPI.Status())
        if found is None:
            return
        message = self._receive(found, status)
        for request in self.posted:
            if request.matches(message):
                request.message = message
                return self.posted.remove(request)
        self._unclaimed.append(message)

    def _receive(self, found, status):
        buffer = self._pool.take(status.Get_count(MPI.BYTE), np.dtype(np.uint8))
        found.Recv([buffer, MPI.BYTE], status)
        words = buffer[:HEADER].view(np.int64)
        data, source = readonly(buffer[HEADER:].view(DTYPES[words[4]])), self.place.index(status.Get_source())
        return Message(data, source, status.Get_tag(), Header(*map(int, words[:4])))

    # --- collectives

    def _count(self, kind, arrays, root=0, kept=0):
        for x in arrays:
            require(x)
        self.sent.add(*traffic(kind, self.rank, self.size, root, sum(x.nbytes for x in arrays), kept))

    def bcast(self, x, root=0):
        self._count("bcast", [x], root)
        out = self._pool.take(x.shape[0], x.dtype)
        if self.rank == root:
            out[:] = x
        return self._bcast(out, root)

    def _bcast(self, out, root):
        if self.size > 1:
            self._world.Bcast(out.view(np.uint8), root)
        return readonly(out)

    @cached_property
    def _tree(self):
        """For the messages of the sum: on `_world` a receive could take them for those of the program, and they those."""
        return self._world.Dup()

    def reduce(self, x, root=0):
        self._count("reduce", [x], root)
        return self._reduce(x, root)

    def _reduce(self, x, root):
        """Up the tree to rank 0, and from there to root: the order of the sum does not depend on the root."""
        if self._native:
            out = self._pool.take(x.shape[0], x.dtype) if self.rank == root else None
            self._world.Reduce(x, out, root=root)
            return out if out is None else readonly(out)
        out, total = None, x
        for act, peer in tree_steps(self.rank, self.size):
            if act == "send":
                self._tree.Send(total, self.place[peer])
            else:
                out = self._pool.take(x.shape[0], x.dtype) if out is None else out
                other = self._pool.take(x.shape[0], x.dtype)
                self._tree.Recv(other, self.place[peer])
                total = np.add(total, other, out=out)
        if root:
            if self.rank == 0:
                self._tree.Send(total, self.place[root])
            elif self.rank == root:
                total = self._pool.take(x.shape[0], x.dtype)
                self._tree.Recv(total, self.place[0])
        if self.rank != root:
            return None
        return readonly(total) if total is not x else self._pool.copy(x)

    @cached_property
    def _private(self):
        """The same ranks, for the messages of a schedule."""
        return MPIComm(self._world.Dup(), None, self.dtype, sent=self.sent)

    def allreduce(self, x):
        if self._schedule:
            require(x)
            return self._schedule(self._private, x)
        self._count("allreduce", [x])
        if self._native:
            out = self._pool.take(x.shape[0], x.dtype)
            self._world.Allreduce(x, out)
            return readonly(out)
        total = self._reduce(x, 0)
        if self.size == 1:
            return total
        return self._bcast(self._pool.take(x.shape[0], x.dtype) if total is None else total.base, 0)

    def reduce_scatter(self, x, counts):
        self._count("reduce_scatter", [x], kept=counts[self.rank] * x.itemsize)
        ends = np.cumsum(counts)
        cut = [x[end - count : end] for end, count in zip(ends, counts)]
        parts = self._exchange(cut, [counts[self.rank]] * self.size)
        return readonly(tree_sum(parts, self._pool.take(counts[self.rank], x.dtype)))

    def gather(self, x, root=0):
        self._count("gather", [x], root)
        counts = self._counts(x.nbytes)
        out = [np.empty(sum(counts), np.uint8), counts] if self.rank == root else None
        self._world.Gatherv(x.view(np.uint8), out, root)
        return self._cut(*out, x.dtype) if out else None

    def allgather(self, x):
        self._count("allgather", [x])
        counts = self._counts(x.nbytes)
        out = np.empty(sum(counts), np.uint8)
        self._world.Allgatherv(x.view(np.uint8), [out, counts])
        return self._cut(out, counts, x.dtype)

    def scatter(self, parts, root=0):
        parts = parts if self.rank == root else ()
        self._count("scatter", parts, root, kept=parts[root].nbytes if parts else 0)
        lengths, out = np.zeros((self.size, 2), np.int64), None
        if self.rank == root:
            lengths[:] = [(part.shape[0], DTYPES.index(part.dtype)) for part in parts]
        self._world.Bcast(lengths, root)
        mine = np.empty(lengths[self.rank, 0], DTYPES[lengths[self.rank, 1]])
        if self.rank == root:
            out = [np.concatenate([part.view(np.uint8) for part in parts]), [part.nbytes for part in parts]]
        self._world.Scatterv(out, mine.view(np.uint8), root)
        return readonly(mine)

    def alltoall(self, parts):
        self._count("alltoall", parts, kept=parts[self.rank].nbytes)
        lengths = np.array([part.shape[0] for part in parts], np.int64)
        coming = np.empty_like(lengths)
        self._world.Alltoall(lengths, coming)
        return self._exchange(parts, [int(length) for length in coming])

    def _exchange(self, parts, coming):
        """[what each rank had for this one], with `coming` elements each."""
        dtype = parts[0].dtype
        out, sizes = np.concatenate(parts).view(np.uint8), [part.nbytes for part in parts]
        counts = [length * dtype.itemsize for length in coming]
        buffer = self._pool.take(sum(counts), np.dtype(np.uint8))
        self._world.Alltoallv([out, sizes], [buffer, counts])
        return self._cut(buffer, counts, dtype)

    def _counts(self, nbytes):
        counts = np.empty(self.size, np.int64)
        self._world.Allgather(np.array([nbytes], np.int64), counts)
        return counts.tolist()

    def _cut(self, buffer, counts, dtype):
        ends = np.cumsum(counts)
        return [readonly(buffer[end - count : end].view(dtype)) for end, count in zip(ends, counts)]

    def barrier(self):
        self._count("barrier", ())
        self._world.Barrier()

    def split(self, color, key=0):
        part = MPIComm(self._world.Split(color, key), None, self.dtype, self.reduction, self.sent)
        self._parts.append(part)
        return part

    def free(self):
        """Give the communicators back, with what was split off this one; every rank calls this."""
        if self._world == MPI.COMM_NULL:  # given back already
            return
        for part in self._parts:
            part.free()
        if "_private" in vars(self):  # these two are there once something was summed
            self._private.free()
        if "_tree" in vars(self):
            self._tree.Free()
        self._world.Free()
