"""What a rank does to the world, as records of sizes, not data: trace, cost, deadlock report and animation read these."""

from typing import NamedTuple

from dsgd.errors import DsgdError


class Compute(NamedTuple):
    rank: int
    step: int
    flops: float

    def __str__(self):
        return f"compute step={self.step} flops={self.flops:.0f}"


class Send(NamedTuple):
    rank: int
    dest: int
    tag: int
    nbytes: int

    def __str__(self):
        return f"send dest={self.dest} tag={self.tag} bytes={self.nbytes}"


class Receive(NamedTuple):
    rank: int
    source: int
    tag: int

    def __str__(self):
        return f"receive source={_any(self.source)} tag={_any(self.tag)}"


class Deliver(NamedTuple):
    """A message has arrived at a rank that waited for it, or was there when the rank asked."""

    rank: int
    source: int
    tag: int
    nbytes: int

    def __str__(self):
        return f"deliver source={self.source} tag={self.tag} bytes={self.nbytes}"


class Collective(NamedTuple):
    rank: int
    kind: str
    root: int
    nbytes: int
    number: int  # how many collectives this rank has called on this communicator before

    def __str__(self):
        return f"{self.kind} #{self.number} root={self.root} bytes={self.nbytes}"


class Mishap(NamedTuple):
    """What befell a message, or its acknowledgement, between two cards: see transport.py."""

    rank: int
    dest: int
    what: str
    kind: str
    number: int  # of the message, from its sender to its receiver
    attempt: int

    def __str__(self):
        return f"{self.what}: {self.kind} dest={self.dest} number={self.number} try={self.attempt}"


def _any(number):
    return "any" if number < 0 else number


class SimulationError(DsgdError):
    """A program that would hang, or damage its data, on a cluster."""


class Deadlock(SimulationError):
    """Nothing is left to happen, and some ranks still wait."""


class BufferChanged(SimulationError):
    """A rank wrote to a buffer that was on its way."""
