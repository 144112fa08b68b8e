"""The communicator in the simulator: each call makes one effect record, hands it to the world, and suspends the rank."""

import sys
from hashlib import blake2b

import numpy as np

from dsgd.collectives import traffic
from dsgd.comm import ANY_SOURCE, ANY_TAG, Header, Message, Roles, require
from dsgd.errors import PeerError
from dsgd.simulator.effects import BufferChanged, Collective, Compute, Deliver, Receive, Send
from dsgd.simulator.mailbox import Channel, Envelope, SimRequest, matches


class SimComm:
    """See dsgd.comm.Comm.  Effects name world ranks, in a group of some ranks too: trace and reports are about the world."""

    def __init__(self, group, rank, roles):
        self.group, self.world, self.rank, self.size = group, group.world, rank, len(group.ranks)
        self.world_rank = group.ranks[rank]
        self.workers, self.servers = roles.workers, roles.servers
        self.worker = roles.number.get(rank)
        self.dtype, self.place = self.world.dtype, group.place
        self.messages = self.bytes = 0  # sent, by the written schedules
        self._number = 0
        self._channels = {}  # by receiver

    def empty(self, n):
        return np.empty(n, self.dtype)

    def clock(self):
        return self.world.kernel.now

    def compute(self, work, step, flops):
        effect = Compute(self.world_rank, step, flops)
        self.world.note(effect)
        kernel = self.world.kernel
        done = kernel.now + self.group.network.compute(*effect)
        if not kernel.advance(done):  # others have something to do meanwhile
            kernel.at(done, self.world.resume, self.world_rank, None)
            self.world.suspend(self.world_rank, effect)
        return work()

    # --- point to point

    def isend(self, x, dest, tag=0, header=Header()):
        require(x)
        effect = Send(self.world_rank, self.group.ranks[dest], tag, x.nbytes)
        self.messages, self.bytes = self.messages + 1, self.bytes + effect.nbytes
        world, request = self.world, SimRequest(self, effect)
        if world.trace is not None:
            world.note(effect)
        if world.check:
            request.guard = (x, _hash(x), world.line(sys._getframe()))
        channel = self._channels.get(dest) or self._channels.setdefault(dest, Channel(self.group.boxes[dest]))
        network, kernel, nbytes = self.group.network, world.kernel, effect.nbytes
        eager = nbytes <= network.eager_limit
        envelope = Envelope(effect, world.pool.copy(x) if eager else x, header, None if eager else request)
        arrival = kernel.now + (network.transfer(nbytes) if eager else network.latency)
        if arrival < channel.last:
            arrival = channel.last
        channel.last = arrival
        channel.under_way.append(envelope)
        kernel.at(arrival, self._arrive, channel)
        if eager:
            request.done = True
        return request

    def send(self, x, dest, tag=0, header=Header()):
        self.isend(x, dest, tag, header).wait()

    def irecv(self, source=ANY_SOURCE, tag=ANY_TAG):
        source = source if source == ANY_SOURCE else self.group.ranks[source]
        effect = Receive(self.world_rank, source, tag)
        if self.world.trace is not None:
            self.world.note(effect)
        request, box = SimRequest(self, effect), self.group.boxes[self.rank]
        envelope = box.take(source, tag)
        if envelope:
            self._match(envelope, request)
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

    def _arrive(self, channel):
        envelope, box = channel.under_way.popleft(), channel.box
        for request in box.posted:
            if matches(envelope, request.effect.source, request.effect.tag):
                box.posted.remove(request)
                return self._match(envelope, request)
        box.put(envelope)

    def _match(self, envelope, request):
        """A message meets its receive: it is there, or, over the eager limit, sets out now."""
        if envelope.request is None:
            return self._deliver(envelope, request)
        kernel = self.world.kernel
        kernel.at(kernel.now + self.group.network.transfer(envelope.send.nbytes), self._deliver, envelope, request)

    def _deliver(self, envelope, request):
        send = envelope.send
        if self.world.trace is not None:
            self.world.note(Deliver(send.dest, send.rank, send.tag, send.nbytes))
        data = envelope.data if envelope.request is None else self.world.pool.copy(envelope.data)
        request.finish(Message(data, self.group.members[send.rank], send.tag, envelope.header))
        if envelope.request:
            kernel = self.world.kernel
            kernel.at(kernel.now, envelope.request.finish, None)

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

    def _collective(self, kind, argument, arrays=(), root=0, kept=0):
        for x in arrays:
            require(x)
        nbytes = sum(x.nbytes for x in arrays)
        effect = Collective(self.world_rank, kind, self.group.ranks[root], nbytes, self._number)
        self._number += 1
        if self.group.network:
            self.world.note(effect)
            if kind != "split":
                sent = traffic(kind, self.rank, self.size, root, nbytes, kept)
                self.messages, self.bytes = self.messages + sent.messages, self.bytes + sent.bytes
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
        return self._collective("allreduce", x, [x])

    def reduce_scatter(self, x, counts):
        return self._collective("reduce_scatter", (x, tuple(counts)), [x], kept=counts[self.rank] * x.itemsize)

    def gather(self, x, root=0):
        return self._collective("gather", x, [x], root)

    def allgather(self, x):
        return self._collective("allgather", x, [x])

    def scatter(self, parts, root=0):
        parts = parts if self.rank == root else ()
        return self._collective("scatter", parts, parts, root, kept=parts[root].nbytes if parts else 0)

    def alltoall(self, parts):
        return self._collective("alltoall", parts, parts, kept=parts[self.rank].nbytes)

    def barrier(self):
        self._collective("barrier", None)

    def split(self, color, key=0):
        group, rank = self._collective("split", (color, key))
        return SimComm(group, rank, Roles(tuple(range(len(group.ranks))), ()))

    def free(self):
        pass  # memory only: the last reference takes it along


def _hash(x):
    return blake2b(np.ascontiguousarray(x), digest_size=16).digest()
