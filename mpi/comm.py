"""The communicator over mpi4py, buffer calls only: its collectives; for its messages see messages.py."""

from functools import cached_property

import numpy as np
from mpi4py import MPI

from dsgd.arrays import readonly
from dsgd.collectives import REDUCTIONS, binomial_bcast, binomial_reduce, tree_steps, tree_sum
from dsgd.comm import DTYPES, own_slice, require
from dsgd.costs import traffic
from dsgd.mpi.activity import ACTIVITY, noted
from dsgd.mpi.background import Background
from dsgd.mpi.messages import Messages
from dsgd.mpi.requests import Done


class MPIComm(Messages):
    """See dsgd.comm.Comm.

    Args:
        world: an mpi4py communicator of this object's own.  roles: comm.Roles.
        reduction: "tree", the written order; "native", the library's; or the name of the schedule in
            collectives.REDUCTIONS that all-reduces.
        sent: costs.Sent, the count of the communicator that this one is made of.
        crowded: whether ranks outnumber cores, so that a rank should sleep while it waits for others.
    """

    def __init__(self, world, roles=None, dtype=np.float64, reduction="tree", sent=None, crowded=False):
        super().__init__(world, roles, dtype, sent, crowded)
        self.reduction, self._native = reduction, reduction == "native"
        self._schedule = None if reduction in ("tree", "native") else REDUCTIONS[reduction]
        self.number = -1  # of the last collective, from 0
        self._smaller = {(): self}  # communicators without some ranks, by these
        self._parts = []  # communicators that were split off, and live as long as this one at most

    def _count(self, kind, arrays, root=0, kept=0):
        for x in arrays:
            require(x)
        self.sent.add(*traffic(kind, self.rank, self.size, root, sum(x.nbytes for x in arrays), kept))

    @noted
    def bcast(self, x, root=0):
        self._count("bcast", [x], root)
        out = self._pool.take(x.shape[0], x.dtype)
        if self.rank == root:
            out[:] = x
        return self._bcast(out, root)

    def _bcast(self, out, root):
        if self.crowded:
            return binomial_bcast(self._quiet, out, root)
        if self.size > 1:
            self._world.Bcast(out.view(np.uint8), root)
        return readonly(out)

    @cached_property
    def _quiet(self):
        """For the collectives of crowded ranks, made of messages, which wait without a core; they are counted as they are."""
        return MPIComm(self._world.Dup(), None, self.dtype, crowded=True)

    @cached_property
    def _tree(self):
        """For the messages of the sum: on `_world` a receive could take them for those of the program, and they those."""
        return self._world.Dup()

    @noted
    def reduce(self, x, root=0):
        self._count("reduce", [x], root)
        return self._reduce(x, root)

    def _reduce(self, x, root):
        """Up the tree to rank 0, and from there to root: the order of the sum does not depend on the root."""
        if self._native:
            out = self._pool.take(x.shape[0], x.dtype) if self.rank == root else None
            self._world.Reduce(x, out, root=root)
            return out if out is None else readonly(out)
        if self.crowded:
            return binomial_reduce(self._quiet, x, root)
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
        return type(self)(self._world.Dup(), None, self.dtype, sent=self.sent, crowded=self.crowded)

    @noted
    def allreduce(self, x):
        if self._schedule:
            require(x)
            return self._schedule(self._private, x)
        self._count("allreduce", [x])
        return self._allreduce(x)

    def _allreduce(self, x):
        if self._native:
            out = self._pool.take(x.shape[0], x.dtype)
            self._world.Allreduce(x, out)
            return readonly(out)
        total = self._reduce(x, 0)
        if self.size == 1:
            return total
        return self._bcast(self._pool.take(x.shape[0], x.dtype) if total is None else total.base, 0)

    @noted
    def iallreduce(self, x):
        if self.size == 1 or self.reduction != "tree" or MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            return Done(self.allreduce(x))
        self._count("iallreduce", [x])
        return self._background.start(x, self.number)

    @cached_property
    def _background(self):
        """Made by the first iallreduce, which so waits for all ranks."""
        return Background(self._world.Dup(), self.place)

    @noted
    def reduce_scatter(self, x, counts):
        self._count("reduce_scatter", [x], kept=counts[self.rank] * x.itemsize)
        return self._reduce_scatter(x, counts)

    def _reduce_scatter(self, x, counts):
        ends = np.cumsum(counts)
        cut = [x[end - count : end] for end, count in zip(ends, counts)]
        parts = self._exchange(cut, [counts[self.rank]] * self.size)
        return readonly(tree_sum(parts, self._pool.take(counts[self.rank], x.dtype)))

    @noted
    def gather(self, x, root=0):
        self._count("gather", [x], root)
        counts = self._counts(x.nbytes)
        out = [np.empty(sum(counts), np.uint8), counts] if self.rank == root else None
        self._world.Gatherv(x.view(np.uint8), out, root)
        return self._cut(*out, x.dtype) if out else None

    @noted
    def allgather(self, x):
        self._count("allgather", [x])
        counts = self._counts(x.nbytes)
        out = np.empty(sum(counts), np.uint8)
        self._world.Allgatherv(x.view(np.uint8), [out, counts])
        return self._cut(out, counts, x.dtype)

    @noted
    def allgather_in_place(self, x, counts):
        self._count("allgather_in_place", [own_slice(x, counts, self.rank)])
        self._allgather_in_place(x, counts)

    def _allgather_in_place(self, x, counts):
        self._world.Allgatherv(MPI.IN_PLACE, [x.view(np.uint8), [count * x.itemsize for count in counts]])

    @noted
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

    @noted
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

    @noted
    def barrier(self):
        self._count("barrier", ())
        self._world.Barrier()

    @noted
    def split(self, color, key=0):
        part = type(self)(self._world.Split(color, key), None, self.dtype, self.reduction, self.sent, self.crowded)
        self._parts.append(part)
        return part

    def without(self, ranks):
        if ranks not in self._smaller:
            group = self._world.Get_group().Excl([self.place[rank] for rank in ranks])
            left = self._world.Create_group(group)  # what only these call
            self._smaller[ranks] = type(self)(left, None, self.dtype, self.reduction, self.sent, self.crowded)
            ACTIVITY.lost.update(ranks)
        return self._smaller[ranks]

    def give_up(self, rank):
        ACTIVITY.lost.add(rank)

    def free(self):
        """Give the communicators back, with what was split off this one; every rank calls this."""
        if self._world == MPI.COMM_NULL or ACTIVITY.lost:  # given back already, or not all ranks will come here
            return
        for part in self._parts:
            part.free()
        for made in ("_private", "_quiet", "_background"):  # these and the tree's are there once something was summed
            if made in vars(self):
                vars(self)[made].free()
        if "_tree" in vars(self):
            self._tree.Free()
        if self.crowded:
            self._data.Free()
        self._world.Free()
