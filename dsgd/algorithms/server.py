"""A server of parameters: one key range of x, the pushes that have come, and one order in which all servers apply them.

    x ← x − η · (m / samples) Σ_{pushes of the update, in tree order} g      then the version of x is one higher

A server executes a stream of actions: take a push, drop one, update, answer a worker, let everyone stand still, change
settings.  The first server decides them from what has come (decide.py), and tells them to the others; in a replay it
reads them from the log of another run.  So all servers apply one order, a worker gets all ranges of x at one version,
and the log of the first server is what the bits of a run depend on, beside its configuration.

Reference: Li et al. 2014 (OSDI), "Scaling distributed machine learning with the parameter server".
Exact when: all pushes of a version make an update: any number of servers is data-parallel, to the bit.
"""

import numpy as np

from dsgd.algorithms.admission import PULL, refuse, sender
from dsgd.algorithms.patience import Patience
from dsgd.algorithms.settings import pack, unpack
from dsgd.collectives import tree_sum
from dsgd.comm import Header
from dsgd.state import ALONE, HEAD, SAMPLES, STOP

# tags, beside PULL and PUSH; REST: parameters, and everyone stands still
PARAMETERS, REST, ORDER, LOST, SHARES = range(3, 8)
TAKE, DROP, REJECT, UPDATE, ANSWER, STAND, LOSE, SET = range(8)  # actions: (kind, worker, key of the push, number)
MEAN = -1  # the key of an update that is the mean of its pushes, and not a sum over one global batch


class Server:
    """One server.

    Args:
        model: consistency.Model.  source: what gives the next action: decide.Decider, or replay.Told.
        update: (x, g, lr) -> None, one update of the own range.  patience: s, see Patience; None for ever.
        correction: staleness.Correction of late pushes; None for none.

    Attributes:
        pushes: {(worker, key): Message} that came and are not in x yet.  waiting: {worker: None}, whose pull waits.
        held: {worker: version} that each was given last.  group: [(worker, Message)] of the next update.
        lost: {worker: the sends that it may never receive}, of those that were given up.
    """

    def __init__(self, comm, local, state, model, source, update, schedule, patience=None, correction=None):
        self.comm, self.local, self.state, self.model = comm, local, state, model
        self.source, self.update, self.schedule, self.correction = source, update, schedule, correction
        self.first, self.others = comm.rank == comm.servers[0], comm.servers[1:]
        self.number = {rank: worker for worker, rank in enumerate(comm.workers)}
        self.whole = state.packet if self.first else state.x  # the first server's messages have four numbers in front
        # versions made, pushes handled
        self.counts = state.own.setdefault("server", np.array([state.t, state.t * len(comm.workers)]))
        self.pushes, self.waiting, self.group = {}, {}, []
        self.held = dict.fromkeys(range(len(comm.workers)), self.version)
        self.numbers = {}  # worker -> the number of its next push
        self.lost, self.resting = {}, False
        self.patience = Patience(comm, patience)
        self.settings = unpack(state.own.get("settings"))
        self._aware = dict.fromkeys(self.held, self.settings.get("shares"))  # worker -> the shares it knows
        self._told, self._copy = [], None
        self._sending, self._telling = {}, {}  # worker -> requests, server -> request
        self._total = comm.empty(len(self.whole)) if model.averages else None
        if correction:  # all workers start with this version
            self._copy = comm.copy(self.whole)
            for worker in self.held:
                correction.give(worker, self.version, self._copy)

    @property
    def version(self):
        """Updates made."""
        return int(self.counts[0])

    @property
    def handled(self):
        """Pushes taken, dropped or rejected."""
        return int(self.counts[1])

    def step(self, handled):
        """t: updates, where each is a whole batch, else the gradients in clocks of N pushes."""
        if self.model.of == "any":
            return handled // len(self.comm.workers) * self.model.gradients
        return self.version

    def hear(self, message):
        """Put away a message; act() does what follows from it."""
        if message.tag == ORDER and not self.first and message.source == self.comm.servers[0]:
            self.source.actions.extend(map(tuple, message.data.reshape(-1, 4).tolist()))
            return
        worker, header = sender(self, message), message.header
        if worker not in self.held and self.first:  # it was given up; what the first server has seen of it counts
            return
        if message.tag == PULL:
            self.patience.end(worker)
            if header.version == self.held[worker]:  # otherwise its answer is on the way
                self.waiting[worker] = None
                self.source.asked(worker)
        else:
            self.pushes[worker, self.key(header)] = message
            self.source.came(worker, self.key(header))

    def listen(self):
        """Hear the next message, or give up the worker that has been silent for too long."""
        message, silent = self.patience.message()
        if message:
            self.hear(message)
        else:
            self.source.lose(self, silent)

    def begin(self):
        """All workers compute."""
        self.resting = False
        self.source.start()
        for worker in self.held:
            self.patience.begin(worker)

    def key(self, header):
        """Which of its worker's pushes it is, under the consistency model."""
        return header.version if self.model.of == "round" else header.push

    def act(self):
        """Execute all actions that there are; yields after each update of an asynchronous model, with the others told."""
        while action := self.source.next(self):
            kind, worker, key, number = action
            if kind == TAKE:
                push = self.pushes.pop((worker, key))
                refuse(self, push)
                self.group.append((worker, self._corrected(worker, push)))
                self.counts[1] += 1
            elif kind in (DROP, REJECT):
                self._log(worker, self.pushes.pop((worker, key)), 0 if kind == DROP else -1)
                self.counts[1] += 1
                self.state.t = self.step(self.handled)
            elif kind == UPDATE:
                yield from self._update(key, number)
                continue
            elif kind == ANSWER:
                action = (ANSWER, worker, 0, self.numbers.get(worker, 0))
                self._answer(worker, PARAMETERS)
                self.patience.begin(worker)
            elif kind == LOSE:
                self._lose(worker, gone=number)
            elif kind == SET:
                action = (SET, 0, 0, self._set(number))
            self._told.append(action)
            if kind == STAND:
                return self._stand(number)
        self._tell()

    def _update(self, key, samples):
        """x ← x − η · average of the group.   samples: in it, which only the first server can add up"""
        group, self.group = sorted(self.group, key=lambda push: push[0]), []
        parts = [message.data for _, message in group]
        if self.first:
            samples = int(sum(part[SAMPLES] for part in parts))
        self._told.append((UPDATE, 0, key, samples))
        self._tell()  # before anything that the servers do together
        total = tree_sum(parts, out=self._total) if self.model.averages else parts[0]
        g = total[HEAD:] if self.first else total
        factor = 1 / len(parts) if key == MEAN else self.local.samples(key) / max(1, samples)
        if factor != 1:  # less than the whole batch has come
            np.multiply(g, factor, out=g)
        lr = self.schedule(self.step(self.handled - len(group))) * self.settings.get("lr", 1.0)
        self.update(self.state.x, g, lr)
        self.counts[0] += 1
        self.state.t, self._copy = self.step(self.handled), None
        for worker, message in group:
            self._log(worker, message, self.version)
        if self.first:
            self.state.packet[:HEAD] = total[:HEAD]
        if not self.model.synchronous:
            if self.first:
                self.state.agree(self.state.packet)
            yield ALONE

    def _corrected(self, worker, message):
        """A push as it goes into the next update."""
        if not self.correction:
            return message
        return message._replace(data=self.correction.correct(worker, message, self.version, self.whole))

    def _log(self, worker, message, into):
        if self.first:
            self.local.order.add([worker, message.header.push, message.header.version, into])

    def _answer(self, worker, tag):
        """Send x; all who get this version share one copy of it."""
        if self._copy is None:
            self._copy = self.comm.copy(self.whole)
        for request in self._sending.pop(worker, ()):  # it has those: it has pushed since
            request.wait()
        self.waiting.pop(worker, None)
        self.held[worker] = self.version
        if self.correction:
            self.correction.give(worker, self.version, self._copy)
        rank, shares, sending = self.comm.workers[worker], self.settings.get("shares"), []
        if self._aware[worker] is not shares:
            self._aware[worker] = shares
            sending.append(self.comm.isend(np.array(shares), rank, SHARES))
        header = Header(self.version, self.state.t, push=len(self.lost))
        sending.append(self.comm.isend(self._copy, rank, tag, header))
        self._sending[worker] = sending

    def _set(self, settings):
        """Settings that hold from now on; what the other servers are told is the factor of the step size, as bits."""
        if not self.first:
            settings = {"lr": float(np.int64(settings).view(np.float64))}
        else:
            self.local.order.add({"set": settings, "step": self.state.t})
        self.settings |= settings
        self.state.own["settings"] = pack(self.settings, len(self.number))
        return int(np.float64(self.settings.get("lr", 1.0)).view(np.int64))

    def _lose(self, worker, gone):
        """A worker was given up.   gone: nothing is sent to it any more; in a replay it is there, and has nothing to do"""
        if self.first:
            self.local.order.add({"lost": worker})
        if gone:
            self.lost[worker] = self._sending.pop(worker, None)
            self.waiting.pop(worker, None)
            del self.held[worker]
            self.comm.give_up(self.comm.workers[worker])

    def _stand(self, stop):
        """Everyone gets this version, and what was agreed: bsp's four numbers, else whether this is the end."""
        state = self.state
        if self.first:
            if not self.model.synchronous:
                state.packet[:HEAD], self._copy = 0, None
                state.packet[STOP] = stop
            head = np.array(state.packet[:HEAD], np.float64)
            self._told.append(tuple(head.view(np.int64).tolist()))
            self.local.order.add({"rest": self.version, "step": state.t})
        else:
            head = np.array(self.source.actions.popleft(), np.int64).view(np.float64)
        self._tell()
        lost = np.array([self.comm.workers[worker] for worker in self.lost], np.int64)
        for worker in list(self.held):
            self._answer(worker, REST)
            if self.first and len(lost) > len(state.lost):  # news
                self._telling[self.comm.workers[worker]] = self.comm.isend(lost, self.comm.workers[worker], LOST)
        state.lost = tuple(lost.tolist())
        if not self.model.cancel:  # under cancel some are late
            self.pushes.clear()  # of those who, in a replay, have nothing to do
        self.resting = True
        state.agree(head)

    def settle(self):
        """Wait until everyone has what was sent to it."""
        for request in (*sum(self._sending.values(), []), *self._telling.values()):
            request.wait()
        self._sending, self._telling = {}, {}

    def _tell(self):
        """The other servers do the same."""
        if self._told and self.first and self.others:
            rows = np.array(self._told, np.int64).ravel()
            for server in self.others:
                if server in self._telling:
                    self._telling.pop(server).wait()
                self._telling[server] = self.comm.isend(rows, server, ORDER)
        self._told = []
