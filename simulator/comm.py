"""The communicator in the simulator: each call makes one effect record, hands it to the world, and suspends the rank."""

import sys
from collections import deque
from hashlib import blake2b

import numpy as np

from dsgd.arrays import readonly
from dsgd.collectives import traffic, tree_sum
from dsgd.comm import ANY_SOURCE, ANY_TAG, Header, Message, Roles
from dsgd.errors import PeerError
from dsgd.simulator.effects import BufferChanged, Collective, CollectiveMismatch, Compute, Deliver, Receive, Send


class Group:
    """What the members of one communicator share: their mailboxes and the collective they are meeting in.

    network is None for observers, whose calls take no time and leave no trace.
    """

    def __init__(self, world, ranks, network):
        self.world, self.ranks, self.network = world, ranks, network
        self.boxes = [Mailbox() for _ in ranks]
        self.arrivals = {}  # member -> (effect, argument) of the collective under way
        self.last_arrival = {}  # (source, dest) -> time: messages between two ranks do not overtake each other,
        self.under_way = {}  # (source, dest) -> envelopes, in order: also when they arrive at one time, in shuffled order

    def meet(self, member, effect, argument):
        """A member arrives at a collective; the last one completes it for all."""
        world = self.world
        if len(self.ranks) == 1:  # nobody to wait for
            return COLLECTIVES[effect.kind](self, [argument], effect.root)[0]
        if self.arrivals:
            self._compare(next(iter(self.arrivals.values()))[0], effect)
        self.arrivals[member] = (effect, argument)
        if len(self.arrivals) == len(self.ranks):
            arrivals, self.arrivals = self.arrivals, {}
            effects, arguments = zip(*(arrivals[m] for m in range(len(self.ranks))))
            results = COLLECTIVES[effect.kind](self, arguments, effect.root)
            delay = self.network.collective(effect.kind, len(self.ranks), max(e.nbytes for e in effects)) if self.network else 0
            for rank, result in zip(self.ranks, results):
                world.kernel.at(world.kernel.now + delay, world.resume, rank, result)
        return world.suspend(self.ranks[member], effect)

    def _compare(self, first, effect):
        same_length = effect.kind not in ("reduce", "allreduce", "bcast", "reduce_scatter") or effect.nbytes == first.nbytes
        if (effect.kind, effect.root, effect.number) == (first.kind, first.root, first.number) and same_length:
            return
        world = self.world
        raise CollectiveMismatch(
            f"rank {effect.rank} calls {effect}, but rank {first.rank} waits in {first}\n"
            f"  rank {effect.rank}: {world.line(sys._getframe())}\n  rank {first.rank}: {world.line(world.tasks[first.rank].frame)}"
        )


def _same(group, result):
    return [result] * len(group.ranks)


def _only(group, root, result):
    return [result if member == root else None for member in range(len(group.ranks))]


def _sum(group, parts, root=0):
    out = group.world.pool.take(len(parts[0]), parts[0].dtype)
    return readonly(tree_sum(parts, out))


def _copies(group, parts):
    return [group.world.pool.copy(part) for part in parts]


def _reduce_scatter(group, arguments, root):
    total = _sum(group, [x for x, _ in arguments])
    ends = np.cumsum(arguments[0][1])
    return [total[end - count : end] for end, count in zip(ends, arguments[0][1])]


def _alltoall(group, arguments, root):
    return [_copies(group, [parts[member] for parts in arguments]) for member in range(len(group.ranks))]


def _split(group, arguments, root):
    groups = {}
    for color in sorted({color for color, _ in arguments}):
        members = sorted((key, member) for member, (c, key) in enumerate(arguments) if c == color)
        ranks = [member for _, member in members]
        shared = Group(group.world, tuple(group.ranks[m] for m in ranks), group.network)
        groups |= {member: (shared, place) for place, member in enumerate(ranks)}
    return [groups[member] for member in range(len(group.ranks))]


COLLECTIVES = {  # (group, [argument of each member], root) -> [result for each member]
    "bcast": lambda group, parts, root: _same(group, group.world.pool.copy(parts[root])),
    "reduce": lambda group, parts, root: _only(group, root, _sum(group, parts)),
    "allreduce": lambda group, parts, root: _same(group, _sum(group, parts)),
    "reduce_scatter": _reduce_scatter,
    "gather": lambda group, parts, root: _only(group, root, _copies(group, parts)),
    "allgather": lambda group, parts, root: _same(group, _copies(group, parts)),
    "scatter": lambda group, parts, root: _copies(group, parts[root]),
    "alltoall": _alltoall,
    "barrier": lambda group, parts, root: _same(group, None),
    "split": _split,
}


class Envelope:
    """A message on its way: from the send until it is matched with a receive."""

    __slots__ = ("send", "data", "header", "request", "taken")

    def __init__(self, send, data, header, request):
        self.send, self.data, self.header, self.request = send, data, header, request
        self.taken = False


class Mailbox:
    """Messages that have arrived and receives that were posted, each in order; one of the two is always empty of matches."""

    def __init__(self):
        self.arrived = deque()
        self.by_sender = {}  # (source, tag) -> deque: the common receive looks in one place
        self.posted = []

    def put(self, envelope):
        self.arrived.append(envelope)
        self.by_sender.setdefault((envelope.send.rank, envelope.send.tag), deque()).append(envelope)

    def take(self, source, tag):
        """The first arrival that matches, or None."""
        if source == ANY_SOURCE or tag == ANY_TAG:
            while self.arrived and self.arrived[0].taken:
                self.arrived.popleft()
            found = next((e for e in self.arrived if not e.taken and _matches(e, source, tag)), None)
            if found:
                queue = self.by_sender[found.send.rank, found.send.tag]
                queue.remove(found)
        else:
            queue = self.by_sender.get((source, tag))
            found = queue.popleft() if queue else None
            while self.arrived and (self.arrived[0].taken or self.arrived[0] is found):
                self.arrived.popleft()
        if found:
            found.taken = True
        return found


def _matches(envelope, source, tag):
    return source in (ANY_SOURCE, envelope.send.rank) and tag in (ANY_TAG, envelope.send.tag)


class SimRequest:
    """A send or receive under way; `waiter` is the rank that is suspended until it is done."""

    __slots__ = ("comm", "effect", "done", "result", "waiter", "guard")

    def __init__(self, comm, effect):
        self.comm, self.effect = comm, effect
        self.done, self.result, self.waiter = False, None, None
        self.guard = None  # (buffer, its hash, file:line) of a send, with check=True

    def finish(self, result):
        self.done, self.result = True, result
        if self.waiter is not None:
            waiter, self.waiter = self.waiter, None
            self.comm.world.resume(waiter, self)

    def wait(self):
        if not self.done:
            self.waiter = self.comm.world_rank
            self.comm.world.suspend(self.waiter, self.effect)
        if self.guard:
            self.comm.verify(*self.guard)
        return self.result


class SimComm:
    """See dsgd.comm.Comm."""

    def __init__(self, group, rank, roles):
        self.group, self.world, self.rank, self.size = group, group.world, rank, len(group.ranks)
        self.world_rank = group.ranks[rank]
        self.workers, self.servers = roles.workers, roles.servers
        self.worker = roles.number.get(rank)
        self.dtype = self.world.dtype
        self.messages = self.bytes = 0  # sent, by the written schedules
        self._number = 0

    def empty(self, n):
        return np.empty(n, self.dtype)

    def clock(self):
        return self.world.kernel.now

    def compute(self, work, step, flops):
        effect = Compute(self.world_rank, step, flops)
        self.world.note(effect)
        kernel = self.world.kernel
        kernel.at(kernel.now + self.group.network.compute(*effect), self.world.resume, self.world_rank, None)
        self.world.suspend(self.world_rank, effect)
        return work()

    # --- point to point

    def isend(self, x, dest, tag=0, header=Header()):
        effect = Send(self.rank, dest, tag, x.nbytes)
        self.messages, self.bytes = self.messages + 1, self.bytes + x.nbytes
        self.world.note(effect)
        request = SimRequest(self, effect)
        if self.world.check:
            request.guard = (x, _hash(x), self.world.line(sys._getframe()))
        network, kernel, pair = self.group.network, self.world.kernel, (self.rank, dest)
        eager = x.nbytes <= network.eager_limit
        envelope = Envelope(effect, self.world.pool.copy(x) if eager else x, header, None if eager else request)
        arrival = kernel.now + (network.transfer(x.nbytes) if eager else network.latency)
        arrival = self.group.last_arrival[pair] = max(arrival, self.group.last_arrival.get(pair, 0))
        self.group.under_way.setdefault(pair, deque()).append(envelope)
        kernel.at(arrival, self._arrive, pair)
        if eager:
            request.done = True
        return request

    def send(self, x, dest, tag=0, header=Header()):
        self.isend(x, dest, tag, header).wait()

    def irecv(self, source=ANY_SOURCE, tag=ANY_TAG):
        effect = Receive(self.rank, source, tag)
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

    def _arrive(self, pair):
        envelope, box = self.group.under_way[pair].popleft(), self.group.boxes[pair[1]]
        for request in box.posted:
            if _matches(envelope, request.effect.source, request.effect.tag):
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
        request.finish(Message(data, send.rank, send.tag, envelope.header))
        if envelope.request:
            kernel = self.world.kernel
            kernel.at(kernel.now, envelope.request.finish, None)

    def _expire(self, request, timeout):
        posted = self.group.boxes[self.rank].posted
        if request in posted:
            posted.remove(request)
            self.world.fail(self.world_rank, PeerError(f"rank {self.rank}: nothing came within {timeout} s in {request.effect}"))

    def verify(self, x, digest, line):
        """Raise if x is not what it was when it was sent."""
        if _hash(x) != digest:
            raise BufferChanged(f"rank {self.rank} changed a buffer before its send was done; sent at {line}")

    # --- collectives

    def _collective(self, kind, argument, nbytes=0, root=0):
        effect = Collective(self.world_rank, kind, root, nbytes, self._number)
        self._number += 1
        if self.group.network:
            self.world.note(effect)
            if kind != "split":
                sent = traffic(kind, self.rank, self.size, root, nbytes)
                self.messages, self.bytes = self.messages + sent.messages, self.bytes + sent.bytes
        before = _hash(argument) if self.world.check and isinstance(argument, np.ndarray) else None
        result = self.group.meet(self.rank, effect, argument)
        if before and _hash(argument) != before:
            raise BufferChanged(f"the buffer of rank {self.rank} changed during {effect}: another rank shares it")
        return result

    def bcast(self, x, root=0):
        return self._collective("bcast", x, x.nbytes, root)

    def reduce(self, x, root=0):
        return self._collective("reduce", x, x.nbytes, root)

    def allreduce(self, x):
        return self._collective("allreduce", x, x.nbytes)

    def reduce_scatter(self, x, counts):
        return self._collective("reduce_scatter", (x, tuple(counts)), x.nbytes)

    def gather(self, x, root=0):
        return self._collective("gather", x, x.nbytes, root)

    def allgather(self, x):
        return self._collective("allgather", x, x.nbytes)

    def scatter(self, parts, root=0):
        return self._collective("scatter", parts, sum(part.nbytes for part in parts or ()), root)

    def alltoall(self, parts):
        return self._collective("alltoall", parts, sum(part.nbytes for part in parts))

    def barrier(self):
        self._collective("barrier", None)

    def split(self, color, key=0):
        group, rank = self._collective("split", (color, key))
        return SimComm(group, rank, Roles(tuple(range(len(group.ranks))), ()))


def _hash(x):
    return blake2b(np.ascontiguousarray(x), digest_size=16).digest()
