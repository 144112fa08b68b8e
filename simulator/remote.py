"""Messages to ranks of other processes: a channel has two ends then, one where the sender is and one at the receiver.

    eager:                 envelope with data  →
    over the eager limit:  envelope            →
                                               ←  ask: its receive is there
                           data                →
                                               ←  back: the sender has its buffer back

The sender's end knows the sender's card, the receiver's end the receiver's.  What crosses over carries the virtual time
at which it is there.
"""

from itertools import count

from dsgd.comm import Header
from dsgd.simulator.effects import Send
from dsgd.simulator.mailbox import Channel, Envelope


class Departures(Channel):
    """The sender's end."""

    __slots__ = ("route", "there", "numbers", "kept")

    def __init__(self, group, sender, receiver):
        super().__init__(group, sender, receiver)
        self.route = group.name, sender, receiver
        self.there = group.place[group.members[receiver]]  # the receiver's process
        self.numbers = count()
        self.kept = {}  # number -> envelope whose data are still here

    def post(self, envelope):
        number, effect = next(self.numbers), envelope.effect
        if envelope.done:
            when, arrays = self.leave(effect.nbytes), [envelope.data]
        else:
            when, arrays = self.kernel.now + self.latency, []
            self.kept[number], envelope.result = envelope, number
        facts = when, number, int(effect.tag), effect.nbytes, list(map(int, envelope.header))  # not NumPy's: JSON
        self.world.processes.post(self.there, "envelope", self.route, *facts, arrays=arrays)

    def asked(self, number):
        """The receive of a message is there."""
        super().fetch(self.kept[number])

    def set_out(self, envelope):
        when = self.leave(envelope.effect.nbytes)
        self.world.processes.post(self.there, "data", self.route, when, envelope.result, arrays=[envelope.data])

    def given_back(self, number):
        """A message is delivered."""
        super().release(self.kept.pop(number))


class Arrivals(Channel):
    """The receiver's end."""

    __slots__ = ("route", "there", "awaited")

    def __init__(self, group, sender, receiver):
        super().__init__(group, sender, receiver)
        self.route = group.name, sender, receiver
        self.there = group.place[self.member]  # the sender's process
        self.awaited = {}  # number -> envelope whose data are not here

    def take(self, when, number, tag, nbytes, header, data):
        """A message, or the envelope that goes ahead of it, will be at the receiver's card at the time `when`."""
        effect = Send(self.sender, self.receiver, tag, nbytes)
        envelope = Envelope(None, effect, data[0] if data else None, Header(*header), self, bool(data))
        if data:
            self.kernel.at(when, self.receive, nbytes, self.arrive, envelope, place=self.place)
        else:
            self.awaited[number] = envelope
            envelope.result = number
            self.kernel.at(when, self.arrive, envelope, place=self.place)
        self.under_way.append(envelope)

    def fetch(self, envelope):
        self.world.processes.post(self.there, "ask", self.route, envelope.result)

    def take_data(self, when, number, data):
        """The data that were fetched."""
        envelope = self.awaited.pop(number)
        envelope.data = data
        self.kernel.at(when, self.receive, envelope.effect.nbytes, self.deliver, envelope, place=self.place)

    def release(self, envelope):
        self.world.processes.post(self.there, "back", self.route, envelope.result)
