"""The order of a run's pushes, `order.jsonl`: beside the configuration, all that the bits of an asynchronous run depend on.

- first line: {"format": 1, "dsgd", "ranks", "workers", "data", "config"}, of the run that it is of; "pushes lost" after a
  crash: how many were handled behind the checkpoint that the run went on from, as far as they were written
- one line for each push, in the order in which the servers handled them: [worker, push, pulled, into]: the worker's
  number of it, from 0; the version of x that it was computed on; the version that it went into, 0 if it was dropped
  because it was late, -1 if it was rejected.  Versions count updates, so its staleness is into - 1 - pulled
- {"set": {setting: value}, "step": t}: what a controller changed after that step
- {"lost": worker}: it was given up, and is not waited for any more
- {"rest": version, "step": t}: all workers stood still with this version
- {"end": entries, "sha256": of all bytes before it}: a run that is under way, or was killed, has no such line
"""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import dsgd
from dsgd.algorithms.replay import is_push
from dsgd.algorithms.settings import check_settings
from dsgd.command import say
from dsgd.errors import DataError
from dsgd.records import ORDER, write_bytes

FORMAT = 1
FACTS = {"dsgd": str, "ranks": int, "workers": int, "data": str, "config": dict}  # of the first line, beside its format


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

    def tell(self, text):
        """Something that the user should know now."""
        say(text)

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
        written, self._written = self._written, 0  # a line that the disk takes in part is not to be gone on behind
        if written:
            with open(self._path, "ab") as file:
                file.write(text(self.entries[written:]).encode())
                file.flush()
                os.fsync(file.fileno())
        else:
            write_bytes(self._path, text([self.header, *self.entries]).encode())
        self._written = len(self.entries)

    def finish(self):
        """The run is over: write all of it, with its last line."""
        if self._path and self.entries:
            write_bytes(self._path, log(self.header, self.entries))

    def summary(self):
        """{...} of the pushes, for summary.json; {} where there were none."""
        pushes = list(filter(is_push, self.entries))
        if not pushes:
            return {}
        stale, made = staleness(pushes), Counter(push[0] for push in pushes)
        rejected = Counter(worker for worker, _, _, into in pushes if into < 0)
        return {
            "updates": max(into for *_, into in pushes),
            "pushes_per_worker": [made[worker] for worker in range(self.header["workers"])],
            "pushes_dropped": sum(into == 0 for *_, into in pushes),
            "pushes_rejected": rejected.total(),
            "rejected_per_worker": [rejected[worker] for worker in range(self.header["workers"])],
            "pushes_lost": self.header.get("pushes lost", 0),
            "workers_lost": [entry["lost"] for entry in self.entries if not is_push(entry) and "lost" in entry],
            "mean_staleness": sum(stale) / max(1, len(stale)),
            "max_staleness": max(stale, default=0),
        }


def staleness(entries):
    """[updates between the version that a push was computed on and the one it went into], of those that were applied.

    >>> staleness([[0, 0, 0, 1], [1, 0, 0, 2], [0, 1, 1, 3], {"rest": 3, "step": 3}, [1, 1, 2, 0]])  # the last one was dropped
    [0, 1, 1]
    """
    return [into - 1 - pulled for _, _, pulled, into in filter(is_push, entries) if into > 0]


def header(job):
    """The first line of the log of a job."""
    config = job.config.identity() | {"steps": job.steps}
    facts = {"ranks": job.manifest["ranks"], "workers": len(job.roles.workers), "data": job.manifest["data"]}
    return {"format": FORMAT, "dsgd": dsgd.__version__} | facts | {"config": config}


def text(lines):
    """Lines of JSON."""
    return "".join(json.dumps(line) + "\n" for line in lines)


def log(head, entries):
    """The bytes of a whole log."""
    body = text([head, *entries]).encode()
    return body + text([{"end": len(entries), "sha256": hashlib.sha256(body).hexdigest()}]).encode()


def read_order(path, whole=True):
    """(header, entries) of a run's folder, or of the file itself.

    Args:
        whole: refuse the log of a run that is not over.  A last line that was cut off is left out otherwise.

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
        if b"\n" not in data:
            raise DataError(path, "is damaged: its first line is cut off")
        head, *entries = read_lines(data[: data.rfind(b"\n") + 1])
        if head["format"] != FORMAT:
            raise DataError(path, f"is in format {head['format']}, and dsgd {dsgd.__version__} reads format {FORMAT}")
        end = entries.pop() if entries and isinstance(entries[-1], dict) and "end" in entries[-1] else None
        if end and log(head, entries) != data:
            raise ValueError("its lines are not those that its last line was written for")
        check_form(head, entries)
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise DataError(path, f"is damaged, or no log of a run's order ({reason})") from None
    if whole and not end:
        raise DataError(
            path,
            "is cut off: its last line is missing",
            "a run writes it when it ends; one that was killed can be resumed first",
        )
    return head, entries


def read_lines(data):
    """[value of each line] of JSON lines.

    Raises:
        ValueError: with the number of a line that is none.
    """
    values = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            raise ValueError(f"line {number} is no JSON") from None
    return values


def check_form(head, entries):
    """Raise ValueError unless the header has its facts, and each entry its four integers, or its name and what belongs to it."""
    for key, kind in FACTS.items():
        if type(head[key]) is not kind:
            raise ValueError(f"{key} {head[key]!r} in its first line")
    for number, entry in enumerate(entries, 2):
        numbers = numbers_of(entry, head["workers"])
        least = (0, 0, 0, -1)
        if len(numbers) != 4 or any(type(n) is not int or n < low for n, low in zip(numbers, least)):
            raise ValueError(f"line {number} is {json.dumps(entry)[:80]}")


def numbers_of(entry, workers):
    """The four integers of an entry, 0 for those that it has none for; what a controller has set is looked at here."""
    if is_push(entry):
        return entry
    if "lost" in entry:
        return [entry["lost"], 0, 0, 0]
    if "set" in entry:
        return [len(check_settings(entry["set"], workers)) - 1, entry["step"], 0, 0]
    return [entry["rest"], entry["step"], 0, 0]
