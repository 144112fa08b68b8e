"""A communicator that notes what its rank does, call by call, in both worlds: what `--trace` makes its timeline of.

Only times and sizes are noted, and nothing is sent for it: virtual times and bits are those of a run without a trace.
"""

from collections import Counter

from dsgd.comm import ANY_SOURCE, ANY_TAG, Header

LIMIT = 200_000  # calls that a process notes, of all ranks that it hosts: about 55 MB of JSON
COLLECTIVES = (
    "bcast",
    "reduce",
    "allreduce",
    "reduce_scatter",
    "gather",
    "allgather",
    "allgather_in_place",
    "scatter",
    "alltoall",
    "barrier",
)


class Room:
    """How many more calls a process may note; its ranks share it."""

    def __init__(self, left=None):
        self.left = LIMIT if left is None else left


class Log:
    """The calls of one rank, over its communicator and all that are made of it.

    Args:
        clock: seconds, common to all ranks.  room: Room for calls; once there is none, nothing more is noted.
    Attributes:
        records: [(kind, order, first, returned, began, ended, comm, peer, tag, bytes)], in the order in which they were
            made.  A message's `first` is when its send or receive was started, `order` its place among the sends to
            this peer and tag, or among all receives; `began` is when the rank began to wait for it, and `returned` when
            an isend, irecv or iallreduce was over, None if there was none.  Peers are ranks of the communicator.  A
            gradient's tag is its step, a collective's order its number on the communicator.
        places: {communicator: this rank's number in it}.
    """

    def __init__(self, clock, room):
        self.clock, self.room = clock, room
        self.records, self.places = [], {}
        self.started, self.posted = Counter(), 0  # sends by communicator, peer and tag; receives
        self.begin, self.full = clock(), False

    def add(self, *record):
        """Note a call."""
        if self.room.left:
            self.room.left -= 1
            self.records.append(record)  # a tuple, which the garbage collector forgets
        else:
            self.full = True

    def add_waiting(self, place, began):
        """A send or sum under way, at this place in the records, is over; the rank has waited for it since `began`."""
        if place < len(self.records):
            record = self.records[place]
            self.records[place] = (*record[:4], began, self.clock(), *record[6:])

    def pack(self):
        """As JSON has it, for trace.make_events."""
        return {"records": self.records, "places": self.places, "begin": self.begin, "full": self.full}


class Traced:
    """Mixed in before a communicator's class; `note_to` gives it its log.  A blocking call is one record.

    A collective that is made of traced messages, as an all-reduce from scratch is, is told by them and not noted.
    """

    def note_to(self, log, name="world"):
        """Keep the log.   name: of the communicator, the same on all its ranks"""
        self.log, self.name, self._calls, self._inside = log, name, 0, False
        log.places[name] = self.rank
        return self

    def compute(self, work, step, flops, unless=None, part=1):
        began = self.log.clock()
        result = super().compute(work, step, flops, unless and unless.request, part)
        kind = "compute" if result is not None else "abandoned"
        self.log.add(kind, 0, began, None, began, self.log.clock(), self.name, self.rank, step + 1, 0)
        return result

    def isend(self, x, dest, tag=0, header=Header()):
        if self._inside:
            return super().isend(x, dest, tag, header)
        began, order = self.log.clock(), self._next_send(dest, tag)
        request = super().isend(x, dest, tag, header)
        returned, place = self.log.clock(), len(self.log.records)
        self.log.add("send", order, began, returned, returned, returned, self.name, dest, tag, x.nbytes)
        return Sending(self.log, request, place)

    def irecv(self, source=ANY_SOURCE, tag=ANY_TAG):
        if self._inside:
            return super().irecv(source, tag)
        began, order = self.log.clock(), self._next_receive()
        return Receiving(self, super().irecv(source, tag), (order, began, self.log.clock()), (source, tag))

    def send(self, x, dest, tag=0, header=Header()):
        began, order = self.log.clock(), self._next_send(dest, tag)
        self._alone(super().send, x, dest, tag, header)
        self.log.add("send", order, began, None, began, self.log.clock(), self.name, dest, tag, x.nbytes)

    def recv(self, source=ANY_SOURCE, tag=ANY_TAG, timeout=None):
        began, order, message = self.log.clock(), self._next_receive(), None
        try:
            message = self._alone(super().recv, source, tag, timeout)
            return message
        finally:  # without a message where the time was up
            self.note_receive(message, (order, began, None), began, (source, tag))

    def wait_any(self, requests):
        began = self.log.clock()
        i, result = super().wait_any([pending.request for pending in requests])
        requests[i].note(result, began)
        return i, result

    def iallreduce(self, x):
        self._calls += 1
        number, place, began = self._calls, len(self.log.records), self.log.clock()
        request, returned = super().iallreduce(x), self.log.clock()
        if len(self.log.records) > place:  # it was made of calls that were noted, and is over
            return request
        self.log.add("iallreduce", number, began, returned, returned, returned, self.name, self.rank, 0, x.nbytes)
        return Sending(self.log, request, place)

    def split(self, color, key=0):
        part = self._meet("split", (color, key), {})
        return part.note_to(self.log, f"{self.name}/{self._calls}.{color}")

    def without(self, ranks):
        part = super().without(ranks)
        left_out = "+".join(map(str, ranks))
        return part if "log" in vars(part) else part.note_to(self.log, f"{self.name} without {left_out}")

    @property
    def _private(self):
        """The communicator of an all-reduce from scratch; made once, by the class that this one is mixed into."""
        part = super()._private
        return part if "log" in vars(part) else part.note_to(self.log, self.name + "*")

    def _alone(self, call, *arguments):
        """A blocking call, which may be made of others: they are not noted."""
        self._inside = True
        try:
            return call(*arguments)
        finally:
            self._inside = False

    def _next_send(self, dest, tag):
        stream = self.name, dest, tag
        self.log.started[stream] += 1
        return self.log.started[stream] - 1

    def _next_receive(self):
        self.log.posted += 1
        return self.log.posted - 1

    def note_receive(self, message, started, began, wanted):
        """A receive is over.   started: (order, first, returned).  wanted: (source, tag), told if no message came"""
        got = (*wanted, None) if message is None else (message.source, message.tag, message.data.nbytes)
        self.log.add("receive", *started, began, self.log.clock(), self.name, *got)

    def _meet(self, kind, arguments, options):
        self._calls += 1
        number, noted, began = self._calls, len(self.log.records), self.log.clock()
        result = getattr(super(), kind)(*arguments, **options)
        if len(self.log.records) == noted:
            nbytes = _size(arguments[0]) if arguments else 0
            self.log.add(kind, number, began, None, began, self.log.clock(), self.name, self.rank, 0, nbytes)
        return result


class Sending:
    """An isend or iallreduce under way; its record, at this place in the log, is told when somebody has waited for it."""

    def __init__(self, log, request, place):
        self.log, self.request, self.place = log, request, place

    def wait(self):
        began, result = self.log.clock(), self.request.wait()
        self.note(result, began)
        return result

    def note(self, result, began):
        self.log.add_waiting(self.place, began)


class Receiving:
    """An irecv under way, which is noted when somebody has waited for it.   started, wanted: see Traced.note_receive"""

    def __init__(self, comm, request, started, wanted):
        self.comm, self.request, self.started, self.wanted = comm, request, started, wanted

    def wait(self):
        began = self.comm.log.clock()
        message = self.request.wait()
        self.note(message, began)
        return message

    def note(self, message, began):
        self.comm.note_receive(message, self.started, began, self.wanted)


def _size(argument):
    """Bytes of an array, or of a list of arrays; 0 for anything else."""
    parts = argument if isinstance(argument, (list, tuple)) else (argument,)
    return sum(getattr(part, "nbytes", 0) for part in parts)


def _traced(kind):
    def call(self, *arguments, **options):
        return self._meet(kind, arguments, options)

    call.__name__ = kind
    return call


for _kind in COLLECTIVES:
    setattr(Traced, _kind, _traced(_kind))
