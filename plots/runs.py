"""What pictures are made of: the files of runs' folders.  A folder that cannot be read is named, and hides no other."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from dsgd.errors import DsgdError, UsageError
from dsgd.records import CONFIG, MANIFEST, METRICS, SUMMARY, DataError, check_format, holds_run, read_records

# What a run writes under a key, in whichever of its files.
NUMBER, NUMBERS, TEXT = (int, float, type(None)), (int, float, type(None), list), (str, type(None))
KINDS = dict.fromkeys(("algorithm", "data", "partition", "hidden", "activation", "loss", "compute", "network"), TEXT)
KINDS |= dict.fromkeys(("step", "steps", "epoch", "samples", "time", "virtual_time", "seed", "batch_size"), NUMBER)
KINDS |= dict.fromkeys(("train_loss", "test_loss", "test_accuracy", "test_r2", "gradient_norm"), NUMBER)
KINDS |= dict.fromkeys(("bytes_sent", "messages_sent", "workers", "ranks", "virtual_seconds", "wall_seconds"), NUMBER)
KINDS |= {"gradient_rms": NUMBERS, "verdict": TEXT, "servers": list, "backend": TEXT}


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
    folder = check_folder(folder)
    if not (folder / METRICS).exists():
        raise UsageError(f"{folder} holds no run: it has no {METRICS}; python -m dsgd.train --output FOLDER makes one")
    manifest = read_json(folder / MANIFEST)
    try:
        records = read_records(folder)
    except OSError as error:
        raise DataError(folder / METRICS, error.strerror or error) from None
    if not records:
        raise DataError(folder / METRICS, "holds no records", "a run makes one an epoch, or every --log-every steps")
    for row in records:
        check_kinds(folder / METRICS, row, KINDS, f"of step {row['step']}, ")
    summary = read_json(folder / SUMMARY) if (folder / SUMMARY).exists() else None
    config = read_json(folder / CONFIG, "algorithm", "seed", "batch_size", "data", "loss")
    for name, values in ((CONFIG, config), (SUMMARY, summary or {}), (MANIFEST, manifest)):
        check_kinds(folder / name, values, KINDS)
    return Run(folder, config, manifest, records, summary)


def check_kinds(path, values, kinds, where=""):
    """Refuse a value that no run writes: what is drawn of it would be wrong, or nothing.

    Raises:
        DataError: a value of `values` is not of its kind.
    """
    for key in kinds.keys() & values.keys():
        value, kind = values[key], kinds[key]
        several = isinstance(value, list) and kind is NUMBERS
        if not all(isinstance(one, kind) for one in (value if several else [value])):
            raise DataError(
                path, f"is damaged ({where}{key} is {str(value)[:40]})", "leave this run out, or start it anew"
            )


def check_folder(folder):
    """The Path of a folder whose files may be read.

    Raises:
        UsageError: there is no such folder.  DataError: its manifest, if there is one, is damaged or of a newer version.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a run is a folder, the one that --output named")
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; a run leaves one, at --output")
    if (folder / MANIFEST).exists():
        check_format(folder / MANIFEST, read_json(folder / MANIFEST))
    return folder


def read_json(path, *keys):
    """The object of a JSON file, which has these keys.

    Raises:
        DataError: it is missing, or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(path, error.strerror or error, "the run was broken off as it began; start it anew") from None
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"is damaged ({error})", "leave this run out, or start it anew") from None
    lacks = "no object" if not isinstance(value, dict) else ", ".join(f"no {key}" for key in keys if key not in value)
    if lacks:
        raise DataError(path, f"is damaged ({lacks})", "leave this run out, or start it anew")
    return value


def read_summary(run, *keys):
    """The summary of a Run, which has these keys.

    Raises:
        UsageError: the run is not over.  DataError: it is damaged.
    """
    if run.summary is None:
        mend = "--resume goes on with it" if holds_run(run.folder) else "start it anew"
        raise UsageError(f"{run.folder} has no {SUMMARY}: the run is not over; {mend}")
    return read_json(run.folder / SUMMARY, *keys)


def read_all(folders, read=read_run):
    """({label: what read(folder) gave}, [error of a folder that could not be read]).

    A label is the folder's name, or its path where two have one name.
    """
    folders = list(dict.fromkeys(map(Path, folders)))
    names = [os.path.basename(os.path.abspath(folder)) for folder in folders]  # of "." too
    names = [os.fsencode(name).decode(errors="replace") for name in names]  # fonts refuse bytes that are no text
    found, problems = {}, []
    for folder, name in zip(folders, names):
        try:
            found[name if names.count(name) == 1 else str(folder)] = read(folder)
        except DsgdError as error:
            problems.append(error)
    return found, problems
