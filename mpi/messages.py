"""The communicator's messages from rank to rank, each of them one MPI message of bytes (see wire.py), or two.

A long message passes from memory to memory while both ranks attend to it: its sender must not sleep then, and should
sleep before, if ranks outnumber cores.  So the head goes ahead as a synchronous send, which is done once somebody
receives it, and the data follow when sender and receiver are both there.
"""

import time

import numpy as np
from mpi4py import MPI

from dsgd.arrays import readonly
from dsgd.comm import ANY_SOURCE, ANY_TAG, Header, Message, Roles, require
from dsgd.costs import Sent
from dsgd.errors import PeerError
from dsgd.mpi.activity import ACTIVITY, noting
from dsgd.mpi.requests import NEVER, RecvRequest, SendRequest
from dsgd.mpi.waiting import wait_until
from dsgd.mpi.wire import HEAD, TAGS, announced, decode, encode
from dsgd.pool import Pool

LONG = 4096  # bytes; shorter messages are sent whether or not somebody receives them


class Messages:
    """The part of MPIComm that is about one rank and another.  Arguments: see there."""

    def __init__(self, world, roles, dtype, sent, crowded):
        self._world, self.rank, self.size = world, world.rank, world.size
        roles = roles or Roles(tuple(range(self.size)), ())
        self.workers, self.servers = roles.workers, roles.servers
        self.worker = roles.number.get(self.rank)
        self.place = tuple(range(self.size))
        self.dtype, self.crowded = np.dtype(dtype), crowded
        self.sent = sent or Sent()
        self.posted = []  # receives without their message, in the order in which they were started
        self._unclaimed = []  # messages that came before their receive was posted, in order
        self._data, self._long = world.Dup() if crowded else None, 0  # for data that come apart; so many were sent
        self._pool = Pool(np.empty)
        self._began = MPI.Wtime()

    def empty(self, n):
        return np.empty(n, self.dtype)

    def replica(self, n):
        return np.empty(n, self.dtype)

    def copy(self, x):
        return self._pool.copy(x)

    def clock(self):
        return MPI.Wtime() - self._began

    def compute(self, work, step, flops, unless=None, part=1):
        ACTIVITY.step = step + 1
        ACTIVITY.calls += 1
        return work()

    def isend(self, x, dest, tag=0, header=Header()):
        require(x)
        self.sent.add(1, x.nbytes)
        if self.crowded and x.nbytes > LONG:
            return self._isend_apart(x, dest, tag, header)
        words = encode(x, header)
        if not x.nbytes:
            return SendRequest(self, self._world.Isend([words, MPI.INT64_T], self.place[dest], tag), dest, words)
        pieces = MPI.BYTE.Create_hindexed([HEAD, x.nbytes], [MPI.Get_address(words), MPI.Get_address(x)]).Commit()
        request = self._world.Isend([MPI.BOTTOM, 1, pieces], self.place[dest], tag)
        pieces.Free()  # MPI keeps it until the send is done
        return SendRequest(self, request, dest, words, x)

    def _isend_apart(self, x, dest, tag, header):
        self._long += 1
        words = encode(x, header, (x.nbytes, self._long % TAGS))
        data = self._data.Isend([x, MPI.BYTE], self.place[dest], self._long % TAGS)
        request = self._world.Issend([words, MPI.INT64_T], self.place[dest], tag)
        return SendRequest(self, request, dest, words, x, then=data)

    def send(self, x, dest, tag=0, header=Header()):
        self.isend(x, dest, tag, header).wait()

    def recv(self, source=ANY_SOURCE, tag=ANY_TAG, timeout=None):
        request = self.irecv(source, tag)
        message = request.wait(NEVER if timeout is None else time.monotonic() + timeout)
        if message is not None:
            return message
        self.posted.remove(request)
        peer = "anyone" if source == ANY_SOURCE else f"rank {source}"
        raise PeerError(f"rank {self.rank}: nothing came within {timeout} s from {peer}")

    def irecv(self, source=ANY_SOURCE, tag=ANY_TAG):
        request = RecvRequest(self, source, tag)
        for i, message in enumerate(self._unclaimed):
            if request.matches(message):
                request.message = self._unclaimed.pop(i)
                return request
        self.posted.append(request)
        return request

    def wait_any(self, requests):
        with noting("wait_any of", f"{len(requests)} requests"):
            wait_until(lambda: any(request.test() for request in requests))
        i = next(i for i, request in enumerate(requests) if request.test())
        return i, requests[i].wait()

    def progress(self, wait=False):
        """Take one message off the network for the receives that are posted, if there is one or once there is.

        A receive on its own probes for its messages and leaves the others with their senders.  Among several, the
        order in which all messages come decides who gets which, so all are taken, and kept if nobody claims them.
        """
        first, *others = self.posted
        source = MPI.ANY_SOURCE if others or first.source == ANY_SOURCE else self.place[first.source]
        tag = MPI.ANY_TAG if others or first.tag == ANY_TAG else first.tag
        found = (self._world.Mprobe if wait else self._world.Improbe)(source, tag, status := MPI.Status())
        if found is None:
            return
        message = self._receive(found, status)
        for request in self.posted:
            if request.matches(message):
                request.message = message
                return self.posted.remove(request)
        self._unclaimed.append(message)

    def _receive(self, found, status):
        buffer = self._pool.take(status.Get_count(MPI.BYTE), np.dtype(np.uint8))
        found.Recv([buffer, MPI.BYTE], status)
        nbytes, tag = announced(buffer, apart=self.crowded)
        if nbytes:
            head, buffer = buffer, self._pool.take(HEAD + nbytes, np.dtype(np.uint8))
            buffer[:HEAD] = head
            self._data.Recv([buffer[HEAD:], MPI.BYTE], status.Get_source(), tag)
        header, data = decode(buffer)
        return Message(readonly(data), self.place.index(status.Get_source()), status.Get_tag(), header)
