"""The world of the simulated ranks: who runs, who waits for what, and what happens when."""

from contextlib import suppress

import numpy as np

from dsgd.comm import Roles
from dsgd.errors import UsageError, user_line
from dsgd.faults import NETWORK, Faults
from dsgd.network import Network
from dsgd.pool import Pool
from dsgd.simulator.comm import SimComm
from dsgd.simulator.effects import Deadlock
from dsgd.simulator.group import Group
from dsgd.simulator.kernel import Kernel
from dsgd.simulator.lossy import LossyComm
from dsgd.simulator.network import Card
from dsgd.simulator.processes import Processes, blocks
from dsgd.simulator.tasks import CARRIERS, Raise
from dsgd.simulator.transport import Transport
from dsgd.timing import make_timing
from dsgd.traced import Log, Room, Traced

BACKEND = (
    "dsgd.simulator.",
    "dsgd.collectives",
    "dsgd.local",
    "dsgd.traced",
    "threading",
)  # modules that no user wrote


class World:
    """Hosts `size` ranks.

    Args:
        roles: comm.Roles of the ranks; all are workers by default.
        network: what messages cost.
        timing: what gradients cost, as timing.make_timing gives it.
        shuffle: a seed; simultaneous events then happen in random order.  One process only: UsageError with a link.
        carrier: "greenlet", or "thread" for debuggers that cannot follow greenlets.
        check: hash every buffer on its way, and name who changed one.
        trace: keep every effect in `trace`, a list of (time, effect).
        start: virtual time at which the ranks start, s.
        faults: faults.Faults, of which the world has those of time and messages (see transport.py); None for none.
        timeline: whether the communicators note what their ranks do (see traced.py).
        reduction: "tree", the written order, or how else the ranks all-reduce: a name in collectives.REDUCTIONS.
        link: to the other processes that host ranks of this world (see processes.py); None if this one hosts all.
    """

    def __init__(
        self,
        size,
        *,
        roles=None,
        network=None,
        timing=None,
        dtype=np.float64,
        shuffle=None,
        carrier="greenlet",
        check=False,
        trace=False,
        timeline=False,
        start=0.0,
        reduction="tree",
        faults=None,
        link=None,
    ):
        if link and shuffle is not None:
            error = UsageError(
                f"world={{'shuffle': {shuffle!r}}} cannot be simulated by {link.processes} processes together, whose events have "
                "one order; start it without mpirun"
            )
            error.agreed = True
            raise error
        self.size, self.dtype = size, np.dtype(dtype)
        self.roles = roles or Roles(tuple(range(size)), ())
        self.network, self.timing = network or Network(), timing or make_timing("flops")
        self.kernel = Kernel(start, shuffle)
        self.processes, self.process = link and Processes(self, link), link.process if link else 0
        self.place = blocks(size, link.processes if link else 1)  # rank -> the process that hosts it
        self.ranks = [rank for rank in range(size) if self.place[rank] == self.process]  # those of this process
        self.cards = [Card(start) for _ in range(size)]
        self.pool = Pool(np.empty)
        self.trace, self.timeline = [] if trace else None, Room() if timeline else None
        self.check, self.faults = check, faults or Faults()
        self.transport = Transport(self) if self.faults.of(*NETWORK) else None  # without faults nothing needs one
        self.tasks = [None] * size
        self.given_up = set()  # ranks that nobody waits for any more
        self.waits = [None] * size  # the effect in which each rank is suspended
        self._carrier, self._reduction = CARRIERS[carrier], reduction
        self._everyone = Group(self, tuple(range(size)), self.network, "ranks")
        self._observers = Group(self, tuple(range(size)), None, "observers")

    def comm(self, rank):
        """The communicator of one rank."""
        kind = LossyComm if self.transport else SimComm
        if not self.timeline:
            return kind(self._everyone, rank, self.roles, self._reduction)
        comm = type(kind.__name__, (Traced, kind), {})(self._everyone, rank, self.roles, self._reduction)
        return comm.note_to(Log(comm.clock, self.timeline))

    def observer(self, rank):
        """For watching and saving a run: no network time and no trace, only that the ranks wait for each other."""
        return SimComm(self._observers, rank, self.roles)

    def run(self, main):
        """Run main(rank) on every rank until all have returned; returns [result of rank 0, ...], None for ranks elsewhere.

        Raises:
            Deadlock: nothing is left to happen and some ranks wait.
            Exception: whatever a rank raised, with its rank and the virtual time as a note.
        """
        results = [None] * self.size

        def carry(rank):
            try:
                results[rank] = main(rank)
            except Exception as error:
                error.add_note(f"raised on rank {rank} at virtual time {self.kernel.now:.9g} s")
                raise
            self.tasks[rank] = None

        for rank in self.ranks:
            self.tasks[rank] = self._carrier(lambda rank=rank: carry(rank))
            self.kernel.at(self.kernel.now, self.resume, rank, None)
        try:
            (self.processes or self.kernel).run()
            waiting = [(rank, str(self.waits[rank]), self.line(task.frame)) for rank, task in self._waiting()]
            self._refuse(self.processes.gather(waiting) if self.processes else waiting)
        finally:
            for task in filter(None, self.tasks):
                with suppress(Exception):  # what a rank raises because it is ended is not why the run failed
                    task.kill()
        return results

    def resume(self, rank, value):
        """Let a suspended rank go on, with what it waited for."""
        self.tasks[rank].resume(value)

    def fail(self, rank, error):
        """Let a suspended rank go on with an error."""
        self.tasks[rank].resume(Raise(error))

    def suspend(self, rank, effect):
        """Called on a rank: wait, in `effect`, until the world resumes it; returns what it waited for."""
        self.waits[rank] = effect
        return self.tasks[rank].suspend()

    def note(self, effect):
        """Put an effect in the trace."""
        if self.trace is not None:
            self.trace.append((self.kernel.now, effect))

    def line(self, frame):
        """file:line of the first frame outside the backend: what the user wrote."""
        return user_line(frame, BACKEND)

    def _waiting(self):
        return [(rank, task) for rank, task in enumerate(self.tasks) if task and rank not in self.given_up]

    def _refuse(self, waiting):
        """Raise Deadlock if ranks wait, though nothing is left to happen.   waiting: [(rank, effect, line)] of all processes"""
        if not waiting:
            return
        shown = [f"  rank {rank} waits in {effect}\n    {line}" for rank, effect, line in waiting[:20]]
        rest = [f"  ... and {len(waiting) - 20} more"] if len(waiting) > 20 else []
        now = self.kernel.now
        head = f"nothing is left to happen at virtual time {now:.9g} s, but {len(waiting)} of {self.size} ranks wait:"
        error = Deadlock("\n".join([head, *shown, *rest]))
        error.agreed = self.processes is not None
        raise error


def simulate(program, size, **options):
    """[program(comm) for every rank of a World(size, **options)], run side by side.

    >>> import numpy as np
    >>> def pass_on(comm):
    ...     comm.isend(np.full(2, 10.0 * comm.rank), dest=(comm.rank + 1) % comm.size).wait()
    ...     return comm.recv().data, comm.clock()
    >>> simulate(pass_on, 3, network=Network(latency=1.0, bandwidth=16.0))  # 1 s + 16 bytes
    [(array([20., 20.]), 2.0), (array([0., 0.]), 2.0), (array([10., 10.]), 2.0)]
    """
    world = World(size, **options)
    return world.run(lambda rank: program(world.comm(rank)))
