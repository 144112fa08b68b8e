"""A run that stands in a folder, made once more in the simulator and watched: every version of x, every gradient.

The order of a parameter server's pushes is taken from its log, so the run may have been one of real ranks.
"""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsgd.arguments import make
from dsgd.checkpoint import digest, load
from dsgd.errors import DataError, DsgdError, UsageError
from dsgd.folder import start_folder
from dsgd.follow import check_fit
from dsgd.order import read_order
from dsgd.prepare import prepare
from dsgd.rank import Rank
from dsgd.records import ORDER
from dsgd.runner import open_backend
from dsgd.state import HEAD

AGAIN = ("nan", "flip")  # faults that a run has again; the others change when something happens, which the log tells


class Run(NamedTuple):
    """What a folder holds."""

    name: str
    config: object
    ranks: int
    step: int
    x: np.ndarray  # of its last checkpoint
    log: tuple | None  # (header, entries) up to that checkpoint; None without one
    data: str  # digest of its data

    @property
    def sha(self):
        return digest(self.x)

    @property
    def identity(self):
        """{key: value} of what its bits can depend on, and the ranks."""
        return self.config.identity() | {"faults": self.config.faults, "ranks": self.ranks, "steps done": self.step}


def read_run(folder):
    """The Run of a folder.

    Raises:
        UsageError, DataError, CheckpointError: it holds none that is whole.
    """
    path = Path(folder) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("epochs" if values["steps"] else "steps")
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no run") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(path, f"is damaged ({error})") from None
    arrays, manifest = load(folder)
    config, log = make(values).settle(manifest["ranks"]), None
    if manifest["order"]:
        head, entries = read_order(folder, whole=False)
        if len(entries) < manifest["order"]:
            raise DataError(
                Path(folder) / ORDER, f"has {len(entries)} entries, and the checkpoint is of {manifest['order']}"
            )
        log = head, entries[: manifest["order"]]
    return Run(str(folder), config, manifest["ranks"], manifest["step"], arrays["x"], log, manifest["data"])


class Watched(Rank):
    """A rank that is looked at after each step, and whose gradients are.

    Args:
        see: called with the rank.  note: called with the number of a worker, that of its push, and its gradient (n,).
        end: the step to end after.
    """

    def __init__(self, job, *comms, see, note, end):
        super().__init__(job, *comms)
        self.see, self.end, gradient = see, end, self.local.gradient

        def noted(*args, **options):
            packet = gradient(*args, **options)
            if packet is not None:
                note(self.comm.worker, int(self.state.own.get("pushes", [self.state.t])[0]), packet[HEAD:])
            return packet

        self.local.gradient = noted

    def _observe(self, alone):
        self.see(self)
        super()._observe(alone)
        if not alone and self.state.t >= self.end:
            self.progress.converged = True


@dataclass
class Trace:
    """What a run did.

    Attributes:
        seen: {version: (step, {array: digest})}.  gradients: {(worker, push): [digest]}, more than one where a push is
            made of several.  kept: {version: {array: its elements}}.  x: (n,), the last version.
    """

    seen: dict = field(default_factory=dict)
    gradients: dict = field(default_factory=lambda: defaultdict(list))
    kept: dict = field(default_factory=dict)
    x: np.ndarray | None = None


def job_of(run):
    """The Job that runs it again in the simulator, without a folder, and the backend."""
    faults = [fault for fault in run.config.faults.split(";") if fault.strip().partition(":")[0] in AGAIN]
    free = dict(
        simulate=run.ranks, output="", resume=False, replay="", faults=";".join(faults), quiet=True, trace=False
    )
    free |= dict(reduction="tree") if run.config.reduction == "native" else {}
    config = make(asdict(run.config) | free)
    backend = open_backend(None, config, None)
    job = prepare(config, backend)
    if run.log is None and not job.roles.synchronous:
        raise UsageError(f"{run.name}: its log of the order is lost, so it cannot be run again")
    if run.log and run.log[0]["data"] != job.manifest["data"]:
        raise UsageError(
            f"{run.name}: {config.data} holds other data now, so it cannot be run again; bring the old back"
        )
    if run.log:
        check_fit(job, *run.log, Path(run.name) / ORDER, run.name)
    return start_folder(job._replace(replayed=run.log), backend), backend


def rerun(run, keep=()):
    """The Trace of a run, made once more; it ends where the run diverges.   keep: versions whose x is wanted"""
    job, backend = job_of(run)
    layout, parts, trace = job.objective.layout, defaultdict(dict), Trace()

    def look(version, step, x):
        cut = {name: x[slice(*layout.span([name]))] for name in layout.shapes}
        trace.x = x
        trace.seen[version] = step, {name: digest(part) for name, part in cut.items()}
        if version in keep:
            trace.kept[version] = cut

    def see(rank):
        version = int(rank.state.own.get("server", [rank.state.t])[0])
        if not rank.owner or version in trace.seen:
            return
        parts[version].setdefault(rank.lo, rank.state.x.copy())
        if len(parts[version]) == len(job.roles.owners):
            whole = parts.pop(version)
            look(version, rank.state.t, np.concatenate([whole[lo] for lo in sorted(whole)]))

    def note(worker, push, g):
        trace.gradients[worker, push].append(digest(g))

    look(0, 0, job.objective.start(job.config.seed, np.dtype(job.config.dtype)))
    watch = dict(see=see, note=note, end=run.step)
    world = dict(roles=job.roles, dtype=job.config.dtype, start=0.0, reduction=job.config.reduction, faults=job.faults)
    world |= dict(network=job.network, timing=job.timing)
    try:
        backend.run(lambda *comms: Watched(job, *comms, **watch).run(), debug=False, trace=False, **world)
    except DsgdError as error:
        print(f"{run.name}: {error}")
    return trace
