"""The watchdog: a thread in each process of a job that ends the job when it no longer goes on.

Every beat each thread tells rank 0 what its rank is doing, and for how long it has made no progress.  When a rank makes
none for the whole timeout, or is not heard for as long, rank 0 has all ranks print their stacks, says in one line who
waits in what and who was not heard, and ends the job.  If rank 0 itself is not well, the next rank that is does it.
"""

import json
import os
import sys
import threading
import time
import traceback
from contextlib import suppress

from mpi4py import MPI

from dsgd.command import say
from dsgd.mpi.activity import ACTIVITY
from dsgd.mpi.launch import abort

PARENT = os.getppid()
CODE = 75  # a rank was lost or did not answer
ALARM, BYE = b"alarm", b""  # all other messages are reports
PLURAL = {"waits": "wait", "has": "have", "was": "were"}


class Watchdog:
    """with Watchdog(world, timeout): this rank, which this thread carries, is watched.

    Args:
        world: an mpi4py communicator of its own.  timeout: s without progress; 0 for any time, though a rank whose
            launcher has gone still ends.
    """

    def __init__(self, world, timeout):
        self.world, self.rank, self.limit = world, world.rank, timeout or float("inf")
        self.beat = min(self.limit / 8, 1.0)  # s
        self.grace = 1 + 4 * self.beat  # s that rank 0 has to answer
        self.peers = [0] if self.rank else list(range(1, world.size))
        self.left = set()  # peers whose watch is over
        self.reports = {peer: "was not heard" for peer in self.peers}
        self.silent = dict.fromkeys(self.peers, 0.0)  # s since the last message
        self.still, self.longest = 0.0, 0.0  # s without progress: of this rank, the longest in the reports
        self.calls, self.shown = -1, False
        self.talks = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self.sending = []  # (request, data) of messages under way
        self.carrier, self.over = threading.get_ident(), threading.Event()
        self.thread = threading.Thread(target=self._watch, name="dsgd watchdog", daemon=True)

    def __enter__(self):
        ACTIVITY.step = ACTIVITY.last = None
        self.thread.start()

    def __exit__(self, error, *_):
        self.over.set()
        self.thread.join()
        if error:  # the others may never come here
            return
        for peer in self.peers:
            self._send(BYE, peer)
        while self.left != set(self.peers):
            self._take(self.world.Mprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status := MPI.Status()), status)
        for request, _ in self.sending:
            request.Wait()
        self.world.Free()

    # --- in the thread

    def _watch(self):
        before = time.monotonic()
        while not self.over.wait(self.beat):
            before, past = time.monotonic(), time.monotonic() - before
            self._look(min(past, 2 * self.beat))  # more is time in which this process was stopped
            if self.talks and self.rank:
                self._report()
                silent = self.still > self.limit + self.grace
                if silent and not self.over.wait(2 * self.beat * self.rank):
                    self._end(f"rank 0 did not answer; rank {self.rank} {ACTIVITY.describe(self.still)}")
            elif self.talks and max(self.still, self.longest, *self._silence()) > self.limit:
                self._alarm()
            elif self.still > self.limit and not self.over.wait(2 * self.beat * self.rank):
                self._end(f"rank {self.rank} {ACTIVITY.describe(self.still)}; this MPI lets no thread ask the others")

    def _look(self, past):
        """Look after `past` seconds at this rank, its launcher and its mail."""
        if os.getppid() != PARENT:
            with suppress(OSError):  # nobody may be left to read it
                if self.rank == 0:
                    say("the launcher has gone, so the job ends; --resume goes on from the last checkpoint")
            os._exit(CODE)
        self.still = self.still + past if ACTIVITY.calls == self.calls else 0.0
        self.calls = ACTIVITY.calls
        for peer in self.peers:
            self.silent[peer] += past
        self.longest = 0.0
        while self.talks and (found := self.world.Improbe(MPI.ANY_SOURCE, MPI.ANY_TAG, status := MPI.Status())):
            self._take(found, status)
        if self.still > self.limit + self.grace:
            self._show()

    def _report(self):
        self.sending = [(request, data) for request, data in self.sending if not request.Test()]
        if not self.sending:  # a peer that does not listen gets no more
            self._send(json.dumps([self.still, ACTIVITY.describe(self.still)]).encode(), 0)

    def _send(self, data, peer):
        self.sending.append((self.world.Isend([data, MPI.BYTE], peer), data))

    def _take(self, found, status):
        """Read a message of a peer."""
        data, peer = bytearray(status.Get_count(MPI.BYTE)), status.Get_source()
        found.Recv([data, MPI.BYTE])
        self.silent[peer] = 0.0
        if data == BYE:
            self.left.add(peer)
            self.reports[peer] = "has finished"
        elif data == ALARM:
            self._show()
        else:
            still, self.reports[peer] = json.loads(data)
            self.longest = max(self.longest, still)

    def _silence(self):
        """[s since the last message of each peer that should send some]"""
        return [silent for peer, silent in self.silent.items() if peer not in self.left]

    def _alarm(self):
        """On rank 0: everyone shows where it is; one line for all; the end."""
        for peer in self.peers:
            self._send(ALARM, peer)
        self._show()
        for _ in range(3):
            if self.over.wait(self.beat):
                return
            self._look(self.beat)
        self._end(self._summary())

    def _summary(self):
        """Who waits in what, and who was not heard: "rank 0 waits in allreduce 37, step 12; rank 1 was last heard 41 s ago"."""
        ranks = {ACTIVITY.describe(self.still): [0]}
        for peer in self.peers:
            lost = self.silent[peer] > 3.5 * self.beat and peer not in self.left
            text = f"was last heard {self.silent[peer]:.0f} s ago" if lost else self.reports[peer]
            ranks.setdefault(text, []).append(peer)
        return "; ".join(_phrase(*item) for item in ranks.items())

    def _show(self):
        """Print this rank's stack and what it is doing, once."""
        if self.shown:
            return
        self.shown = True
        stack = traceback.format_stack(sys._current_frames()[self.carrier])
        lines = [*"".join(stack).splitlines(), _phrase(ACTIVITY.describe(self.still), [self.rank])]
        sys.stderr.write("".join(f"[rank {self.rank}] {line}\n" for line in lines))
        sys.stderr.flush()

    def _end(self, text):
        say(
            f"no progress for {self.limit:g} s (--timeout): {text}; the job ends, --resume goes on from its last checkpoint"
        )
        abort(CODE)


def _phrase(text, ranks):
    """ "rank 3 waits in …", or "ranks 1, 2, 3 wait in …"."""
    if len(ranks) == 1:
        return f"rank {ranks[0]} {text}"
    verb, _, rest = text.partition(" ")
    names = ", ".join(map(str, ranks[:10])) + (f" and {len(ranks) - 10} more" if len(ranks) > 10 else "")
    return f"ranks {names} {PLURAL[verb]} {rest}"
