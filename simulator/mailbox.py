"""Messages between simulated ranks, from the send to the receive.  They are matched by world ranks."""

from collections import deque

from dsgd.comm import ANY_SOURCE, ANY_TAG, Message
from dsgd.simulator.effects import Deliver
from dsgd.simulator.kernel import ASK, BACK, after
from dsgd.simulator.network import Route


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
            self.comm.world.tasks[waiter].resume(self)

    def wait(self):
        if not self.done:
            self.waiter = self.comm.world_rank
            self.comm.world.suspend(self.waiter, self.effect)
        if self.guard:
            self.comm.verify(*self.guard)
        return self.result


class Envelope(SimRequest):
    """A message on its way: the request of its send, which is done at once unless it is over the eager limit."""

    __slots__ = ("data", "header", "channel", "receiving", "there", "taken")

    def __init__(self, comm, effect, data, header, channel, done):
        self.comm, self.effect = comm, effect
        self.done, self.result, self.waiter, self.guard = done, None, None, None
        self.data, self.header, self.channel = data, header, channel
        self.receiving = None  # the request of the receive that it meets
        self.there = self.taken = False


class Channel(Route):
    """From one member of a group to one other: a message that is there before an earlier one waits for it."""

    __slots__ = ("world", "box", "member", "under_way")

    def __init__(self, group, sender, receiver):
        super().__init__(group.world, sender, receiver)
        self.world, self.box = group.world, group.boxes[group.members[receiver]]
        self.member = group.members[sender]
        self.under_way = deque()  # envelopes, in order

    def post(self, envelope):
        """A message sets out; over the eager limit an envelope goes ahead, which needs no card."""
        if envelope.done:
            self.send(envelope.effect.nbytes, self.arrive, envelope)
        else:
            self.kernel.at(self.kernel.now + self.latency, self.arrive, envelope, place=self.place)
        self.under_way.append(envelope)

    def arrive(self, envelope):
        """A message is there; it waits for those before it, and those behind it may have waited for it.

        What is to happen at this moment is scheduled before a rank goes on: the rank may move the clock.
        """
        envelope.there = True
        if not (self.under_way and self.under_way[0].there):
            return
        first = self.under_way.popleft()
        if self.under_way and self.under_way[0].there:
            self.kernel.at(self.kernel.now, self.arrive, self.under_way[0], place=self.place)
        receiving = self.box.claim(first)
        if receiving:
            self.match(first, receiving)

    def match(self, envelope, receiving):
        """A message meets its receive: it is there, or, over the eager limit, is asked for."""
        envelope.receiving = receiving
        if envelope.done:
            return self.deliver(envelope)
        self.fetch(envelope)

    def fetch(self, envelope):
        """Ask for what is over the eager limit."""
        self.kernel.at(self.kernel.now, self.set_out, envelope, place=after(ASK, self.receiver))

    def set_out(self, envelope):
        """The sender is asked for a message."""
        self.send(envelope.effect.nbytes, self.deliver, envelope)

    def deliver(self, envelope):
        """The receive gets its message."""
        send, data = envelope.effect, envelope.data
        if self.world.trace is not None:
            self.world.note(Deliver(send.dest, send.rank, send.tag, send.nbytes))
        if not envelope.done:
            data = self.world.pool.share(data)
            self.release(envelope)
        envelope.receiving.finish(Message(data, self.member, send.tag, envelope.header))

    def release(self, envelope):
        """The sender has its buffer back."""
        self.kernel.at(self.kernel.now, envelope.finish, None, place=after(BACK, self.receiver))


class Mailbox:
    """Messages that have arrived and receives that were posted, each in order; one of the two is always empty of matches."""

    def __init__(self):
        self.arrived = deque()
        self.by_sender = {}  # (source, tag) -> deque: the common receive looks in one place
        self.posted = []

    def claim(self, envelope):
        """The first receive that takes this arrival, or None: then it is kept."""
        for request in self.posted:
            _, source, tag = request.effect
            if matches(envelope, source, tag):
                self.posted.remove(request)
                return request
        self.arrived.append(envelope)
        self.by_sender.setdefault((envelope.effect.rank, envelope.effect.tag), deque()).append(envelope)

    def take(self, source, tag):
        """The first arrival that matches, or None."""
        if not self.arrived:
            return None
        if source == ANY_SOURCE or tag == ANY_TAG:
            while self.arrived and self.arrived[0].taken:
                self.arrived.popleft()
            found = next((e for e in self.arrived if not e.taken and matches(e, source, tag)), None)
            if found:
                queue = self.by_sender[found.effect.rank, found.effect.tag]
                queue.remove(found)
        else:
            queue = self.by_sender.get((source, tag))
            found = queue.popleft() if queue else None
            while self.arrived and (self.arrived[0].taken or self.arrived[0] is found):
                self.arrived.popleft()
        if found:
            found.taken = True
        return found


def matches(envelope, source, tag):
    """Whether a receive from `source` with `tag` takes this message."""
    send = envelope.effect
    return (source == send.rank or source == ANY_SOURCE) and (tag == ANY_TAG or tag == send.tag)
