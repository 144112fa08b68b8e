"""What a run leaves behind: JSON Lines of records, JSON for the rest.  plots/ reads these files and nothing else."""

import json
import os
from pathlib import Path

from dsgd.errors import DataError, UsageError

CONFIG, METRICS, SUMMARY = "config.json", "metrics.jsonl", "summary.json"
MODEL, MANIFEST = "model.json", "manifest.json"
COMPARISON, ORDER, TRACE = "comparison.json", "order.jsonl", "trace.json"
CHECKPOINTS = ["checkpoint.npz", "checkpoint-1.npz", "checkpoint-2.npz"]  # newest first
FORMAT = 1  # of a folder and its files; manifest.json has it
SCORES = {"test_accuracy": "test accuracy", "test_r2": "test R²", "test_loss": "test loss"}  # the first that there is


def numbered(pattern):
    """The folder that a pattern stands for: * becomes the next number, and the folder is made, so that it is nobody else's."""
    if "*" not in pattern:
        return Path(pattern)
    parent, name = Path(pattern).parent, Path(pattern).name
    taken = [path.name.partition("-")[0] for path in parent.glob(name.partition("*")[0] + "[0-9]*")]
    number = max((int(digits) for digits in taken if digits.isdigit()), default=0) + 1
    while True:
        folder = parent / name.replace("*", str(number))
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:  # another run was faster
            number += 1
        except OSError as error:
            raise UsageError(f"--output {folder}: {error.strerror}") from None


def holds_run(folder):
    return any((folder / name).exists() for name in CHECKPOINTS)


def holds_one_already(folder):
    """What is said to a new run."""
    return f"{folder} holds a run already; --resume continues it, another --output starts a new one"


class Records:
    """Records of a run, kept in a list and, if there is a folder, appended to its metrics.jsonl by write().

    A record has step, epoch, samples, train_loss (mean over the samples since the last record), time and virtual_time
    (s, None under MPI), and, at the end of an epoch, test_loss and test_accuracy.

    >>> records = Records()
    >>> records.add(step=1, train_loss=2.3)
    >>> records.rows
    [{'step': 1, 'train_loss': 2.3}]
    """

    def __init__(self, folder=None, rows=()):
        self.rows = list(rows)  # those that the file holds already
        self._written = len(self.rows)
        self._file = open(Path(folder) / METRICS, "ab", buffering=0) if folder else None

    def add(self, **row):
        self.rows.append(row)

    def write(self):
        """Append the records that the file lacks, whole lines only.

        Raises:
            OSError: the disk is full, or fails; what is missing is written by a later call.
        """
        while self._file and self._written < len(self.rows):
            line, size = (json.dumps(self.rows[self._written]) + "\n").encode(), os.fstat(self._file.fileno()).st_size
            try:
                while line:  # a disk that is nearly full takes a part, and says so next time
                    line = line[self._file.write(line) :]
            except OSError:
                self._file.truncate(size)
                raise
            self._written += 1

    def close(self):
        if self._file:
            self._file.close()


def read_records(folder):
    """[record] of a run's folder; a last line that was cut off is left out.

    Raises:
        DataError: a line that is no record.
    """
    path = Path(folder) / METRICS
    rows, lines = [], path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
            if not isinstance(rows[-1], dict) or not rows[-1].keys() >= {"step"}:
                raise ValueError
        except (ValueError, RecursionError):
            del rows[number - 1 :]
            if number < len(lines):
                raise DataError(
                    path, f"line {number} is damaged", f"remove it, or keep its first {number - 1} lines"
                ) from None
    return rows


def check_format(path, manifest):
    """Refuse the files of a later version of dsgd.   path: of the manifest, a dict

    Raises:
        DataError: they are in a later format.
    """
    if manifest.get("format", 1) != FORMAT:
        wrote = f"dsgd {manifest.get('dsgd', '?')} wrote it, in format {manifest['format']}"
        raise DataError(path, f"is of a newer version: {wrote}, and this one reads format {FORMAT}", "update dsgd")


def cut_records(folder, count):
    """Keep the first `count` records: the others belong to work that is done again.  Returns those kept."""
    rows = read_records(folder)[:count]
    write_text(Path(folder) / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def write_json(path, value):
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path, text):
    """Write a file whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path, data, before=lambda: None):
    """Write a file whole or not at all: to a temporary name, to the disk, then renamed; the folder last.

    before: called when the new file is on the disk and the old one still has the name.
    """
    path = Path(path)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        before()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
