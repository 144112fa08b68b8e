"""Whether an order of pushes can have been: a replay of one that cannot would wait for ever for a push that nobody makes.

    pulled_0 ≤ pulled_1 ≤ … of each worker;      pulled < into ∈ {v, v + 1} of each push, v = the version made last

Between two rests every worker pushes: first what it computed on the version of the rest, then on versions that it was
answered with, as often for each as the consistency model says.  An update has no more pushes than that says, and those
that belong together.

Reference: Lamport 1978 (CACM 21), "Time, clocks, and the ordering of events in a distributed system".
Exact when: the order is that of a run: nothing is found.
"""

from dsgd.algorithms.replay import parts


def find_impossible(entries, model, workers):
    """(number of an entry that cannot have been, why); None if a run can have had this order.

    Args:
        entries: of a log that ends with all workers at rest, see dsgd.order.  model: consistency.Model.  workers: N.
    """
    version, made, gone = 0, [0] * workers, set()
    for pushes, lost, end, rest in parts(entries):
        gone.update(*lost.values())
        found = _of_workers(pushes, end, version, made, gone, model) or _of_updates(pushes, version, model)
        if found:
            return found
        version = max([version, *(push[3] for _, push in pushes)])
        if rest["rest"] != version:
            return end, f"all workers stand still with version {rest['rest']}, and the last one made is {version}"
    return None


def _of_workers(pushes, end, version, made, gone, model):
    """What cannot be in the pushes between two rests, each worker's for themselves.

    Args:
        pushes: [(number of the entry, entry)].  end: number of the second rest.  version: of the first.
        made: pushes of each worker until the first rest; until the second one after the call.
        gone: workers that were given up.
    """
    of = {worker: [] for worker in range(len(made))}
    for number, (worker, push, pulled, _) in pushes:
        if worker not in of:
            return number, f"a push of worker {worker}, and there are {len(made)}, counted from 0"
        of[worker].append((push, pulled, number))
    for worker, own in of.items() if not model.cancel else ():  # under cancel it depends on the moment who pushes
        last = version
        for place, (push, pulled, number) in enumerate(sorted(own), made[worker]):
            if push != place:
                return number, f"worker {worker}'s push {push}, where its push {place} has to be"
            bound = place == made[worker] and not model.exchange or (place - made[worker]) % model.pushes
            if pulled < last or bound and pulled != last:
                return number, f"worker {worker}'s push {push} is computed on version {pulled}, after version {last}"
            last = pulled
        if not own and worker not in gone:
            return end, f"all workers stand still, and worker {worker} has not pushed since they did before"
        if len(own) % model.pushes or model.exchange and len(own) != len(of[0]):
            return end, f"all workers stand still, and worker {worker} has not made all the pushes that belong together"
        made[worker] += len(own)
    return None


def _of_updates(pushes, version, model):
    """What cannot be in the pushes between two rests, one after the other.   version: the one they begin with"""
    group = []
    for number, entry in pushes:
        worker, push, pulled, into = entry
        if into <= 0:
            if pulled > version:
                return number, f"a push computed on version {pulled}, and the last one made is {version}"
            continue
        group = [*group, entry] if group and into == version else [entry]
        version += len(group) == 1
        if into != version:
            return number, f"a push goes into version {into}, and the one to be made is {version}"
        if pulled >= into:
            return number, f"a push computed on version {pulled} goes into version {into}, which has to be a later one"
        if len(group) > model.collect:
            return number, f"{len(group)} pushes go into version {into}, and an update has {model.collect}"
        together = {"round": pulled == version - 1, "clock": push == group[0][1], "any": True}[model.of]
        if not together or model.of != "any" and worker in [other[0] for other in group[:-1]]:
            return number, f"worker {worker}'s push {push} does not belong to the update of version {into}"
    return None
