"""What a timeline tells: where each rank's time went, who waited for whom, and which rank sets the pace.

Pure functions of the events of a trace.json (see trace.py).  Times are whole nanoseconds since the run began.
"""

from bisect import bisect_left
from collections import Counter
from typing import NamedTuple

SHARES = ("compute", "wait", "communicate", "other")  # other: between the calls, updates, sums, records
COMMUNICATE = ("send", "receive", "collective")


class Span(NamedTuple):
    """A slice of a rank's track.

    Attributes:
        peer: a rank; None without one.  sent: when the message that was received set out; None where it was waiting for us.
        step: of a gradient that was computed, from 1.
    """

    start: int
    stop: int
    kind: str  # compute, wait, send, receive or collective
    peer: int | None = None
    sent: int | None = None
    step: int | None = None


class Leg(NamedTuple):
    """A part of the critical path.   rank: who was busy; of a message, who was to get it, and `peer` who sent it"""

    rank: int
    kind: str  # compute, wait, send, receive, other; message
    start: int
    stop: int
    peer: int | None = None


def read_spans(events):
    """{rank: [Span] in order} of the slices."""
    spans = {event["tid"]: [] for event in events if event["name"] == "thread_name"}
    for event in events:
        if event["ph"] == "X":
            ts, args, sent = event["ts"], event["args"], event["args"].get("sent")
            step = None if event["name"] == "abandoned" else args.get("step")
            start, stop, sent = _nanoseconds(ts), _nanoseconds(ts + event["dur"]), sent and _nanoseconds(sent)
            spans[event["tid"]].append(Span(start, stop, event["cat"], args.get("peer"), sent, step))
    return spans


def read_names(events):
    """{rank: name of its track}"""
    return {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}


def _nanoseconds(microseconds):
    return round(microseconds * 1000)


def length(spans):
    """When the last rank was done."""
    return max((mine[-1].stop for mine in spans.values() if mine), default=0)


def split_time(spans, start, stop):
    """{rank: Counter of SHARES}: where the time from `start` to `stop` went; each rank's add up to it."""
    times = {}
    for rank, mine in spans.items():
        times[rank] = Counter(dict.fromkeys(SHARES, 0))
        for span in mine:
            kind = "communicate" if span.kind in COMMUNICATE else span.kind
            times[rank][kind] += _overlap(span, start, stop)
        times[rank]["other"] = stop - start - times[rank].total()
    return times


def count_gradients(spans, start, stop):
    """How many were computed; where a rank computes one in parts, the parts of a step count as one."""
    return len({(rank, s.step) for rank, mine in spans.items() for s in mine if s.step and start < s.stop <= stop})


def find_blockers(spans, start, stop):
    """Counter of (rank, peer): how long the rank waited for this peer to do something."""
    blocked = Counter()
    for rank, mine in spans.items():
        for span in mine:
            if span.kind == "wait":
                blocked[rank, span.peer] += _overlap(span, start, stop)
    return blocked


def _overlap(span, start, stop):
    return max(0, min(span.stop, stop) - max(span.start, start))


def critical_path(spans):
    """[Leg] from the start to the end of the run, without a gap: what each next one had to wait for.

    Found from the end: back through what a rank did, from a wait to the rank that ended it, and from a message that was
    received to its sender.  A message that had been under way for longer than its receive took was waiting for the
    receiver, or for its network card.
    """
    starts = {rank: [span.start for span in mine] for rank, mine in spans.items()}
    rank = max(spans, key=lambda rank: spans[rank][-1].stop if spans[rank] else 0)
    now, legs, seen = length(spans), [], set()
    while now > 0:
        seen.add((rank, now))
        place = bisect_left(starts[rank], now) - 1
        span = spans[rank][place] if place >= 0 else Span(0, 0, "other")
        if span.stop < now:
            legs.append(Leg(rank, "other", span.stop, now))
            now = span.stop
            continue
        cause, when = _cause(rank, span, now)
        if (cause, when) in seen:  # two clocks that differ by a little
            cause, when = rank, span.start
        if when < now:
            travels = cause != rank or span.kind == "collective"
            legs.append(Leg(rank, "message" if travels else span.kind, when, now, cause if travels else None))
        rank, now = cause, when
    return legs[::-1]


def _cause(rank, span, now):
    """(rank, when): what the end of a span waited for.  A span that is not over by `now` was waiting for nothing yet."""
    if span.peer is not None and span.stop == now:
        if span.kind == "wait":
            return span.peer, now
        if span.sent is not None and span.start - span.sent < span.stop - span.start:
            return span.peer, span.sent
    return rank, span.start


def share_path(legs, start, stop):
    """(busy, messages): Counters of {rank: time on the critical path}, at work, and with a message to or from it."""
    busy, messages = Counter(), Counter()
    for leg in legs:
        for rank in {leg.rank, leg.peer} if leg.kind == "message" else ():
            messages[rank] += _overlap(leg, start, stop)
        if leg.kind != "message":
            busy[leg.rank] += _overlap(leg, start, stop)
    return busy, messages
