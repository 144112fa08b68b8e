"""From the log of a run to the actions that repeat it.

    [worker, push, pulled, into] …      →      take … take, update, answer …, stand

A push that was computed on version v was pulled while v was there: once v is made, those workers are answered whose
next push has pulled = v, before anything else happens.

Reference: Lamport 1978 (CACM 21), "Time, clocks, and the ordering of events in a distributed system".
Exact when: always: the parameters are those of the run that the log is of, to the bit.
"""

from collections import deque

from dsgd.algorithms.server import ANSWER, DROP, LOSE, MEAN, REJECT, STAND, TAKE, UPDATE


def actions(entries, model, workers, steps):
    """[(kind, worker, key of the push, number)] of a log: its entries are in dsgd.order, the actions in server.py.

    Args:
        model: consistency.Model.  workers: N.  steps: of the whole run; a log may end before.
    """
    pulled, rests = {worker: deque() for worker in range(workers)}, 0
    for entry in entries:  # what a worker's pushes are computed on: (how often all stood still before it, version)
        if isinstance(entry, list):
            pulled[entry[0]].append((rests, entry[2]))
        rests += isinstance(entry, dict) and "rest" in entry
    rests = 0
    _begin(pulled, (rests, 0))
    result = _answers(pulled, (rests, 0), model)
    for entry, following in zip(entries, [*entries[1:], None]):
        if isinstance(entry, dict):
            if "lost" in entry:  # here the worker is there, and has nothing to do any more
                result.append((LOSE, entry["lost"], 0, 0))
            if "rest" in entry:
                result.append((STAND, 0, 0, int(following is None and entry["step"] < steps)))
                rests += 1
                _begin(pulled, (rests, entry["rest"]))
                result += _answers(pulled, (rests, entry["rest"]), model)
            continue
        worker, push, version, into = entry
        key = version if model.of == "round" else push
        if into > 0:
            result.append((TAKE, worker, key, 0))
            if not isinstance(following, list) or following[3] != into:  # the last push of this update
                result.append((UPDATE, 0, MEAN if model.of == "any" else key, 0))
                result += _answers(pulled, (rests, into), model, new=not isinstance(following, dict))
        elif not model.cancel:  # otherwise it depends on the moment whether there is such a push at all
            result.append((REJECT if into < 0 else DROP, worker, key, 0))
    return result


def _begin(pulled, version):
    """Everyone has this version, and computes on it."""
    for versions in pulled.values():
        if versions and versions[0] == version:
            versions.popleft()


def _answers(pulled, version, model, new=False):
    """The answers that were given while this version was there."""
    if model.cancel:
        return [(ANSWER, worker, 0, 0) for worker in pulled] if new else []
    result = []
    for worker, versions in pulled.items():
        while versions and versions[0] == version:
            versions.popleft()
            result.append((ANSWER, worker, 0, 0))
    return result
