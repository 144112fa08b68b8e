"""Faults on purpose: `--faults "kill:rank=1,step=7; slow:rank=3,x=10"`, one string for both worlds, never active unless given.

A fault is KIND:option=value,...; several are separated by semicolons.  Steps are counted from 1, as in messages; seconds
are virtual in the simulator.  What happens by chance is a function of the seed and the message, never of who drew first.
"""

from typing import NamedTuple

from dsgd.errors import UsageError
from dsgd.specs import parse, ranges

EVERYONE = -1


# --- the kinds: a docstring says what happens; None is a value that has to be given


def kill(*, rank: int = None, step: int = None):
    """before its step `step`, or the next it makes, the rank is killed (SIGKILL); a simulated run ends, or goes on without it"""


def nan(*, rank: int = None, step: int = None):
    """the gradient that the rank computes in this step has a NaN in it"""


def flip(*, rank: int = None, step: int = None, bit: int = 0):
    """before this step one bit of the rank's x is flipped; `bit` counts over all of x"""


def slow(*, rank: int = None, x: float = None):
    """the rank computes `x` times as long"""


def delay(*, rank: int = None, s: float = None):
    """what the rank sends arrives `s` seconds later"""


def drop(*, p: float = None, rank: int = EVERYONE):
    """a message of the rank (-1: of any) is lost with probability p, and sent again until it is acknowledged; a
    broadcast, reduce, all-reduce or barrier is made of messages, other collectives are not
    """


def duplicate(*, p: float = None, rank: int = EVERYONE):
    """a message is delivered twice with probability p"""


def reorder(*, p: float = None, s: float = 1e-3, rank: int = EVERYONE):
    """a message is held back for `s` seconds with probability p, so that later ones overtake it"""


def partition(*, ranks: str = None, from_: float = None, to: float = None):
    """from second `from` to second `to` no message passes between these ranks (0-1, or 0-1/4) and the others"""


FAULTS = {f.__name__: f for f in (kill, nan, flip, slow, delay, drop, duplicate, reorder, partition)}
ONCE = ("kill", "nan", "flip")  # in one step of one rank: what has happened does not happen again after a restart
SIMULATED = ("drop", "duplicate", "reorder", "partition")  # MPI's own transport is reliable
NETWORK = ("delay", *SIMULATED)
COMPUTING = ("nan", "slow")  # they strike what a worker computes

RULES = {  # option: (whether a value can be meant, what it must be)
    "rank": (lambda v: v >= 0, "the number of a rank"),
    "step": (lambda v: v >= 1, "the number of a step, from 1"),
    "bit": (lambda v: v >= 0, "the number of a bit, from 0"),
    "x": (lambda v: 1 <= v < float("inf"), "at least 1"),
    "s": (lambda v: 0 <= v < float("inf"), "a number of seconds"),
    "p": (lambda v: 0 <= v < 1, "a probability in [0, 1)"),
    "from": (lambda v: 0 <= v < float("inf"), "a number of seconds"),
    "to": (lambda v: 0 <= v < float("inf"), "a number of seconds"),
}


class Fault(NamedTuple):
    """One fault.   ranks: those that it strikes, as ranges; None for all.   options: {name: value}, beside rank and ranks."""

    kind: str
    ranks: tuple | None
    options: dict

    def strikes(self, rank):
        return self.ranks is None or any(rank in span for span in self.ranks)


class Faults(NamedTuple):
    """What --faults asks for.   text: as it was given.   seed: of what happens by chance."""

    text: str = ""
    faults: tuple = ()
    seed: int = 0

    def of(self, *kinds):
        """The faults of these kinds."""
        return tuple(fault for fault in self.faults if fault.kind in kinds)

    def on(self, rank, *kinds):
        """The faults of these kinds that strike this rank."""
        return tuple(fault for fault in self.of(*kinds) if fault.strikes(rank))

    def slowness(self, rank):
        """The factor by which the rank's computing takes longer."""
        factor = 1.0
        for fault in self.on(rank, "slow"):
            factor *= fault.options["x"]
        return factor

    def delay(self, rank):
        """Seconds that what the rank sends is late."""
        return sum(fault.options["s"] for fault in self.on(rank, "delay"))

    def after_restart(self):
        """What is left of them in a run that goes on: what strikes once has struck."""
        return self._replace(faults=tuple(fault for fault in self.faults if fault.kind not in ONCE))

    def refuse(self, size, virtual):
        """Raise UsageError for what cannot be on `size` ranks, in the simulator (virtual) or under MPI."""
        for fault in self.faults:
            beyond = [max(span.start, size) for span in fault.ranks or () if span.stop > size]
            if beyond:
                raise UsageError(
                    f"--faults {fault.kind}: there is no rank {min(beyond)}: the ranks are 0 to {size - 1}"
                )
            if fault.kind == "partition" and all(map(fault.strikes, range(size))):
                raise UsageError("--faults partition: these are all ranks; leave at least one on the other side")
            if fault.kind in SIMULATED and not virtual:
                raise UsageError(
                    f"--faults {fault.kind}: MPI's transport loses nothing; only the simulator can (--simulate {size})"
                )

    def refuse_idle(self, steps, workers):
        """Raise UsageError for what cannot strike in a run of so many steps.   workers: the ranks that compute"""
        for kind, ranks, options in self.faults:
            if options.get("step", 0) > steps:
                raise UsageError(f"--faults {kind}: there is no step {options['step']}: the run has {steps}")
            idle = [rank for span in ranks or () for rank in span if rank not in workers]
            if kind in COMPUTING and idle:
                raise UsageError(
                    f"--faults {kind}: rank {idle[0]} is no worker and computes nothing; "
                    f"name one that is, such as rank {workers[0]}"
                )


def read_faults(text, seed=0):
    """The Faults of a string.

    Raises:
        UsageError: a fault that is unknown, or an option that is missing or cannot be meant.

    >>> faults = read_faults("kill:rank=1,step=7; slow:rank=3,x=10")
    >>> faults.slowness(3), faults.slowness(0), faults.on(1, "kill")[0].options
    (10.0, 1.0, {'step': 7})
    """
    return Faults(text, tuple(_fault(spec.strip()) for spec in text.split(";") if spec.strip()), seed)


def _fault(spec):
    kind, values = parse(spec, FAULTS, "fault")
    for name, value in values.items():
        fits, meant = RULES.get(name, (lambda v: True, ""))
        if not fits(value) and not (name == "rank" and value == EVERYONE == FAULTS[kind].__kwdefaults__["rank"]):
            raise UsageError(f"--faults {spec}: {name}={value} is not {meant}")
    if kind == "partition" and values["from"] >= values["to"]:
        raise UsageError(f"--faults {spec}: from={values['from']} is not before to={values['to']}")
    rank, ranks = values.pop("rank", EVERYONE), values.pop("ranks", None)
    struck = _ranks(spec, ranks) if ranks is not None else None if rank == EVERYONE else (range(rank, rank + 1),)
    return Fault(kind, struck, values)


def _ranks(spec, text):
    try:
        return ranges(text)
    except ValueError as error:
        raise UsageError(f"--faults {spec}: ranks={error}") from None
