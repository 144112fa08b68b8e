"""What messages cost: `--network uniform:latency=20e-6,...`, or `file:path=NET.toml` for links and cards that differ.

    latency = 20e-6        # s; of every link that is not named below
    bandwidth = 1.25e9     # byte/s; of every card that is not
    jitter = 0             # s; see uniform
    eager_limit = 65536    # bytes; see uniform

    [[card]]               # what a rank's network card takes in and sends out
    ranks = "0"            # a rank, or some: "0-3/6"
    bandwidth = 1e8

    [[link]]               # one way; the way back is another link
    from = "0-3"
    to = "4-7"
    latency = 1e-3
    bandwidth = 1e7        # without it only the cards count

Where two entries name the same, the later one counts.
"""

import tomllib
from math import log
from typing import NamedTuple

from dsgd.arrays import chance
from dsgd.errors import DataError, UsageError
from dsgd.specs import nearest, parse, ranges


class Cards(NamedTuple):
    """The bandwidth of the cards of some ranks, byte/s."""

    ranks: tuple  # of ranges
    bandwidth: float


class Links(NamedTuple):
    """Latency (s) and bandwidth (byte/s) from some ranks to some others."""

    senders: tuple  # of ranges
    receivers: tuple
    latency: float
    bandwidth: float


class Path(NamedTuple):
    """From one rank to another: each card is taken for latency + n / bandwidth by a message of n bytes."""

    latency: float
    out: float  # byte/s at the sender's card: the slower of card and link
    into: float  # the same at the receiver's card


class Network(NamedTuple):
    """A message of n bytes takes latency + n / bandwidth on each card, the sender's and the receiver's, one at a time.

    A collective takes its closed form, whatever the cards do, at the pace of the slowest path among its ranks.
    """

    latency: float = 20e-6  # α, s
    bandwidth: float = 1.25e9  # 1/β, byte/s: 10 Gbit Ethernet
    eager_limit: int = 65536  # bytes; a longer message waits for its receive, as in MPI libraries
    jitter: float = 0.0  # mean of a message's extra time between the two cards, s
    seed: int = 0  # of the jitter
    cards: tuple = ()  # of Cards
    links: tuple = ()  # of Links

    def path(self, sender, receiver):
        """The Path from one rank to another.

        >>> slow = read_network("uniform:latency=1e-3,bandwidth=1e6")
        >>> slow.path(0, 1)
        Path(latency=0.001, out=1000000.0, into=1000000.0)
        """
        latency, bandwidth = self.latency, float("inf")
        for link in self.links:
            if _among(sender, link.senders) and _among(receiver, link.receivers):
                latency, bandwidth = link.latency, link.bandwidth
        return Path(latency, min(bandwidth, self._card(sender)), min(bandwidth, self._card(receiver)))

    def _card(self, rank):
        """The bandwidth of a rank's card."""
        return next((card.bandwidth for card in reversed(self.cards) if _among(rank, card.ranks)), self.bandwidth)

    def slowest(self, ranks):
        """(latency, bandwidth): the worst of each on the paths among these ranks."""
        if not (self.cards or self.links) or len(ranks) == 1:
            return self.latency, self.bandwidth
        alike = {}  # ranks that no entry tells apart
        for rank in ranks:
            alike.setdefault(self._named_by(rank), []).append(rank)
        some = [rank for group in alike.values() for rank in group[:2]]
        paths = [self.path(a, b) for a in some for b in some if a != b]
        return max(path.latency for path in paths), min(min(path.out, path.into) for path in paths)

    def _named_by(self, rank):
        """Which entries name the rank, and as what."""
        spans = [c.ranks for c in self.cards] + [end for link in self.links for end in link[:2]]
        return tuple(_among(rank, span) for span in spans)

    def lateness(self, sender, receiver, departure):
        """Seconds of jitter, exponentially distributed, of the message that leaves the sender's card at `departure`.

        Its number would do as well as its time, but a resumed run knows only the clock.
        """
        return -self.jitter * log(chance("jitter", self.seed, sender, receiver, departure))


def _among(rank, spans):
    return any(rank in span for span in spans)


# --- from flags and files


def uniform(*, latency: float = 20e-6, bandwidth: float = 1.25e9, jitter: float = 0.0, eager_limit: int = 65536):
    """on each card a message takes `latency` s + its bytes / `bandwidth`, and between them `jitter` s on average, at
    random (exponential); one of more than `eager_limit` bytes waits for its receive
    """
    return make(dict(latency=latency, bandwidth=bandwidth, jitter=jitter, eager_limit=eager_limit))


def file(*, path: str = None):
    """links and cards that differ, from a TOML file: dsgd/network.py shows one"""
    try:
        with open(path, "rb") as source:
            return make(tomllib.load(source))
    except OSError as error:
        raise DataError(path, error.strerror or str(error)) from None
    except RecursionError:
        raise DataError(path, "is nested too deeply") from None
    except ValueError as error:
        raise DataError(path, str(error)) from None


NETWORKS = {"uniform": uniform, "file": file}


def read_network(spec, seed=0):
    """The Network of a spec.   seed: of the jitter

    Raises:
        UsageError, DataError: an unknown name or key, or a value that cannot be.
    """
    name, values = parse(spec, NETWORKS, "--network")
    try:
        return NETWORKS[name](**values)._replace(seed=seed)
    except ValueError as error:
        raise UsageError(f"--network {spec}: {error}") from None


def make(values):
    """The Network of the keys of a file.

    Raises:
        ValueError: what is wrong with them.
    """
    plain = _entry({key: values[key] for key in values if key not in ("card", "link")}, "", (), Network._fields[:4])
    network = Network(**plain)
    rest = {"latency": network.latency, "bandwidth": float("inf")}  # what an entry need not say
    cards = [_entry(card, "card", ("ranks", "bandwidth")) for card in _entries(values, "card")]
    links = [rest | _entry(link, "link", ("from", "to"), tuple(rest)) for link in _entries(values, "link")]
    return network._replace(
        cards=tuple(Cards(ranges(str(card["ranks"])), card["bandwidth"]) for card in cards),
        links=tuple(
            Links(ranges(str(link["from"])), ranges(str(link["to"])), link["latency"], link["bandwidth"])
            for link in links
        ),
    )


def _entries(values, name):
    """The tables [[name]]."""
    entries = values.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{name} is not a list of tables; write [[{name}]]")
    return entries


def _entry(entry, name, needed, free=()):
    """The entry, if it has the keys that it needs and no others, and their values can be."""
    where = f"[[{name}]]: " if name else ""
    for key, value in entry.items():
        if key not in (*needed, *free):
            raise ValueError(f"{where}unknown key {key!r}; {nearest(key, (*needed, *free))}")
        if key in Network._fields:
            _check(where + key, value, above_0=key == "bandwidth")
    missing = [key for key in needed if key not in entry]
    if missing:
        raise ValueError(f"{where}{missing[0]} is missing")
    return entry


def _check(what, value, above_0):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (value > 0 if above_0 else 0 <= value < float("inf")):
        raise ValueError(f"{what} = {value!r} is not a number {'above 0' if above_0 else 'of at least 0'}")
