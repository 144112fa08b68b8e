"""What things cost: a latency-bandwidth network and a speed of computing.  All times are functions, never draws."""

from typing import NamedTuple

from dsgd.costs import duration


class Network(NamedTuple):
    """A message of n bytes takes latency + n / bandwidth; f operations take f / speed.

    Messages from rank to rank wait for the cards of both; a collective takes its closed form, whatever the cards do.
    """

    latency: float = 20e-6  # α, s
    bandwidth: float = 1.25e9  # 1/β, byte/s: 10 Gbit Ethernet
    speed: float = 10e9  # flop/s of one worker
    eager_limit: int = 65536  # bytes; a longer message waits for its receive, as in MPI libraries

    def transfer(self, nbytes):
        return self.latency + nbytes / self.bandwidth

    def collective(self, kind, size, nbytes, root):
        return duration(kind, size, nbytes, self.latency, self.bandwidth, root)

    def compute(self, rank, step, flops):
        return flops / self.speed


class Card:
    """A rank's network card, full duplex: it sends one message and receives one at a time, each for α + nβ (Hockney).

    Messages leave in the order in which they were sent; a receiver takes them in the order in which they reach it.
    """

    __slots__ = ("kernel", "out_free", "in_free")

    def __init__(self, kernel):
        self.kernel = kernel
        self.out_free = self.in_free = kernel.now

    def send(self, to, cost, action, message):
        """Call action(message) when it has passed this card and then the card `to`, `cost` seconds each."""
        kernel = self.kernel
        start = kernel.now
        if to is self:  # what a rank sends to itself stays in its memory
            return kernel.at(start + cost, action, message)
        free = self.out_free
        self.out_free = done = (free if free > start else start) + cost
        kernel.at(done, to.receive, cost, action, message)

    def receive(self, cost, action, message):
        """A message reaches the card: it is there now, or after those before it."""
        kernel = self.kernel
        arrival = self.in_free + cost
        if arrival <= kernel.now:
            self.in_free = kernel.now
            return action(message)
        self.in_free = arrival
        kernel.at(arrival, action, message)
