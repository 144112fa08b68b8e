"""How messages pass from rank to rank in virtual time.  What that costs: dsgd/network.py."""

from dsgd.simulator.kernel import REACH, after


class Card:
    """A rank's network card, full duplex: it sends one message and receives one at a time, each for α + nβ (Hockney).

    Messages leave in the order in which they were sent; a receiver takes them in the order in which they reach it.
    """

    __slots__ = ("out_free", "in_free")

    def __init__(self, now):
        self.out_free = self.in_free = now


class Route:
    """From the card of one rank to that of another.

    With jitter a message is late between the two cards, but never before one that was sent earlier.
    """

    __slots__ = ("kernel", "network", "sender", "receiver", "source", "target", "latency", "out", "into", "jitter")
    __slots__ += ("slower", "place", "_last")

    def __init__(self, world, sender, receiver):
        self.kernel, self.network = world.kernel, world.network
        self.sender, self.receiver = sender, receiver  # ranks
        self.source, self.target = world.cards[sender], world.cards[receiver]
        self.latency, self.out, self.into = world.network.path(sender, receiver)
        self.jitter, self.slower = world.network.jitter, self.into < self.out
        self.place = after(REACH, sender)
        self._last = 0.0  # when the last message that was late reached the target

    def seconds(self, nbytes):
        """For which a message takes the slower of the two cards."""
        return self.latency + nbytes / min(self.out, self.into)

    def send(self, nbytes, action, message):
        """Call action(message) when it has passed both cards."""
        if self.source is self.target:  # what a rank sends to itself stays in its memory
            return self.kernel.at(self.kernel.now + (self.latency + nbytes / self.out), action, message)
        self.kernel.at(self.leave(nbytes), self.receive, nbytes, action, message, place=self.place)

    def leave(self, nbytes):
        """A message sets out; returns when it reaches the receiver's card."""
        start, card = self.kernel.now, self.source
        free = card.out_free
        card.out_free = done = (free if free > start else start) + (self.latency + nbytes / self.out)
        if self.jitter:
            done = self._last = max(self._last, done + self.network.lateness(self.sender, self.receiver, done))
        return done

    def receive(self, nbytes, action, message):
        """A message reaches the card: it is there now, or after those before it, or later if this card is the slower."""
        card, now = self.target, self.kernel.now
        arrival = card.in_free + (self.latency + nbytes / self.into)
        if self.slower:  # it cannot take in more than has left the sender
            arrival = max(arrival, now + nbytes / self.into - nbytes / self.out)
        if arrival <= now:
            card.in_free = now
            return action(message)
        card.in_free = arrival
        self.kernel.at(arrival, action, message)
