"""Steps of a trace (see dsgd/trace.py): who computed and waited, and which messages went from whom to whom.

A rank is in step t from its first gradient of step t to its first of step t + 1.  A message belongs to the step of its
sender; one of a rank that only serves, to that of its receiver.
"""

from collections import defaultdict
from typing import NamedTuple

from dsgd.collectives import tree_steps
from dsgd.errors import UsageError

TREES = ("reduce", "bcast", "allreduce", "iallreduce")  # the collectives that are trees; rank 0 is their root


class Arrow(NamedTuple):
    """A message.

    Attributes:
        sent, arrived: µs since the run began.  tree: whether it is not in the trace, but in the written tree of a collective.
    """

    sender: int
    receiver: int
    sent: float
    arrived: float
    nbytes: int
    tree: bool = False


class Bar(NamedTuple):
    """What a rank did from `start` to `stop` (µs).   kind: compute, wait or collective; name: of the collective"""

    rank: int
    start: float
    stop: float
    kind: str
    name: str = ""


class Steps(NamedTuple):
    names: dict  # {rank: name of its track}
    bars: list
    arrows: list  # in the order of their departure
    start: float  # µs
    stop: float


def read_steps(events, first, last=None):
    """The Steps `first` to `last` of a trace; that one alone without `last`.

    Raises:
        UsageError: no rank computed a gradient in them, or the last is before the first.
    """
    last = first if last is None else last
    if last < first:
        raise UsageError(f"--stop {last} is before --step {first}")
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    slices, links = _slices(events)
    mine = [(event, step) for event, step in slices if step is not None and first <= step <= last]
    if not any(event["cat"] == "compute" for event, _ in mine):
        ends = [step for _, step in slices if step is not None] or [0]
        raise UsageError(f"--step {first}: the trace has gradients of the steps {min(ends)} to {max(ends)}")
    arrows = [_arrow(*ends) for ends, step in links if step is not None and first <= step <= last]
    arrows += _trees(mine)
    times = [time for arrow in arrows for time in (arrow.sent, arrow.arrived)]
    times += [time for event, _ in mine for time in (event["ts"], event["ts"] + event["dur"])]
    start, stop = min(times), max(times)
    serving = [(event, step) for event, step in slices if step is None]
    bars = [_bar(event) for event, _ in mine + serving if event["cat"] in ("compute", "wait", "collective")]
    bars = [bar for bar in bars if bar.stop > start and bar.start < stop]
    return Steps(names, bars, sorted(arrows, key=lambda arrow: arrow.sent), start, stop)


def _slices(events):
    """([(slice, step)], [((send, receive), step)]); the step of a rank that only serves is None."""
    slices, ends, now, begun = [], defaultdict(dict), {}, {}
    for event in events:  # rank by rank, each in order
        if event["ph"] == "X":
            if event["cat"] == "compute":
                now[event["tid"]] = event["args"]["step"]
                begun.setdefault(event["tid"], event["args"]["step"])
            slices.append((event, now.get(event["tid"])))
        elif event["ph"] in "sf":  # it stands right behind its slice
            ends[event["id"]][event["ph"]] = slices[-1]
    slices = [(event, step or begun.get(event["tid"])) for event, step in slices]
    links = [(pair["s"], pair["f"]) for pair in ends.values() if len(pair) == 2]
    steps = [mine or theirs or begun.get(send["tid"], begun.get(got["tid"])) for (send, mine), (got, theirs) in links]
    return slices, [((send, got), step) for ((send, _), (got, _)), step in zip(links, steps)]


def _arrow(send, receive):
    arrived = receive["ts"] + receive["dur"]
    return Arrow(send["tid"], receive["tid"], send["ts"], arrived, receive["args"]["bytes"])


def _bar(event):
    return Bar(event["tid"], event["ts"], event["ts"] + event["dur"], event["cat"], event["args"].get("kind", ""))


def _trees(slices):
    """The messages of the collectives that are trees, whose rounds share the time of the collective evenly."""
    calls, count = defaultdict(list), defaultdict(int)
    for event, step in slices:
        if event["cat"] == "collective":
            kind = event["args"]["kind"]
            count[event["tid"], step, kind] += 1
            calls[step, kind, count[event["tid"], step, kind]].append(event)
    for (_, kind, _), joined in calls.items():
        ranks = sorted(event["tid"] for event in joined)
        start, stop = max(event["ts"] for event in joined), max(event["ts"] + event["dur"] for event in joined)
        up = _up(ranks)
        down = [[pair[::-1] for pair in turn] for turn in reversed(up)]
        rounds = {"reduce": up, "bcast": down}.get(kind, up + down) if kind in TREES else []
        for i, turn in enumerate(rounds):
            sent, arrived = (start + (stop - start) * k / len(rounds) for k in (i, i + 1))
            yield from (Arrow(*pair, sent, arrived, joined[0]["args"]["bytes"], tree=True) for pair in turn)


def _up(ranks):
    """[[(sender, receiver) of the messages of one round]] of the written tree, up to the first of the ranks."""
    rounds = [[] for _ in range((len(ranks) - 1).bit_length())]
    for place, rank in enumerate(ranks):
        for act, peer in tree_steps(place, len(ranks)):
            if act == "send":
                rounds[(place - peer).bit_length() - 1].append((rank, ranks[peer]))
    return rounds
