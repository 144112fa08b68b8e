"""The watchdog: a thread in each process of a job that ends the job when it no longer goes on.

Every beat each thread tells rank 0 what its rank is doing, and for how long it has made no progress.  When a rank makes
none for the whole timeout, or is not heard for as long, rank 0 has all ranks print their stacks, says in one line who
waits in what and who was not heard, and ends the job.  If rank 0 itself is not well, the next rank that is does it.
The others stay until rank 0 has written and drawn what is left, and watch that it lives.
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
from dsgd.mpi.launch import abort, launched
from dsgd.mpi.waiting import wait_until

PARENT = os.getppid()
CODE = 75  # a rank was lost or did not answer
QUICK = 2e-3  # s between two looks for the others' good-byes
ALARM, DISMISSAL, BYE = b"alarm", b"dismissal", b""  # all other messages are reports
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
        self.carrier, self.thread = threading.get_ident(), threading.Thread(target=self._watch, daemon=True)
        # The block was left by an error; it was left in peace; all peers have left theirs.
        self.over, self.leaving, self.done = threading.Event(), threading.Event(), threading.Event()

    def __enter__(self):
        ACTIVITY.step, ACTIVITY.last, ACTIVITY.over, ACTIVITY.lost = None, None, False, set()
        self.thread.start()

    def __exit__(self, error, *_):
        if error or not self.talks:
            self.over.set()
        self.leaving.set()
        if error:  # the others may never come here
            return self.thread.join()
        if not self.talks:
            self.thread.join()
            self._say_goodbye()
            wait_until(lambda: self._mail() or self.left == set(self.peers))
            self.done.set()
        while not self.done.wait(1.0):  # rank 0 may have a picture to draw; a signal is handled meanwhile
            pass
        if not ACTIVITY.lost:  # otherwise not all ranks come here
            for request, _ in self.sending:
                request.Wait()
            self.world.Free()

    # --- in the thread

    def _watch(self):
        try:
            self._watch_on()
        except Exception as error:  # a job that nobody watches any more is ended rather than left to hang
            self._end(f"the watchdog of rank {self.rank} failed ({error!r})")

    def _watch_on(self):
        before, due, parting = time.monotonic(), 0.0, False
        while not self.over.is_set():
            if self.leaving.wait(self.beat):
                time.sleep(QUICK)  # the others' good-byes are looked for more often
            now = time.monotonic()
            if self.leaving.is_set() and not parting:
                self.silent, parting = dict.fromkeys(self.peers, 0.0), True
                if self.rank == 0 and self.talks:
                    self._say_goodbye()
            self._look(min(now - before, 2 * self.beat))  # more is time in which this process was stopped
            before = now
            if parting and self.talks and self.left == set(self.peers):
                if self.rank:  # rank 0 speaks first, the others answer
                    self._say_goodbye()
                return self.done.set()
            if now >= due:
                due = now + self.beat
                self._beat(parting)

    def _beat(self, parting):
        """Tell how this rank is doing, and judge how the others are."""
        if self.talks and self.rank:
            self._report(0, [self.still, ACTIVITY.describe(self.still)])
            lost = max(self.still, self.silent[0] if parting else 0.0) > self.limit + self.grace
            if lost and not self.over.wait(2 * self.beat * self.rank):
                self._end(f"rank 0 did not answer; rank {self.rank} {ACTIVITY.describe(self.still)}")
        elif self.talks and max(self.still, self.longest, *self._silence()) > self.limit:
            self._alarm()
        elif self.talks and ACTIVITY.over and not parting:
            for peer in self.peers:  # they wait for rank 0, and want to know that it lives
                self._report(peer, [0.0, "is not done yet"])
        elif self.still > self.limit and not self.over.wait(2 * self.beat * self.rank):
            self._end(f"rank {self.rank} {ACTIVITY.describe(self.still)}; this MPI lets no thread ask the others")

    def _say_goodbye(self):
        for peer in self.peers:
            self._send(BYE, peer)

    def _look(self, past):
        """Look after `past` seconds at this rank, its launcher and its mail."""
        if launched()[0] and os.getppid() != PARENT:
            with suppress(OSError):  # nobody may be left to read it
                if self.rank == 0:
                    say(
                        "the launcher has gone, so the job ends; --resume goes on from the last checkpoint, if there is one"
                    )
            os._exit(CODE)
        self.still = self.still + past if ACTIVITY.calls == self.calls and not ACTIVITY.over else 0.0
        self.calls = ACTIVITY.calls
        for peer in self.peers:
            self.silent[peer] += past
        self.longest = 0.0
        for peer in ACTIVITY.lost.intersection(self.peers) - self.left:  # the run goes on without it
            self._send(DISMISSAL, peer)
            self.left.add(peer)
            self.reports[peer] = "was given up"
        if self.talks:
            self._mail()
        if self.still > self.limit + self.grace:
            self._show()

    def _mail(self):
        while found := self.world.Improbe(MPI.ANY_SOURCE, MPI.ANY_TAG, status := MPI.Status()):
            self._take(found, status)

    def _report(self, peer, report):
        self.sending = [(request, data) for request, data in self.sending if not request.Test()]
        if len(self.sending) < len(self.peers):  # peers that do not listen get no more
            self._send(json.dumps(report).encode(), peer)

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
        elif data == DISMISSAL:
            self.limit = float("inf")  # nobody waits for this rank, and it may wait for the end of the job
        elif peer not in ACTIVITY.lost:
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
            f"no progress for {self.limit:g} s (--timeout): {text}; the job ends, --resume goes on from its last checkpoint, if there is one"
        )
        abort(CODE)


def _phrase(text, ranks):
    """ "rank 3 waits in …", or "ranks 1, 2, 3 wait in …"."""
    if len(ranks) == 1:
        return f"rank {ranks[0]} {text}"
    verb, _, rest = text.partition(" ")
    names = ", ".join(map(str, ranks[:10])) + (f" and {len(ranks) - 10} more" if len(ranks) > 10 else "")
    return f"ranks {names} {PLURAL[verb]} {rest}"
