"""A run that follows the order of another one, --replay: what it takes from the log, and whether the two fit.

What decides which push is which must be the same: data, batches, seed, workers and consistency model.  Anything else
may differ: the step size, the optimizer, the number of servers, the world.
"""

from dsgd.algorithms import ALGORITHMS
from dsgd.algorithms.history import find_impossible
from dsgd.errors import DataError, UsageError
from dsgd.optimizers import DEFAULT_LR
from dsgd.order import header, is_push, read_order
from dsgd.specs import parse

FIXED = ("data", "batch_size", "partition", "seed")
# options of an algorithm that say where x is, or what a push does to it, and not what a log says of its order
FREE = ("servers", "colocated", "patience", "staleness", "compensation", "beta")


def settings(path, launched):
    """{key: value} of the run that a log is of: what a replay need not be told again.

    Args:
        launched: whether a launcher has started the ranks, so that none are to be simulated, on no virtual clock.
    """
    head, _ = read_order(path)
    values = dict(head["config"])
    if values.get("lr") == DEFAULT_LR.get(str(values.get("optimizer")).partition(":")[0]):
        del values["lr"]  # another optimizer has another one
    if launched:
        return {key: value for key, value in values.items() if key not in ("compute", "network")}
    return values | {"simulate": head["ranks"]}


def read_replayed(job):
    """(header, entries) of the log that a job follows; None if it follows none.

    Raises:
        UsageError: it is of a run that this one does not fit.  DataError: it is damaged, or of no run that could be.
    """
    path = job.config.replay
    if not path:
        return None
    head, entries = read_order(path)
    check_fit(job, head, entries, path, f"--replay {path}")
    return head, entries


def check_fit(job, head, entries, path, name):
    """Refuse a log that this job cannot follow.   path: where the log is.  name: of its run, as the user knows it

    Raises:
        UsageError: it is of a run that this one does not fit.  DataError: it is of no run that could be.
    """
    compare(head, header(job), name)
    check_end(entries, job.steps, path, name)
    back = came_back(entries)
    if back is not None:
        raise UsageError(f"{name}: worker {back} was given up, and came back when its run was resumed")
    workers = len(job.roles.workers)
    model = job.algorithm.model(workers, **job.options)
    check_rests(head["config"].get("checkpoint_every"), job.config.checkpoint_every, model, name)
    found = find_impossible(entries, model, workers)
    if found:
        raise DataError(path, f"line {found[0] + 2}: {found[1]}", "no run can have had this order")


def came_back(entries):
    """A worker that pushed after it was given up: it went on with a number that it has in no replay."""
    lost = set()
    for entry in entries:
        if is_push(entry) and entry[0] in lost:
            return entry[0]
        lost |= set() if is_push(entry) or "lost" not in entry else {entry["lost"]}
    return None


def compare(head, here, name):
    """Refuse a log whose run differs from this one in what the order is about.   head, here: their headers"""
    there, config = head["config"], here["config"]
    for key in FIXED:
        if there.get(key) != config[key]:
            raise UsageError(f"{name}: its run had {key} = {there.get(key)!r}, not {config[key]!r}; an order is of one")
    if head["data"] != here["data"]:
        raise UsageError(
            f"{name}: its run had other data than {config['data']} holds now (sha256 {head['data'][:16]}, "
            f"not {here['data'][:16]}); bring the old file back"
        )
    if order_of(str(there.get("algorithm"))) != order_of(config["algorithm"]):
        raise UsageError(f"{name}: its run was by {there.get('algorithm')}, whose order is not {config['algorithm']}'s")
    if head["workers"] != here["workers"]:
        raise UsageError(
            f"{name}: its run had {head['workers']} workers, and this one has {here['workers']}; it was on {head['ranks']} "
            f"ranks, by {there['algorithm']}"
        )


def order_of(algorithm):
    """(name, options) of an algorithm, as far as the order of its pushes depends on them."""
    name, values = parse(algorithm, ALGORITHMS, "--algorithm", schema=lambda part: part.run)
    return name, {key: value for key, value in values.items() if key not in FREE}


def check_rests(there, here, model, name):
    """Refuse other rests where workers train by themselves: how far they go before an exchange depends on them."""
    if model.exchange and there != here:
        raise UsageError(
            f"{name}: its run had --checkpoint-every {there}, not {here}; its workers exchange at other steps then"
        )


def check_end(entries, steps, path, name):
    """Refuse a log that does not end where all workers stood still, or not at the last step of this run."""
    rests = [entry["step"] for entry in entries if not is_push(entry) and "rest" in entry]
    if not rests or is_push(entries[-1]):
        raise DataError(path, "does not end with all workers at rest", "no run can have had this order")
    if steps < rests[-1] and steps not in rests:
        raise UsageError(
            f"--steps {steps} with {name}: its run stood still after {', '.join(map(str, rests))} steps, "
            "and a replay can end only there"
        )


def changes(job):
    """["key = value (there: value)"]: in what a replay differs from the run that its log is of."""
    there, here = job.replayed[0]["config"], header(job)["config"]
    return [f"{key} = {value} (there: {there[key]})" for key, value in here.items() if there.get(key, value) != value]
