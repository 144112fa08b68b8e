"""From the log of a run to the actions that repeat it.

    [worker, push, pulled, into] …      →      answer …, take … take, update, answer …, stand

A push that was computed on version v was pulled while v was there: once v is made, those workers are answered whose
next push has pulled = v, before anything else happens.  When all workers stood still they have one version and need no
answer: each computes on it.

Reference: Lamport 1978 (CACM 21), "Time, clocks, and the ordering of events in a distributed system".
Exact when: always: the parameters are those of the run that the log is of, to the bit.
"""

from collections import deque

from dsgd.algorithms.server import ANSWER, DROP, LOSE, MEAN, REJECT, SET, STAND, TAKE, UPDATE


def actions(entries, model, workers, steps):
    """[(kind, worker, key of the push, number)] of a log: its entries are in dsgd.order, the actions in server.py.

    Args:
        model: consistency.Model.  workers: N.  steps: of the whole run; a log may end before.
    """
    result, version, changes = [], 0, settings_of(entries)
    for numbered, lost, _, rest in parts(entries):
        # under cancel it depends on the moment whether there is a late push at all
        pushes = [push for _, push in numbered if push[3] > 0 or not model.cancel]
        pulled = _pulled(pushes, workers, model)
        result += _answers(pulled, version, model)
        for place, (worker, push, computed_on, into) in enumerate(pushes):
            following = pushes[place + 1] if place + 1 < len(pushes) else None
            result += _lose(lost, place)
            key = computed_on if model.of == "round" else push
            if into <= 0:
                result.append((REJECT if into < 0 else DROP, worker, key, 0))
                continue
            result.append((TAKE, worker, key, 0))
            if following is None or following[3] != into:  # the last push of this update
                version = into
                result.append((UPDATE, 0, MEAN if model.of == "any" else key, 0))
                result += [(SET, 0, 0, changes[version])] if version in changes else []
                result += _answers(pulled, version, model, to_all=model.cancel and following is not None)
        result += _lose(lost, len(pushes))
        last = rest is entries[-1]
        result.append((STAND, 0, 0, int(last and rest["step"] < steps)))
    return result


def parts(entries):
    """([(number, push)], {how many of them came before: [lost worker]}, number, rest) from one rest to the next.

    The numbers are those of the entries.
    """
    pushes, lost = [], {}
    for number, entry in enumerate(entries):
        if is_push(entry):
            pushes.append((number, entry))
        elif "rest" in entry:
            yield pushes, lost, number, entry
            pushes, lost = [], {}
        elif "lost" in entry:
            lost.setdefault(len(pushes), []).append(entry["lost"])


def settings_of(entries):
    """{version: {setting: value}} of the settings that a controller changed once this version was made."""
    version, changes = 0, {}
    for entry in entries:
        if is_push(entry):
            version = max(version, entry[3])
        elif "set" in entry:
            changes[version] = entry["set"]
    return changes


def _lose(lost, place):
    """Workers that were given up: in a replay they are there, and have nothing to do."""
    return [(LOSE, worker, 0, 0) for worker in lost.get(place, ())]


def is_push(entry):
    """Whether an entry of a log is one of a push."""
    return isinstance(entry, list)


def _pulled(pushes, workers, model):
    """{worker: the versions that it is answered with between two rests}"""
    pulled = {worker: [] for worker in range(workers)}
    for worker, _, version, _ in sorted(pushes):  # one that was rejected may stand before one that waited for others
        pulled[worker].append(version)
    known = 0 if model.exchange else 1  # what all have at the first rest, they need not pull
    return {worker: deque(versions[:: model.pushes][known:]) for worker, versions in pulled.items()}


def _answers(pulled, version, model, to_all=False):
    """The answers that were given while this version was there."""
    if model.cancel:
        return [(ANSWER, worker, 0, 0) for worker in pulled if to_all]
    result = []
    for worker, versions in pulled.items():
        while versions and versions[0] == version:
            versions.popleft()
            result.append((ANSWER, worker, 0, 0))
    return result


class Told:
    """Actions that somebody else has decided: the first server, or, in a replay, another run.

    A worker is answered once as many of its pushes have come as the first server had: what it sends to one server may
    come later than what the first server, which has seen it, sends there.

    Args:
        actions: those that are known from the start.  patient: whether pulls are to be seen before they are answered.
    """

    def __init__(self, actions=(), patient=False):
        self.actions, self.patient = deque(actions), patient

    def start(self):
        """All workers begin to compute."""

    def came(self, worker, key):
        """A push is there: it waits until its turn comes."""

    def asked(self, worker):
        """A pull waits, until its turn comes."""

    def next(self, server):
        """The next action, or None as long as what it is about has not come."""
        if not self.actions:
            return None
        kind, worker, key, number = self.actions[0]
        if kind in (TAKE, DROP, REJECT) and (worker, key) not in server.pushes:
            return None
        if kind == ANSWER and (server.numbers.get(worker, 0) < number or self.patient and worker not in server.waiting):
            return None
        if self.patient and kind == STAND and len(server.waiting) < len(server.held):
            return None
        return self.actions.popleft()
