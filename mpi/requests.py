"""Sends and receives under way, and waiting for them."""

import time

from dsgd.comm import ANY_SOURCE, ANY_TAG


def poll(done, end=float("inf")):
    """Ask done() until it holds, ever less often; returns whether that was before the time `end`."""
    pause = 1e-5
    while not (held := done()) and time.monotonic() < end:
        time.sleep(pause)
        pause = min(2 * pause, 1e-3)
    return held


class SendRequest:
    def __init__(self, comm, request, *alive):
        self.comm, self.request, self.alive = comm, request, alive  # the buffers must live until the send is done

    def test(self):
        if self.comm.posted:  # the peer may first have to get rid of what these receive
            self.comm.progress()
        return self.request.Test()

    def wait(self):
        if self.comm.posted:
            poll(self.test)
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

    def wait(self):
        while self.message is None:
            self.comm.progress(wait=True)
        return self.message
