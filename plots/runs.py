"""What pictures are made of: the files of runs' folders.  A folder that cannot be read is named, and hides no other."""

import json
from pathlib import Path
from typing import NamedTuple

from dsgd.errors import DsgdError, UsageError
from dsgd.records import CONFIG, MANIFEST, METRICS, SUMMARY, DataError, check_format, read_records


class Run(NamedTuple):
    """A run as its folder has it.

    Attributes:
        config: {flag: value} of config.json.  manifest: of manifest.json.  records: [dict] of metrics.jsonl, at least one.
        summary: of summary.json; None if the run is not over.
    """

    folder: Path
    config: dict
    manifest: dict
    records: list
    summary: dict | None


def read_run(folder):
    """The Run of a folder.

    Raises:
        UsageError: there is no such folder, or no run in it.  DataError: a file of it is damaged, or of a newer version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; a run leaves one, at --output")
    if not (folder / METRICS).exists():
        raise UsageError(f"{folder} holds no run: it has no {METRICS}; python -m dsgd.train --output FOLDER makes one")
    manifest = read_json(folder / MANIFEST)
    check_format(folder / MANIFEST, manifest)
    records = read_records(folder)
    if not records:
        raise DataError(folder / METRICS, "holds no records", "a run makes one an epoch, or every --log-every steps")
    summary = read_json(folder / SUMMARY) if (folder / SUMMARY).exists() else None
    return Run(folder, read_json(folder / CONFIG), manifest, records, summary)


def read_json(path):
    """The object of a JSON file.

    Raises:
        DataError: it is missing, or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(path, error.strerror or error, "the run was broken off as it began; start it anew") from None
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"is damaged ({error})", "leave this run out, or start it anew") from None
    if not isinstance(value, dict):
        raise DataError(path, "is damaged (no object)", "leave this run out, or start it anew")
    return value


def read_all(folders, read=read_run):
    """({label: what read(folder) gave}, [error of a folder that could not be read]).

    A label is the folder's name, or its path where two have one name.
    """
    folders = [Path(folder) for folder in dict.fromkeys(folders)]
    names = [folder.name for folder in folders]
    found, problems = {}, []
    for folder, name in zip(folders, names):
        try:
            found[name if names.count(name) == 1 else str(folder)] = read(folder)
        except DsgdError as error:
            problems.append(error)
    return found, problems
