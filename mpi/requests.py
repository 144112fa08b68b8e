"""Sends and receives under way, and waiting for them."""

from dsgd.comm import ANY_SOURCE, ANY_TAG
from dsgd.mpi.activity import noting
from dsgd.mpi.waiting import wait_until

NEVER = float("inf")


class Done:
    """A request that was done when it was made."""

    def __init__(self, result):
        self.result = result

    def test(self):
        return True

    def wait(self):
        return self.result


class SendRequest:
    """A send under way.   alive: buffers that must live until it is done.   then: the request of data that come apart"""

    def __init__(self, comm, request, dest, *alive, then=None):
        self.comm, self.request, self.dest, self.alive, self.then = comm, request, dest, alive, then

    def test(self):
        if self.comm.posted:  # the peer may first have to get rid of what these receive
            self.comm.progress()
        if not self.request.Test():
            return False
        if self.then:
            self.then.Wait()  # the receiver is there
        return True

    def wait(self):
        with noting("send to rank", self.dest):
            if self.comm.posted or self.comm.crowded:
                wait_until(self.test)
            self.request.Wait()
        self.alive = None


class RecvRequest:
    """A receive whose length is not known: MPI is not told of it, its message is probed for."""

    def __init__(self, comm, source, tag):
        self.comm, self.source, self.tag, self.message = comm, source, tag, None

    def matches(self, message):
        return self.source in (ANY_SOURCE, message.source) and self.tag in (ANY_TAG, message.tag)

    def test(self):
        if self.message is None:
            self.comm.progress()
        return self.message is not None

    def wait(self, end=NEVER):
        """The message; None if it has not come by the time `end`."""
        with noting("recv from", "anyone" if self.source == ANY_SOURCE else f"rank {self.source}"):
            if self.comm.crowded or end < NEVER:
                wait_until(self.test, end)
            else:
                while self.message is None:
                    self.comm.progress(wait=True)
        return self.message
