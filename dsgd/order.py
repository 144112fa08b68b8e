"""The order of a run's pushes, `order.jsonl`: beside the configuration, all that the bits of an asynchronous run depend on.

- first line: {"format": 1, "dsgd", "ranks", "workers", "data", "config"}, of the run that it is of
- one line for each push, in the order in which the servers handled them: [worker, push, pulled, into]: the worker's
  number of it, from 0; the version of x that it was computed on; the version that it went into, 0 if it was dropped
  because it was late, -1 if it was rejected.  Versions count updates, so its staleness is into - 1 - pulled
- {"rest": version, "step": t}: all workers stood still with this version
- {"end": entries, "sha256": of all bytes before it}: a run that is under way, or was killed, has no such line
"""

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import dsgd
from dsgd.command import say
from dsgd.errors import DataError, UsageError
from dsgd.records import ORDER, write_bytes
from dsgd.specs import parse

FORMAT = 1
FIXED = ("data", "batch_size", "partition", "seed")  # what a replay has in common with its log, beside the algorithm
PLACES = ("servers", "colocated")  # options of an algorithm that say where x is, not in which order it changes


class Order:
    """The order of the run that is under way, kept by rank 0.

    Args:
        folder: where order.jsonl goes; None for no file.  header: its first line.  entries: those of a run that goes on.
        replayed: (header, entries) of the log that is to be followed; None if the servers decide.
    """

    def __init__(self, folder=None, header=None, entries=(), replayed=None):
        self.header, self.entries, self.replayed = header, list(entries), replayed
        self.rejected = Counter()  # by worker
        self._path, self._written = folder and Path(folder) / ORDER, 0

    @property
    def kept(self):
        """How many entries the log has; None if there is none."""
        return len(self.entries) if self._path else None

    def add(self, entry):
        """A push was handled, or all workers stand still."""
        self.entries.append(entry)

    def reject(self, worker, problem):
        """A push was rejected; of each worker's first one something is said."""
        if not self.rejected[worker]:
            say(f"a push of worker {worker} was rejected, and left x as it is: {problem}")
        self.rejected[worker] += 1

    def write(self):
        """Append what the file lacks.

        Raises:
            OSError: nothing is lost then; a later call tries again.
        """
        if not self._path or self._written == len(self.entries):
            return
        if not self._written:
            return self._write_whole()
        with open(self._path, "ab") as file:
            file.write(text(self.entries[self._written :]).encode())
        self._written = len(self.entries)

    def _write_whole(self):
        write_bytes(self._path, text([self.header, *self.entries]).encode())
        self._written = len(self.entries)

    def finish(self):
        """The run is over: write all of it, with its last line."""
        if self._path and self.entries:
            write_bytes(self._path, log(self.header, self.entries))

    def summary(self):
        """{...} of the pushes, for summary.json; {} where there were none."""
        pushes = [entry for entry in self.entries if isinstance(entry, list)]
        if not pushes:
            return {}
        stale = staleness(pushes)
        return {
            "updates": max(into for *_, into in pushes),
            "pushes_per_worker": [Counter(push[0] for push in pushes)[i] for i in range(self.header["workers"])],
            "pushes_dropped": sum(into == 0 for *_, into in pushes),
            "pushes_rejected": sum(into < 0 for *_, into in pushes),
            "mean_staleness": sum(stale) / max(1, len(stale)),
            "max_staleness": max(stale, default=0),
        }


def staleness(entries):
    """[updates between the version that a push was computed on and the one it went into], of those that were applied."""
    return [into - 1 - pulled for _, _, pulled, into in filter(_is_push, entries) if into > 0]


def _is_push(entry):
    return isinstance(entry, list)


def header(job):
    """The first line of the log of a job."""
    config = job.config.identity() | {"steps": job.steps}
    facts = {"ranks": job.manifest["ranks"], "workers": len(job.roles.workers), "data": job.manifest["data"]}
    return {"format": FORMAT, "dsgd": dsgd.__version__} | facts | {"config": config}


def text(lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


def log(head, entries):
    """The bytes of a whole log."""
    body = text([head, *entries]).encode()
    return body + text([{"end": len(entries), "sha256": hashlib.sha256(body).hexdigest()}]).encode()


def read_order(path, whole=True):
    """(header, entries) of a run's folder, or of the file itself.   whole: refuse the log of a run that is not over

    Raises:
        DataError: it is missing, cut off, damaged, or of another format.
    """
    path = Path(path)
    path = path / ORDER if path.is_dir() else path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(path, error.strerror or error, "runs of a parameter server leave one") from None
    try:
        head, *entries = map(json.loads, data.splitlines()) if whole else _whole_lines(data)
        if head["format"] != FORMAT:
            raise DataError(path, f"is in format {head['format']}, and dsgd {dsgd.__version__} reads format {FORMAT}")
        end = entries.pop() if entries and isinstance(entries[-1], dict) and "end" in entries[-1] else None
        if whole and end is None:
            raise DataError(path, "is cut off: its last line is missing", "a run that was killed can be resumed first")
        if end and (end["end"] != len(entries) or log(head, entries) != data):
            raise DataError(path, "is damaged: its entries are not those that its last line was written for")
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(path, f"is damaged ({type(error).__name__}: {error})") from None
    return head, entries


def _whole_lines(data):
    """The lines of a log that a run was killed over, without one that was cut off."""
    return map(json.loads, data[: data.rfind(b"\n") + 1].splitlines())


def settings(path, launched):
    """{key: value} of the run that a log is of: what a replay does not have to be told again."""
    head, _ = read_order(path)
    values = {key: value for key, value in head["config"].items() if value is not None}
    if launched:
        return {key: value for key, value in values.items() if key not in ("compute", "network")}
    return values | {"simulate": head["ranks"]}


def read_replayed(job):
    """(header, entries) of the log that a job replays, if it fits; None if it replays none.

    Raises:
        UsageError: it is of other data, other workers, or another algorithm.
    """
    path, config = job.config.replay, asdict(job.config)
    if not path:
        return None
    head, entries = read_order(path)
    here, there = header(job), head["config"]
    for what in ("workers", "data"):
        if head[what] != here[what]:
            raise UsageError(f"--replay {path}: it is of {what} {head[what]}, and this run has {here[what]}")
    for key in FIXED:
        if there.get(key) != config[key]:
            raise UsageError(
                f"--replay {path}: its {key} is {there.get(key)!r}, not {config[key]!r}; an order is of one"
            )
    if _order_of(there["algorithm"]) != _order_of(config["algorithm"]):
        raise UsageError(
            f"--replay {path}: it is of {there['algorithm']}, whose order is not that of {config['algorithm']}"
        )
    if not any("rest" in entry for entry in entries if isinstance(entry, dict)):
        raise UsageError(f"--replay {path}: its run never came to rest, so that it has no end")
    return head, entries


def _order_of(algorithm):
    """What of an algorithm the order of its pushes depends on."""
    from dsgd.algorithms import ALGORITHMS

    name, values = parse(algorithm, ALGORITHMS, "algorithm", schema=lambda part: part.run)
    return name, {key: value for key, value in values.items() if key not in PLACES}
