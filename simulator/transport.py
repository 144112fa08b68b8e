"""A reliable transport over a network that is not: every message arrives once and in order, or the run ends.

From one rank to another messages are numbered.  The receiver acknowledges every packet, puts away what it has had
before, and delivers in the order of the numbers.  The sender keeps a message until it is acknowledged, and sends it
again on a timer that doubles from try to try; after TRIES it gives up.  Messages and acknowledgements wait for the
cards of both ranks, and are lost, doubled and held back between the two cards.

Reference: Bertsekas and Gallager 1992, "Data Networks", section 2.4.3, selective repeat.
"""

from collections import Counter
from itertools import count
from typing import NamedTuple

from dsgd.arrays import chance
from dsgd.errors import PeerError
from dsgd.simulator.effects import Mishap
from dsgd.simulator.network import Route

TRIES = 60
PATIENCE = 4  # the first timer, in round trips
SHORTEST = 1e-6  # seconds: over a network without latency all tries would be made at one moment
LONGEST = 1.0  # seconds of virtual time: no timer grows beyond it


class Packet(NamedTuple):
    """One try to get a message across, or its acknowledgement."""

    number: int  # of the message, from its sender to its receiver
    attempt: int  # 0, 1, ...
    message: tuple | None = None  # (mailbox.Envelope, deliver); None for an acknowledgement


class Transport:
    """The links of a world, made as they are needed.

    Attributes:
        counts: {what: how often}, of messages and of what happened to packets.
    """

    def __init__(self, world):
        self.world, self.counts = world, Counter()
        self._links = {}  # (sender, receiver) -> Link

    def send(self, envelope, deliver):
        """Get a message across, and call deliver(envelope) when it is its turn."""
        pair = envelope.effect.rank, envelope.effect.dest
        if pair not in self._links:
            self._links[pair] = Link(self, *pair)
        self._links[pair].send(envelope, deliver)

    def note(self, what, wire, packet):
        """Something befell a packet."""
        self.counts[what] += 1
        kind = "message" if packet.message else "acknowledgement"
        self.world.note(Mishap(wire.sender, wire.receiver, what, kind, packet.number, packet.attempt))


class Link:
    """The messages of one rank to one other, at both ends."""

    def __init__(self, transport, sender, receiver):
        self.transport, self.world = transport, transport.world
        self.there, self.back = Wire(transport, sender, receiver), Wire(transport, receiver, sender)
        self.numbers = count()
        self.kept = {}  # number -> (envelope, deliver) of what is not acknowledged, at the sender
        self.expected = 0  # the number whose turn it is, at the receiver
        self.early = {}  # number -> (envelope, deliver) of what came before its turn

    # --- at the sender

    def send(self, envelope, deliver):
        """A new message."""
        number = next(self.numbers)
        self.kept[number] = envelope, deliver
        self.transport.counts["messages"] += 1
        self.transmit(number, 0)

    def transmit(self, number, attempt):
        """Put a message on the way, and set the timer for the moment when the cards of both have time for it."""
        message, kernel, there = self.kept[number], self.world.kernel, self.there
        nbytes = message[0].effect.nbytes
        there.send(nbytes, self.arrive, Packet(number, attempt, message))
        start = max(kernel.now, there.source.out_free, there.target.in_free)
        kernel.at(start + self.timer(nbytes, attempt), self.expire, number, attempt + 1)

    def timer(self, nbytes, attempt):
        """Seconds to wait for an acknowledgement.  A real transport would measure the round trip; here it is known."""
        jitter = 2 * self.world.network.jitter
        trip = self.there.seconds(nbytes) + self.back.seconds(0) + self.there.delay + self.back.delay + jitter
        first = max(PATIENCE * trip, SHORTEST)
        return min(first * 2**attempt, max(first, LONGEST))

    def expire(self, number, attempt):
        """No acknowledgement has come in time, unless it has; who has returned from its program needs no message."""
        if number not in self.kept or self.world.tasks[self.there.receiver] is None:
            return
        if attempt == TRIES:
            raise PeerError(
                f"rank {self.there.sender} has sent its message {number} to rank {self.there.receiver} {TRIES} times by "
                f"virtual time {self.world.kernel.now:.6g} s, and no acknowledgement came; --resume goes on from the last "
                "checkpoint, if there is one"
            )
        self.transport.note("sent again", self.there, Packet(number, attempt, self.kept[number]))
        self.transmit(number, attempt)

    def acknowledged(self, packet):
        """The message is there, and need not be sent again."""
        self.kept.pop(packet.number, None)

    # --- at the receiver

    def arrive(self, packet):
        """A packet is there: for the first time, or once more because it was doubled, or its acknowledgement was lost."""
        ack = packet._replace(message=None)
        self.back.send(0, self.acknowledged, ack)
        if packet.number < self.expected:  # it was delivered
            return
        self.early[packet.number] = packet.message
        while self.expected in self.early:
            envelope, deliver = self.early.pop(self.expected)
            self.expected += 1
            deliver(envelope)


class Wire(Route):
    """From the card of one rank to that of another, with what may befall a packet in between."""

    def __init__(self, transport, sender, receiver):
        super().__init__(transport.world, sender, receiver)
        self.transport, faults = transport, transport.world.faults
        self.seed, self.delay = faults.seed, faults.delay(sender)
        self.chances = faults.on(sender, "drop", "duplicate", "reorder")
        self.partitions = [
            (fault.options["from"], fault.options["to"])
            for fault in faults.of("partition")
            if fault.strikes(sender) != fault.strikes(receiver)
        ]

    def receive(self, nbytes, action, packet):
        """A packet has left the sender's card: each copy of it that is not lost goes on to the receiver's."""
        for late in self.fate(packet):
            if late:
                self.kernel.at(self.kernel.now + late, super().receive, nbytes, action, packet)
            else:
                super().receive(nbytes, action, packet)

    def fate(self, packet):
        """Seconds by which each copy of a packet is late; none if it is lost."""
        if any(first <= self.kernel.now < last for first, last in self.partitions):
            self.transport.note("cut off", self, packet)
            return []
        struck = [fault for place, fault in enumerate(self.chances) if self.chance(place, packet) < fault.options["p"]]
        kinds = {fault.kind for fault in struck}
        if "drop" in kinds:
            self.transport.note("dropped", self, packet)
            return []
        copies = [self.delay]
        if "duplicate" in kinds:
            self.transport.note("duplicated", self, packet)
            copies.append(self.delay)
        if "reorder" in kinds:
            self.transport.note("held back", self, packet)
            copies[0] += sum(fault.options["s"] for fault in struck if fault.kind == "reorder")
        return copies

    def chance(self, place, packet):
        """A number in [0, 1): a function of the seed, the fault's place among this sender's, and the packet."""
        packet = packet.number, packet.attempt, packet.message is None
        return chance(self.seed, place, self.sender, self.receiver, *packet)
