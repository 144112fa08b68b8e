"""A controller on the first server: what it sees at each clock, and when it may change settings.

    settings ← controller(records)      where a step ends with an update, before anyone goes on

What it changes is in the order of the run, as {"set": settings, "step": t}: a replay takes it from there, and does not
ask the controller.  Records and settings are saved with the run, so that one that is resumed goes on with them.

Reference: Zhao et al. 2019 (arXiv 1908.11848), a server that moves the bound of ssp while the run goes on.
Exact when: the controller changes nothing: the run is the one without it.
"""

import math

import numpy as np

from dsgd.algorithms.server import ANSWER, DROP, REJECT, SET, TAKE, UPDATE
from dsgd.algorithms.settings import check_settings, unpack, unsettable
from dsgd.errors import ControllerError
from dsgd.state import LOSS, SAMPLES

WINDOW = 100  # records that are kept
NUMBERS = ("step", "time", "loss", "staleness", "lr", "bound")
ARRAYS = ("seconds", "samples", "waited", "shares")
WAITED = ARRAYS.index("waited")


class Controlled:
    """The source of the first server's actions, a Decider, and between them those of a controller.

    Args:
        local: with a controller, (name, function).  own: State.own, for what outlasts a cut.

    Attributes:
        records: [{name: value}] of the last clocks; dsgd.controllers says what is in them.
    """

    def __init__(self, decider, local, model, workers, *, own, t):
        self.decider, self.model, self.workers, self.own = decider, model, workers, own
        self.name, self.controller = local.controller
        self.clock, self.splits = local.comm.clock, local.sampler.splits
        even = {"lr": 1.0, "bound": model.bound, "shares": [1 / workers] * workers}
        self.settings = even | unpack(own.get("settings"))
        decider.bound = self.settings["bound"]
        width = len(NUMBERS) + len(ARRAYS) * workers
        self.records = [self._record(row) for row in own.setdefault("records", np.empty((0, width)))]
        # of the clock under way: each worker's seconds, samples and waiting; its updates' loss, samples, staleness, pushes
        self.measured = own.setdefault("measured", np.zeros((3, workers)))
        self.applied = own.setdefault("applied", np.zeros(4))
        self.last = own.setdefault("controlled", np.array([t]))  # step of the last record
        self.begun, self.waiting = {}, {}  # worker -> since when it computes, or waits
        self.took = {}  # push -> seconds
        self.updated = False

    def start(self):
        """All workers begin to compute."""
        self.begun, self.waiting = dict.fromkeys(range(self.workers), self.clock()), {}

    def came(self, worker, key):
        """A push is there."""
        self.took[worker, key] = self.clock() - self.begun[worker]
        self.decider.came(worker, key)

    def asked(self, worker):
        """A pull waits."""
        self.waiting[worker] = self.clock()
        self.decider.asked(worker)

    def lose(self, server, worker):
        """A worker is given up."""
        self.decider.lose(server, worker)

    def next(self, server):
        """The decider's next action, or new settings where a step ends with an update."""
        if self.updated and server.step(server.handled) > self.last[0]:
            changes = self._border(server.step(server.handled))
            if changes:
                return (SET, 0, 0, changes)
        action = self.decider.next(server)
        kind, worker, key, _ = action or (None,) * 4
        self.updated = kind == UPDATE
        if kind in (TAKE, DROP, REJECT):
            self._measure(action, server)
        elif kind == ANSWER:
            self.begun[worker] = self.clock()
            self.measured[WAITED, worker] += self.begun[worker] - self.waiting.pop(worker, self.begun[worker])
        return action

    def _measure(self, action, server):
        """A push is handled."""
        kind, worker, key, _ = action
        push, seconds = server.pushes[worker, key], self.took.pop((worker, key))
        if kind != REJECT:  # otherwise there is no saying what it consists of
            self.measured[:WAITED, worker] += seconds, push.data[SAMPLES]
        if kind == TAKE:
            self.applied += push.data[LOSS], push.data[SAMPLES], server.version - push.header.version, 1

    def _border(self, step):
        """{name: value} of what the controller changes after this step."""
        self.last[0], self.updated = step, False
        row = self._close(step)
        if not math.isfinite(row[NUMBERS.index("loss")]):  # which ends the run, or nothing was applied
            return {}
        self.records = [*self.records, self._record(row)][-WINDOW:]
        self.own["records"] = np.vstack([self.own["records"], row])[-WINDOW:]
        changes = {name: value for name, value in self._ask(step).items() if value != self.settings[name]}
        self.settings |= changes
        if "bound" in changes:
            self.decider.bound, self.decider.seen = changes["bound"], None  # look at all who wait
        return changes

    def _close(self, step):
        """The row of numbers of the clock that ends."""
        now = self.clock()
        for worker, since in self.waiting.items():
            self.measured[WAITED, worker] += now - since
            self.waiting[worker] = now
        loss, samples, stale, pushes = self.applied
        bound = math.nan if self.settings["bound"] is None else self.settings["bound"]
        numbers = step, now, loss / samples if samples else math.nan, stale / max(1, pushes), self.settings["lr"], bound
        row = np.concatenate([numbers, *self.measured, self.settings["shares"]])
        self.measured[:] = self.applied[:] = 0
        return row

    def _record(self, row):
        numbers = dict(zip(NUMBERS, row.tolist()))
        whole = {name: None if math.isnan(numbers[name]) else int(numbers[name]) for name in ("step", "bound")}
        return numbers | whole | dict(zip(ARRAYS, row[len(NUMBERS) :].reshape(len(ARRAYS), -1)))

    def _ask(self, step):
        """What the controller wants, if it can be had."""
        try:
            wanted = dict(self.controller(list(self.records)) or {})
            for name in wanted:
                why = unsettable(name, self.model.bound, self.splits)
                if why:
                    raise ValueError(why)
            return check_settings(wanted, self.workers)
        except Exception as error:  # whatever a user's function raises
            raise ControllerError(self.name, step, error) from error
