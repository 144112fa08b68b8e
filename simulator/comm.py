"""The communicator in the simulator: each call makes one effect record, hands it to the world, and suspends the rank."""

import sys
from functools import cached_property, lru_cache
from hashlib import blake2b

import numpy as np

from dsgd.collectives import REDUCTIONS
from dsgd.comm import ANY_SOURCE, ANY_TAG, Header, Roles, own_slice, require
from dsgd.costs import Sent, traffic
from dsgd.errors import PeerError
from dsgd.simulator.effects import BufferChanged, Collective, Compute, Receive, Send
from dsgd.simulator.mailbox import Envelope, SimRequest


# A rank sends and receives the same sizes again and again, and an effect is but a value.
send_effect, receive_effect = lru_cache(1 << 16)(Send), lru_cache(1 << 16)(Receive)


class SimComm:
    """See dsgd.comm.Comm.  Effects name world ranks, in a group of some ranks too: trace and reports are about the world.

    Args:
        reduction: "tree", or the name of the schedule in collectives.REDUCTIONS that all-reduces.
        sent: costs.Sent, the count of the communicator that this one is made of.
    """

    def __init__(self, group, rank, roles, reduction="tree", sent=None):
        self.group, self.world, self.rank, self.size = group, group.world, rank, len(group.ranks)
        self.world_rank = group.ranks[rank]
        self.workers, self.servers = roles.workers, roles.servers
        self.worker = roles.number.get(rank)
        self.dtype, self.place = self.world.dtype, group.place
        self.reduction, self._schedule = reduction, None if reduction == "tree" else REDUCTIONS[reduction]
        self._slowness = self.world.faults.slowness(self.world_rank)
        self.sent = sent or Sent()
        self._number = self._replicas = 0
        self._channels = {}  # by receiver
        self._smaller = {(): self}  # communicators without some ranks, by these

    def empty(self, n):
        return np.empty(n, self.dtype)

    def replica(self, n):
        if self.world.check:  # each has its own, so that a rank that writes where it must not has other bits
            return self.empty(n)
        self._replicas += 1
        return self.group.replica(self._replicas, n)

    def copy(self, x):
        return self.world.pool.copy(x)[:]  # a view, so that its base can tell that nobody can write to it

    def clock(self):
        return self.world.kernel.now

    def compute(self, work, step, flops, unless=None, part=1):
        effect, world = Compute(self.world_rank, step, part * flops), self.world
        if world.trace is not None:
            world.note(effect)
        kernel, worker = world.kernel, world.roles.number.get(self.world_rank)
        seconds = world.timing(worker, step, flops)
        done = kernel.now + self._slowness * part * seconds
        if unless:
            return self._compute_unless(unless, work, effect, done)
        if kernel.advance(done):  # nobody has anything to do meanwhile
            return work()
        resume = world.tasks[self.world_rank].resume
        if world.processes is None:
            kernel.at(done, resume, None)
            world.suspend(self.world_rank, effect)
            return work()
        result = (
            work()
        )  # before the clock goes on: it stops at the end of each rank's work, and processes would take turns
        kernel.at(done, resume, None)
        world.suspend(self.world_rank, effect)
        return result

    def _compute_unless(self, request, work, effect, done):
        """Whichever comes first: the end of the work, or the message of the request."""
        if not request.done:
            timer = SimRequest(self, effect)
            self.world.kernel.at(done, timer.finish, None)
            timer.waiter = request.waiter = self.world_rank
            self.world.suspend(self.world_rank, effect)
            timer.waiter = request.waiter = None
        return None if request.done else work()

    # --- point to point

    def isend(self, x, dest, tag=0, header=Header()):
        require(x)
        nbytes, world = x.nbytes, self.world
        channel = self._channels.get(dest) or self._channel(dest)
        effect = send_effect(self.world_rank, channel.receiver, tag, nbytes)
        self.sent.add(1, nbytes)
        if world.trace is not None:
            world.note(effect)
        eager = nbytes <= world.network.eager_limit
        envelope = Envelope(self, effect, world.pool.share(x) if eager else x, header, channel, eager)
        channel.post(envelope)
        if world.check:
            self._guard(envelope, x)
        return envelope

    def _guard(self, envelope, x):
        envelope.guard = (x, _hash(x), self.world.line(sys._getframe()))

    def _channel(self, dest):
        channel = self.group.channel(self.world_rank, self.group.ranks[dest])
        return self._channels.setdefault(dest, channel)

    def send(self, x, dest, tag=0, header=Header()):
        self.isend(x, dest, tag, header).wait()

    def irecv(self, source=ANY_SOURCE, tag=ANY_TAG):
        source = source if source == ANY_SOURCE else self.group.ranks[source]
        effect = receive_effect(self.world_rank, source, tag)
        if self.world.trace is not None:
            self.world.note(effect)
        request, box = SimRequest(self, effect), self.group.boxes[self.rank]
        envelope = box.take(source, tag)
        if envelope:
            envelope.channel.match(envelope, request)
        else:
            box.posted.append(request)
        return request

    def recv(self, source=ANY_SOURCE, tag=ANY_TAG, timeout=None):
        request = self.irecv(source, tag)
        if timeout is not None and not request.done:
            self.world.kernel.at(self.clock() + timeout, self._expire, request, timeout)
        return request.wait()

    def wait_any(self, requests):
        for i, request in enumerate(requests):
            if request.done:
                return i, request.wait()
        for request in requests:
            request.waiter = self.world_rank
        first = self.world.suspend(self.world_rank, requests[0].effect)
        for request in requests:
            request.waiter = None
        return requests.index(first), first.wait()

    def _expire(self, request, timeout):
        posted = self.group.boxes[self.rank].posted
        if request in posted:
            posted.remove(request)
            rank = self.world_rank
            self.world.fail(rank, PeerError(f"rank {rank}: nothing came within {timeout} s in {request.effect}"))

    def verify(self, x, digest, line):
        """Raise if x is not what it was when it was sent."""
        if _hash(x) != digest:
            raise BufferChanged(f"rank {self.world_rank} changed a buffer before its send was done; sent at {line}")

    # --- collectives

    def _announce(self, kind, arrays, root=0, kept=0):
        """The effect of the next collective, which is counted."""
        for x in arrays:
            require(x)
        nbytes = sum(x.nbytes for x in arrays)
        effect = Collective(self.world_rank, kind, self.group.ranks[root], nbytes, self._number)
        self._number += 1
        if self.group.network:
            self.world.note(effect)
            if kind != "split":
                self.sent.add(*traffic(kind, self.rank, self.size, root, nbytes, kept))
        return effect

    def _collective(self, kind, argument, arrays=(), root=0, kept=0):
        effect = self._announce(kind, arrays, root, kept)
        before = _hash(argument) if self.world.check and isinstance(argument, np.ndarray) else None
        result = self.group.meet(self.rank, effect, argument)
        if before and _hash(argument) != before:
            raise BufferChanged(f"the buffer of rank {self.world_rank} changed during {effect}: another rank shares it")
        return result

    def bcast(self, x, root=0):
        return self._collective("bcast", x, [x], root)

    def reduce(self, x, root=0):
        return self._collective("reduce", x, [x], root)

    def allreduce(self, x):
        if self._schedule is None:
            return self._collective("allreduce", x, [x])
        require(x)
        return self._schedule(self._private, x)

    def iallreduce(self, x):
        if self._schedule:
            return self._finished(self.allreduce(x))
        request = SimRequest(self, self._announce("iallreduce", [x]))
        if self.world.check:
            self._guard(request, x)
        self.group.join(self.rank, request.effect, x, request.finish)
        return request

    def _finished(self, result):
        """A request that was done when it was made."""
        request = SimRequest(self, None)
        request.finish(result)
        return request

    @cached_property
    def _private(self):
        """The same ranks with mailboxes of their own, for the messages of an all-reduce."""
        return type(self)(self.group.private, self.rank, Roles(()), sent=self.sent)

    def reduce_scatter(self, x, counts):
        return self._collective("reduce_scatter", (x, tuple(counts)), [x], kept=counts[self.rank] * x.itemsize)

    def gather(self, x, root=0):
        return self._collective("gather", x, [x], root)

    def allgather(self, x):
        return self._collective("allgather", x, [x])

    def allgather_in_place(self, x, counts):
        self._collective("allgather_in_place", (x, tuple(counts)), [own_slice(x, counts, self.rank)])

    def scatter(self, parts, root=0):
        parts = parts if self.rank == root else ()
        return self._collective("scatter", parts, parts, root, kept=parts[root].nbytes if parts else 0)

    def alltoall(self, parts):
        return self._collective("alltoall", parts, parts, kept=parts[self.rank].nbytes)

    def barrier(self):
        self._collective("barrier", None)

    def split(self, color, key=0):
        group, rank = self._collective("split", (color, key))
        return type(self)(group, rank, Roles(tuple(range(len(group.ranks))), ()), self.reduction, self.sent)

    def without(self, ranks):
        if ranks not in self._smaller:
            left = tuple(rank for rank in self.group.ranks if self.group.members[rank] not in ranks)
            group = self.group.of(left)
            self._smaller[ranks] = type(self)(
                group, group.members[self.world_rank], Roles(()), self.reduction, self.sent
            )
        return self._smaller[ranks]

    def give_up(self, rank):
        self.world.given_up.add(self.group.ranks[rank])

    def free(self):
        pass  # memory only: the last reference takes it along


def _hash(x):
    return blake2b(np.ascontiguousarray(x), digest_size=16).digest()
