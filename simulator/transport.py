"""A reliable transport over a network that is not: every message arrives once and in order, or the run ends.

From one rank to another messages are numbered.  The receiver acknowledges every packet, puts away what it has had
before, and delivers in the order of the numbers.  The sender keeps a message until it is acknowledged, and sends it
again on a timer that doubles from try to try; after TRIES it gives up.  Messages and acknowledgements wait for the
cards of both ranks, and are lost, doubled and held back between the two cards.

Reference: Bertsekas and Gallager 1992, "Data Networks", section 2.4.3, selective repeat.
"""

from collections import Counter
from hashlib import blake2b
from itertools import count
from typing import NamedTuple

from dsgd.errors import PeerError
from dsgd.simulator.effects import Mishap

TRIES = 60
PATIENCE = 4  # the first timer, in round trips
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
        pair = envelope.send.rank, envelope.send.dest
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
        message, kernel, cards = self.kept[number], self.world.kernel, self.world.cards
        sender, receiver = cards[self.there.sender], cards[self.there.receiver]
        cost = self.world.network.transfer(message[0].send.nbytes)
        sender.send(self.there, cost, self.arrive, Packet(number, attempt, message))
        start = max(kernel.now, sender.out_free, receiver.in_free)
        kernel.at(start + self.timer(cost, attempt), self.expire, number, attempt + 1)

    def timer(self, cost, attempt):
        """Seconds to wait for an acknowledgement.  A real transport would measure the round trip; here it is known."""
        first = PATIENCE * (cost + self.world.network.transfer(0) + self.there.delay + self.back.delay)
        return min(first * 2**attempt, max(first, LONGEST))

    def expire(self, number, attempt):
        """No acknowledgement has come in time, unless it has; who has returned from its program needs no message."""
        if number not in self.kept or self.world.tasks[self.there.receiver] is None:
            return
        if attempt == TRIES:
            raise PeerError(
                f"rank {self.there.sender} has sent its message {number} to rank {self.there.receiver} {TRIES} times by "
                f"virtual time {self.world.kernel.now:.6g} s, and no acknowledgement came; --resume goes on from the last checkpoint, if there is one"
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
        self.world.cards[self.there.receiver].send(self.back, self.world.network.transfer(0), self.acknowledged, ack)
        if packet.number < self.expected:  # it was delivered
            return
        self.early[packet.number] = packet.message
        while self.expected in self.early:
            envelope, deliver = self.early.pop(self.expected)
            self.expected += 1
            deliver(envelope)


class Wire:
    """What lies between the cards of two ranks, in one direction.  To the sender's card it is the next one."""

    def __init__(self, transport, sender, receiver):
        self.transport, self.sender, self.receiver = transport, sender, receiver
        world = transport.world
        faults, self.kernel, self.card = world.faults, world.kernel, world.cards[receiver]
        self.seed, self.delay = faults.seed, faults.delay(sender)
        self.chances = faults.on(sender, "drop", "duplicate", "reorder")
        self.partitions = [
            (fault.options["from"], fault.options["to"])
            for fault in faults.of("partition")
            if fault.strikes(sender) != fault.strikes(receiver)
        ]

    def receive(self, cost, action, packet):
        """A packet has left the sender's card: each copy of it that is not lost goes on to the receiver's."""
        for late in self.fate(packet):
            if late:
                self.kernel.at(self.kernel.now + late, self.card.receive, cost, action, packet)
            else:
                self.card.receive(cost, action, packet)

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
        key = self.seed, place, self.sender, self.receiver, packet.number, packet.attempt, packet.message is None
        return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "big") / 2**64
