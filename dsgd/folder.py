"""The folder of a run: what stands in it when the run starts, and how a run goes on from it."""

import fcntl
import json
import platform
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

import dsgd
from dsgd.checkpoint import KEEP, load, pack, unpack
from dsgd.errors import CheckpointError, UsageError
from dsgd.recorder import Recorder
from dsgd.records import MANIFEST, METRICS, MODEL, Records, cut_records, numbered, read_records, write_json


def restore(job, backend):
    """The job with the checkpoint of its folder: rank 0 reads it, everybody gets it, the configuration must be the same."""
    folder = job.config.output
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = backend.agree(lambda: pack(*load(folder)) if backend.main else b"")
    for warning in caught:
        print(f"dsgd: {warning.message}")
    arrays, manifest = unpack(backend.share(data))
    backend.agree(lambda: compare(manifest, job, folder))
    return job._replace(restored=(arrays, manifest))


def compare(manifest, job, folder):
    """Refuse by name whatever differs between a checkpoint and the run that wants to continue it."""
    for key, value in manifest["config"].items():
        if job.manifest["config"].get(key) != value:
            raise UsageError(
                f"{folder} was trained with {key} = {value!r}, not {job.manifest['config'].get(key)!r}; only steps and epochs may change"
            )
    for key in ("ranks", "data"):
        if manifest[key] != job.manifest[key]:
            hint = f"; start it with mpirun -n {manifest[key]} or --simulate {manifest[key]}" if key == "ranks" else ""
            raise UsageError(f"{folder} was trained with other {key}: {manifest[key]}, not {job.manifest[key]}{hint}")
    span = manifest.get("schedule steps", job.steps)
    if span != job.steps:
        raise UsageError(
            f"{folder}: --schedule {job.config.schedule} spans the whole run, {span} steps, and cannot go on to {job.steps}; "
            "give a schedule its length (T_max=, total_iters=) to train longer"
        )
    if manifest["step"] > job.steps:
        raise CheckpointError(f"{folder} is at step {manifest['step']} already, --steps asks for {job.steps}")


def start_folder(job, backend):
    """The job with its folder, recorder and manifest; rank 0 touches the disk."""
    config = job.config
    restored = job.restored[1]["recorder"] if job.restored else {"records": 0, "done": 0}

    def start():
        if not (config.output and backend.main):
            return None, None, [], 0
        folder = numbered(config.output)
        if any((folder / name).exists() for name in KEEP) and not config.resume:
            raise UsageError(f"{folder} holds a run already; --resume continues it, another --output starts a new one")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = claim(folder)
            try:
                return folder, lock, *begin(folder)
            except BaseException:
                lock.close()
                raise
        except OSError as error:
            raise UsageError(f"--output {folder}: {error.strerror or error}") from None

    def begin(folder):
        """Write what is known before the first step; (records to go on from, samples that are done again)."""
        for stale in folder.glob(".tmp-*"):
            stale.unlink()
        write_json(folder / "config.json", asdict(replace(config, output=str(folder), resume=False)))
        write_json(folder / MODEL, job.objective.describe())
        found, lost = (folder / METRICS).exists(), lost_before(folder)
        rows = read_records(folder) if found else []
        if rows:
            lost += max(0, rows[-1].get("samples", 0) - restored["done"])
        write_json(folder / MANIFEST, describe(job, backend) | {"samples lost": lost})
        return cut_records(folder, restored["records"]) if found else [], lost

    folder, lock, rows, lost = backend.agree(start)
    if config.output and not backend.main:
        folder = Path(config.output)  # there is one, and rank 0 writes to it
    recorder = None
    if backend.main:
        records = Records(folder, lock)
        records.rows += rows
        recorder = Recorder(
            records,
            layout=job.objective.layout,
            samples=job.objective.samples,
            steps=job.steps,
            log_every=config.log_every,
            progress=bool(folder) and not config.quiet,
        )
        if job.restored:
            recorder.restore(restored)
        recorder.lost = lost
    return job._replace(folder=folder, recorder=recorder)


def lost_before(folder):
    """Samples that earlier crashes of this run have lost.  It stands in the manifest: the next checkpoint may never come."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["samples lost"]
    except (OSError, ValueError, KeyError, TypeError):  # there was no crash, or nothing is left that tells
        return 0


def claim(folder):
    """An open file whose lock says that this process writes to the folder; it is given up when the file is closed."""
    lock = open(folder / ".lock", "w")
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
    from threadpoolctl import threadpool_info

    blas = [
        {key: lib.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    ]
    here = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "dsgd": dsgd.__version__,
        "machine": platform.machine(),
        "system": platform.platform(),
    }
    return here | {
        "blas": blas,
        "backend": backend.name,
        "ranks": backend.size,
        "config digest": job.config.digest(),
        "data digest": job.manifest["data"],
        "faults": job.faults.text,
    }
