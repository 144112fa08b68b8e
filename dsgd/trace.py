"""What the ranks noted of a run (see traced.py), as the JSON that Perfetto and chrome://tracing show.

One track for each rank.  Its slices never overlap; `cat` says what the rank does:

    compute     a gradient, or a part of one
    wait        for args.peer, which has not yet done what ends the wait: sent, begun to receive, or joined a collective
    send        a message leaves; under the eager limit that takes the rank no time in the simulator
    receive     a message is on its way that args.peer sent at args.sent (µs; not there if the sender had to wait for us)
    collective  all are there, args.peer came last, and the data are on their way

Between them a rank applies updates, sums, makes records and saves.  Times are µs since the run began.  An arrow leads
from a send to its receive.

Reference: "Trace Event Format", Chromium; ui.perfetto.dev opens the file.
"""

import json
from bisect import bisect_right

FORMAT = 1


def make_events(logs, roles):
    """Yields the events of all ranks' logs, each as traced.Log.pack() gives it.   roles: comm.Roles, which name the tracks

    Where a rank made calls that were not noted any more, all end with its last one that was.
    """
    begin = min(log["begin"] for log in logs)
    end = min((last_end(log) for log in logs if log["full"]), default=float("inf"))
    calls = [[Call(rank, record) for record in log["records"]] for rank, log in enumerate(logs)]
    calls = [[call for call in mine if call.ended <= end] for mine in calls]
    members = _members(logs)
    _match_messages(calls, members)
    arrivals = _match_collectives(calls)
    yield from _names(len(logs), roles)
    for rank, mine in enumerate(calls):
        slices = [part for call in mine for part in _slices(call, members, arrivals)]
        for start, stop, *rest in sorted(slices, key=lambda part: part[:2]):
            yield from _event(rank, begin, start, stop, *rest)


def last_end(log):
    """When the last call of a log ended."""
    return log["records"][-1][5] if log["records"] else log["begin"]


class Call:
    """A record with its rank (see traced.Log), and what is known of its message once the other end is found.

    Attributes:
        message: its number; None where only one end was noted.  departure: when it set out.
        held: whether it waited for its receive.
    """

    def __init__(self, rank, record):
        self.rank = rank
        self.kind, self.order, self.first, self.returned, self.began = record[:5]
        self.ended, self.comm, self.peer, self.tag, self.nbytes = record[5:]
        self.message, self.departure, self.held = None, self.began, False


def _members(logs):
    """{communicator: {its rank: world rank}}"""
    members = {}
    for rank, log in enumerate(logs):
        for name, place in log["places"].items():
            members.setdefault(name, {})[place] = rank
    return members


def _match_messages(calls, members):
    """The k-th send of a stream belongs to the k-th posted receive that got a message of it: messages do not overtake."""
    sends, receives = {}, {}
    for mine in calls:
        for call in mine:
            place = members[call.comm]
            if call.kind == "send":
                stream = call.comm, call.rank, place[call.peer], call.tag
                sends[stream, call.order] = call
            elif call.kind == "receive" and call.nbytes is not None:
                receives.setdefault((call.comm, place[call.peer], call.rank, call.tag), []).append(call)
    count = 0
    for stream, got in receives.items():
        for k, receive in enumerate(sorted(got, key=lambda call: call.order)):
            send = sends.get((stream, k))
            if send:  # not where the notes of one of the two ended
                count += 1
                held = send.began < receive.first <= send.ended  # its sender was waiting when the receive was posted
                departure = receive.first if held else send.first
                for call in (send, receive):
                    call.message, call.departure, call.held = count, departure, held


def _match_collectives(calls):
    """{(communicator, number): [(when a rank joined, rank)] in order} of all collectives."""
    arrivals = {}
    for mine in calls:
        for call in mine:
            if call.kind not in ("compute", "abandoned", "send", "receive"):
                arrivals.setdefault((call.comm, call.order), []).append((call.first, call.rank))
    return {key: sorted(joined) for key, joined in arrivals.items()}


def _slices(call, members, arrivals):
    """[(start, stop, cat, name, args, arrow)] of a call, in order, without waits of no time."""
    if call.kind in ("compute", "abandoned"):
        return [(call.began, call.ended, "compute", call.kind, {"step": call.tag}, None)]
    if call.kind in ("send", "receive"):
        return _message(call, members[call.comm].get(call.peer))
    joined = arrivals[call.comm, call.order]
    last, peer = joined[bisect_right(joined, (call.ended, float("inf"))) - 1]  # of those who came before it was over
    peer = call.rank if last == call.first else peer
    args = {"peer": peer, "kind": call.kind, "bytes": call.nbytes}
    under_way = max(call.began, last)  # of what was only started, a rank may wait later than all have joined
    return [*_wait(call.began, last, peer, call.kind), (under_way, call.ended, "collective", call.kind, args, None)]


def _message(call, peer):
    """Of a send or receive: what started it, the wait for the other rank, the message on its way."""
    if call.nbytes is None:
        return _wait(call.began, call.ended, peer, "no message came")
    data, args = min(max(call.began, call.departure), call.ended), {"peer": peer, "tag": call.tag, "bytes": call.nbytes}
    arrow = call.message and ("s" if call.kind == "send" else "f", call.message)
    if call.message and call.kind == "receive" and not call.held:
        args["sent"] = min(call.departure, call.ended)
    name, parts = f"{call.kind} {'to' if call.kind == 'send' else 'from'} rank {peer}", []
    if call.kind == "send" and call.returned is not None:  # the rank went on, and may have waited later
        parts, arrow = [(call.first, call.returned, "send", f"i{name}", args, arrow)], None
        if call.ended == call.began:
            return parts
    wait = _wait(call.began, data, peer, "its message" if call.kind == "receive" else "its receive")
    return [*parts, *wait, (data, call.ended, call.kind, name, args, arrow)]


def _wait(start, stop, peer, what):
    """The slice of a wait, if it took any time.   peer: None for anyone"""
    who = "anyone" if peer is None else f"rank {peer}"
    args = {} if peer is None else {"peer": peer}
    return [(start, stop, "wait", f"wait for {who}: {what}", args, None)] if stop > start else []


def _event(rank, begin, start, stop, cat, name, args, arrow):
    """The events of a slice: itself and, right behind it, the end of its arrow, which so belongs to it."""
    ts = _microseconds(start - begin)
    track = {"pid": 0, "tid": rank}
    if "sent" in args:
        args = args | {"sent": _microseconds(args["sent"] - begin)}
    length = round(_microseconds(stop - begin) - ts, 3)
    yield {"ph": "X", **track, "ts": ts, "dur": length, "cat": cat, "name": name, "args": args}
    if arrow:
        end = {"bp": "e"} if arrow[0] == "f" else {}
        yield {"ph": arrow[0], **track, "ts": ts, "cat": "message", "name": "message", "id": arrow[1]} | end


def _microseconds(seconds):
    return round(seconds * 1e6, 3)


def _names(size, roles):
    """The events that name the tracks: rank 0, server."""
    events = [{"ph": "M", "pid": 0, "name": "process_name", "args": {"name": "dsgd"}}]
    for rank in range(size):
        role = [f"worker {roles.number[rank]}"] if rank in roles.number else []
        role += ["server"] if rank in roles.servers else []
        names = {"thread_name": {"name": ", ".join([f"rank {rank}", *role])}, "thread_sort_index": {"sort_index": rank}}
        events += [{"ph": "M", "pid": 0, "tid": rank, "name": name, "args": args} for name, args in names.items()]
    return events


def encode(events, facts):
    """The text of trace.json, one event a line.   facts: of the run, {key: value}"""
    lines = ",\n".join(json.dumps(event) for event in events)
    head = json.dumps({"displayTimeUnit": "ms", "otherData": {"format": FORMAT} | facts})
    return f'{head[:-1]}, "traceEvents": [\n{lines}\n]}}\n'
