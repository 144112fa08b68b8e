"""The folder of a run: what stands in it when the run starts, and how a run goes on from it."""

import errno
import fcntl
import json
import platform
import warnings
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from dsgd.checkpoint import load, nothing_to_resume, pack, unpack
from dsgd.command import say
from dsgd.disk import FULL, Disk, reason
from dsgd.errors import CheckpointError, DataError, DiskError, UsageError
from dsgd.order import Order, header, is_push, read_order
from dsgd.recorder import Recorder
from dsgd.records import (
    FORMAT,
    MANIFEST,
    METRICS,
    MODEL,
    ORDER,
    SUMMARY,
    TRACE,
    Records,
    cut_records,
    holds_one_already,
    holds_run,
    numbered,
    read_records,
    write_json,
)
from dsgd.versions import versions


LOCK = ".lock"  # every run leaves one
WRITTEN = ("config.json", MANIFEST, METRICS, MODEL, ORDER, SUMMARY, TRACE)


def start_folder(job, backend):
    """The job with its folder, its recorder and, under --resume, the checkpoint to go on from; rank 0 touches the disk.

    The lock on the folder is taken before anything in it is read: of two processes that resume a run, one goes on.
    """
    config = job.config
    with ExitStack() as undo:
        folder, lock = backend.agree(lambda: on_disk(job, take) if config.output and backend.main else (None, None))
        if lock:
            undo.callback(lock.close)
        if config.resume:
            job = restore(job, backend)
        recorder = backend.agree(lambda: on_disk(job, begin, backend, folder, lock) if backend.main else None)
        undo.pop_all()
    if config.output and not backend.main:
        folder = Path(config.output)  # there is one, and rank 0 writes to it
    order = backend.agree(lambda: on_disk(job, begin_order, folder) if backend.main else None)
    return job._replace(folder=folder, recorder=recorder, order=order)


def on_disk(job, action, *arguments):
    """action(job, ...): a folder that cannot be used, or a disk that has no room, is told in one line."""
    try:
        return action(job, *arguments)
    except OSError as error:
        kind = DiskError if error.errno in (*FULL, errno.EIO) else UsageError
        path = f" ({error.filename})" if error.filename else ""
        room = "make room, or " if error.errno in FULL else ""
        raise kind(f"--output {job.config.output}: {reason(error)}{path}; {room}choose another folder") from None


def take(job):
    """(folder, lock) of a run that is about to start or to go on."""
    folder, resume = numbered(job.config.output), job.config.resume
    if resume and not holds_run(folder):
        if (folder / LOCK).exists():
            claim(folder).close()  # it is held by a run that has not saved yet
        raise CheckpointError(nothing_to_resume(folder))
    folder.mkdir(parents=True, exist_ok=True)
    foreign = [] if resume or (folder / LOCK).exists() else [name for name in WRITTEN if (folder / name).exists()]
    if foreign:
        raise UsageError(f"{folder}/{foreign[0]} is not from a run, and would be written over; choose another --output")
    lock = claim(folder)
    if holds_run(folder) and not resume:
        lock.close()
        raise UsageError(holds_one_already(folder))
    return folder, lock


def restore(job, backend):
    """The job with the checkpoint of its folder: rank 0 reads it, everybody gets it, the configuration must be the same."""
    folder = job.config.output
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = backend.agree(lambda: pack(*load(folder)) if backend.main else b"")
    arrays, manifest = unpack(backend.share(data))
    backend.agree(lambda: compare(manifest, job, folder))
    if backend.main:
        for said in (*(str(warning.message) for warning in caught), *differences(arrays, manifest, job, folder)):
            say(said)
    return job._replace(restored=(arrays, manifest))


def compare(manifest, job, folder):
    """Refuse by name whatever differs between a checkpoint and the run that wants to continue it."""
    config = job.manifest["config"]
    for key, value in manifest["config"].items():
        if config.get(key, value) != value:  # an older version compared more: the device
            raise UsageError(
                f"{folder} was trained with {key} = {value!r}, not {config[key]!r}; only steps and epochs may change"
            )
    if manifest["data"] != job.manifest["data"]:
        raise UsageError(
            f"{folder} was trained with other data than {job.config.data} holds now (sha256 {manifest['data'][:16]}, "
            f"not {job.manifest['data'][:16]}); bring the old file back, or start anew in another folder"
        )
    for file, was in manifest.get("clock files", {}).items():
        if job.manifest["clock files"][file] != was:
            raise UsageError(
                f"{folder} followed the clock of {file} as it was then (sha256 {was[:16]}); bring the old file back, or "
                "start anew in another folder"
            )
    ranks = manifest["ranks"]
    if ranks != job.manifest["ranks"] and not job.roles.synchronous:
        raise UsageError(
            f"{folder} was trained on {ranks} ranks, not {job.manifest['ranks']}; asynchronous workers are not at the same "
            f"batch, so what is left cannot be dealt anew: start it with mpirun -n {ranks} or --simulate {ranks}"
        )
    span = manifest.get("schedule steps", job.steps)
    if span != job.steps:
        raise UsageError(
            f"{folder}: --schedule {job.config.schedule} spans the whole run, {span} steps, and cannot go on to {job.steps}; "
            "give a schedule its length (T_max=, total_iters=) to train longer"
        )
    if manifest["step"] > job.steps:
        raise UsageError(
            f"{folder} is at step {manifest['step']} already, and the run is to have {job.steps}; give more --steps or --epochs"
        )


def differences(arrays, manifest, job, folder):
    """What is said of a run that goes on where its bits need not be those of an unbroken one: on other ranks, another NumPy."""
    before, now = manifest["ranks"], job.manifest["ranks"]
    if before != now:
        own = sorted({name.split("/", 2)[2] for name in arrays if "/own/" in name})
        yield (
            f"{folder} was on {before} ranks and goes on with {now} (--simulate {before} would keep them): from here on its bits differ from those of a run on "
            f"{before}" + (f"; what only one rank had is left out ({', '.join(own)})" if own else "")
        )
    changed = [
        f"{what} {was} (here: {job.manifest['versions'].get(what)})"
        for what, was in manifest.get("versions", {}).items()
        if job.manifest["versions"].get(what) != was
    ]
    if changed:
        yield f"{folder} was trained with {', '.join(changed)}: hashes need not agree with those of an unbroken run"


def begin(job, backend, folder, lock):
    """Write what is known before the first step; returns the recorder, with the records to go on from."""
    config, disk, rows, lost = job.config, Disk(folder, lock), [], 0
    restored = job.restored[1]["recorder"] if job.restored else {"records": 0, "done": 0}
    if folder:
        for stale in folder.glob(".tmp-*"):
            stale.unlink()
        if config.trace:
            (folder / TRACE).unlink(missing_ok=True)  # of the run that goes on
        write_json(folder / "config.json", asdict(replace(config, output=str(folder), resume=False)))
        write_json(folder / MODEL, job.objective.describe())
        rows, lost = go_back(folder, restored, describe(job, backend))
    recorder = Recorder(
        Records(folder, rows),
        disk,
        layout=job.objective.layout,
        samples=job.objective.samples,
        steps=job.steps,
        log_every=config.log_every,
        progress=bool(folder) and not config.quiet,
    )
    if job.restored:
        recorder.restore(restored)
    recorder.lost = lost
    return recorder


def begin_order(job, folder):
    """The order of pushes, with the entries that a checkpoint goes on from."""
    kept, head, entries = job.restored[1]["order"] if job.restored else 0, header(job), []
    if kept and job.restored[1]["ranks"] != head["ranks"]:  # its first line tells one number of workers
        (folder / ORDER).unlink(missing_ok=True)
        say(
            f"{folder}: the log of its order ends here, since it is of {job.restored[1]['ranks']} ranks, and is removed"
        )
        kept = None
    try:
        if kept is not None and job.config.resume and (kept or (folder / ORDER).exists()):
            before, entries = read_order(folder, whole=False)
            if len(entries) < kept:
                raise DataError(folder / ORDER, f"has {len(entries)} entries, and the checkpoint is of {kept}")
            lost = before.get("pushes lost", 0) + sum(map(is_push, entries[kept:]))
            entries, head = entries[:kept], head | ({"pushes lost": lost} if lost else {})
    except DataError as error:
        say(f"{error}; the run goes on without a log of its order")
        kept = None
    if kept is None:  # what is missing would be missing in every replay
        return Order(None, header(job))
    return Order(folder, head, entries, job.replayed)


def go_back(folder, restored, manifest):
    """([record], lost): the records to go on from, and the samples that crashes have lost, which the manifest is to tell.

    What the records tell is counted before they are cut.  Until they are, the manifest says so: this process may be
    killed in between, and the next one must not count it again.
    """
    found, (lost, counted) = (folder / METRICS).exists(), lost_before(folder)
    rows = read_records(folder) if found else []
    if rows:
        lost += max(0, min(rows[-1].get("samples", 0), counted) - restored["done"])
        write_json(folder / MANIFEST, manifest | {"samples lost": lost, "counted from": restored["done"]})
    rows = cut_records(folder, restored["records"]) if found else []
    write_json(folder / MANIFEST, manifest | {"samples lost": lost})
    return rows, lost


def lost_before(folder):
    """(lost, counted): samples that earlier crashes of this run have lost, among them all after the first `counted`.

    It stands in the manifest: the next checkpoint may never come.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest["samples lost"], manifest.get("counted from", float("inf"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # no crash before, or nothing is left that tells
        return 0, float("inf")


def claim(folder):
    """An open file whose lock says that this process writes to the folder; it is given up when the file is closed."""
    lock = open(folder / LOCK, "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UsageError(
            f"{folder}: another process is training into this folder; wait for it, or choose another"
        ) from None
    return lock


def describe(job, backend):
    """The manifest of a run: hashes are comparable within one manifest only."""
    return (
        {"format": FORMAT}
        | versions()
        | {
            "machine": platform.machine(),
            "system": platform.platform(),
            "backend": backend.name,
            "ranks": backend.size,
            "config digest": job.config.digest(),
            "data digest": job.manifest["data"],
            "faults": job.faults.text,
        }
    )
