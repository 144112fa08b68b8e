"""What the first server does next: from the pushes and pulls that have come, by the consistency model.

    a push comes      → it is taken, dropped if it is late, or rejected if it is not finite or no vector like x
    K are together    → update
    a worker is lost  → the others go on, and who waited for its push waits no more
    a pull waits      → it is answered as soon as the model releases the worker, and the budget has a push for it
    all pulls wait    → update with what there is, or stand still: a cut, where a run can be saved, or end

A run has N · steps pushes (steps updates, if they are rounds; steps pushes of each worker, if they are clocks; fewer, if a
push has several gradients); between two cuts there are as many as `--checkpoint-every` steps have.  Once somebody wishes
to stop, the next whole step is a cut.

Reference: Li et al. 2014 (OSDI), section 3.5, tasks wait for those they depend on, at the server.
Exact when: the order of arrival is the same: then the actions are the same.
"""

from collections import Counter, deque

import numpy as np

from dsgd.algorithms.admission import fault, refuse
from dsgd.algorithms.consistency import Progress
from dsgd.algorithms.server import ANSWER, DROP, LOSE, MEAN, REJECT, STAND, TAKE, UPDATE
from dsgd.errors import NonFiniteGradient, PeerError
from dsgd.state import STOP


class Decider:
    """The source of the first server's actions.

    Args:
        between: steps from one cut to the next.  steps: in the whole run.  own: State.own, for what outlasts a cut.
    """

    def __init__(self, local, model, workers, *, between, steps, own, t):
        self.local, self.model = local, model
        self.between, self.steps = (count // (model.gradients * model.pushes) for count in (between, steps))
        # pushes of each worker that were handled
        self._clocks = own.setdefault("clocks", np.full(workers, t))
        self.clocks = dict(enumerate(self._clocks.tolist()))
        self._line_up()
        self.unit = workers * model.pushes if model.of == "any" else 1
        self.actions, self.undecided = deque(), deque()
        self.groups, self.collected = {}, Counter()  # pushes that wait for others, and how many are of each worker
        self.rejected = {}  # clock -> the workers whose push of it was rejected
        self.computing = Counter()  # worker -> its pushes that are granted, and have not come
        self.stopping = False
        self.seen, self.fresh = None, []  # what the last look at all pulls was based on; pulls since
        self.goal = self.granted = None  # set when the workers start
        self.in_a_row = 0  # pushes rejected since one was good
        self.bound = model.bound  # a controller may change it

    def start(self):
        """All workers begin to compute."""

    def came(self, worker, key):
        """A push is there."""
        self.computing[worker] -= 1
        self.undecided.append((worker, key))

    def asked(self, worker):
        """A pull waits."""
        self.fresh.append(worker)

    def lose(self, server, worker):
        """A worker has been silent for too long: it is given up, and the others do the pushes that it would have made.

        Raises:
            PeerError: the model waits for every worker, or this was the last one.
        """
        if self.goal is None:
            self._start(server)
        rank, seconds = server.comm.workers[worker], server.patience.seconds
        text = f"worker {worker} (rank {rank}) was answered, and has asked for nothing in {seconds:g} s (patience)"
        del self.clocks[worker]
        if self.model.synchronous or not self.clocks:
            why = "every worker is waited for" if self.clocks else "nobody is left"
            raise PeerError(
                f"{text}; {why}, so the run ends; --resume goes on from its last checkpoint, if there is one"
            )
        self.local.order.tell(f"{text}: it is given up, and the run goes on with the other {len(self.clocks)}")
        self.actions.append((LOSE, worker, 0, 1))
        self._line_up()
        self.granted -= self.computing[worker]
        self.seen = None  # look at all who wait
        for key in sorted(self.groups):
            if self._complete(key):
                self._together(key)

    def next(self, server):
        """The next action, or None if there is nothing to do until a message comes."""
        if self.goal is None:
            self._start(server)
        if not self.actions:
            self._decide(server)
        return self.actions.popleft() if self.actions else None

    def _start(self, server):
        """All workers start, each with the pushes that one pull grants."""
        done = self._done(server)
        self.goal = min((done // self.unit // self.between + 1) * self.between, self.steps) * self.unit
        self.granted = server.handled + len(self.clocks) * self.model.pushes
        self.computing.update(dict.fromkeys(self.clocks, self.model.pushes))

    def _done(self, server):
        return server.handled if self.model.of == "any" else server.version

    def _decide(self, server):
        if self.undecided:
            return self._sort(server, *self.undecided.popleft())
        for worker in self._released(server):
            self.granted += self.model.pushes
            self.computing[worker] += self.model.pushes
            self.actions.append((ANSWER, worker, 0, 0))
        if self.actions or not self._quiet(server):
            return
        if self.groups:
            return self._together(min(self.groups))
        first = next(iter(self.clocks))
        for worker in server.lost:  # in a run that is resumed here, it comes back as if it were the first of the others
            self._clocks[worker] = self.clocks[first]
        self.actions.append((STAND, 0, 0, int(self.stopping)))
        self.goal = self.seen = None

    def _quiet(self, server):
        """Whether nobody computes anything that will be applied."""
        return len(server.waiting) == len(self.clocks) or self.model.cancel and server.version == self.goal

    def _sort(self, server, worker, key):
        """What is done with a push."""
        message = server.pushes[worker, key]
        self._tick(worker)
        problem = None if self.model.synchronous else fault(message.data, server.whole)
        if problem:
            return self._reject(server, worker, key, problem)
        self.in_a_row = 0
        if message.data[STOP] or self.local.wish:
            self._stop(server)
        if self.model.of == "round" and message.header.version < server.version:
            return self.actions.append((DROP, worker, key, 0))
        group = self.groups.setdefault(MEAN if self.model.of == "any" else key, [])
        group.append((worker, key))
        self.collected[worker] += 1
        group_key = key if self.model.of == "clock" else next(iter(self.groups))
        if self._complete(group_key):
            self._together(group_key)

    def _line_up(self):
        self.at = Counter(self.clocks.values())  # clock -> how many workers are there
        self.slowest = min(self.at)

    def _tick(self, worker):
        """A push more of this worker."""
        clock = self.clocks[worker]
        self.clocks[worker] = self._clocks[worker] = clock + 1
        self.at[clock] -= 1
        self.at[clock + 1] += 1
        while not self.at[self.slowest]:
            self.slowest += 1

    def _complete(self, key):
        """Whether the pushes of a group make an update: all that there can be, once workers were given up."""
        group = self.groups[key]
        if self.model.of == "clock":
            rejected = self.rejected.get(key, set())
            if len(group) + len(rejected) < len(self.clocks):
                return False
            return self.clocks.keys() <= {worker for worker, _ in group} | rejected
        return len(group) >= min(self.model.collect, len(self.clocks))

    def _together(self, key):
        """The pushes of a group make an update."""
        for worker, push in self.groups.pop(key):
            self.collected[worker] -= 1
            self.actions.append((TAKE, worker, push, 0))
        self.rejected.pop(key, None)
        self.actions.append((UPDATE, 0, key, 0))

    def _reject(self, server, worker, key, problem):
        self.in_a_row += 1
        if self.in_a_row >= len(self.clocks):
            refuse(server, server.pushes[worker, key])
            raise NonFiniteGradient(self.local.describe_push(server.pushes[worker, key]))
        self.local.order.reject(worker, problem)
        self.actions.append((REJECT, worker, key, 0))
        if self.model.of == "clock":
            self.rejected.setdefault(key, set()).add(worker)
            if key in self.groups and self._complete(key):
                self._together(key)

    def _stop(self, server):
        """The step under way is the last: as many pushes are granted as it still has."""
        if not self.stopping:
            self.stopping = True
            begun = self.granted if self.model.of == "any" else server.version + 1
            if self.model.of == "clock" or self.model.exchange:
                begun = max(n + (worker not in server.waiting) for worker, n in self.clocks.items()) * self.unit
            self.goal = min(self.goal, -(-begun // self.unit) * self.unit)

    def _released(self, server):
        """The workers that may go on, of those that wait; under `cancel` all of them may, with a new version."""
        changes = {"version": server.version, "slowest": self.slowest, "handled": server.handled, None: 0}
        before, self.seen = self.seen, changes[self.model.until]
        if self.seen == before and not self.fresh:
            return
        fresh, self.fresh = self.fresh, []
        if self.seen == before:
            waiting = [worker for worker in fresh if worker in server.waiting]
        else:
            waiting = list(self.clocks if self.model.cancel else server.waiting)
        clocks, collected, draw = self.clocks, self.collected, self.local.draw
        now = Progress(clocks, self.slowest, server.version, server.held, collected, draw, self.bound)
        for worker in waiting:
            if self._begun(server, worker) < self.goal and self.model.release(worker, now):
                yield worker

    def _begun(self, server, worker):
        """How much of the goal is granted, as far as this worker is concerned."""
        if self.model.of == "clock" or self.model.exchange:
            return self.clocks[worker] * self.unit
        return self.granted if self.model.of == "any" else server.version
