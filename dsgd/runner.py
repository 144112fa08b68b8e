"""dsgd.run: from a configuration to a trained network, in the simulator or across MPI ranks."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from dsgd.arguments import make
from dsgd.checkpoint import digest
from dsgd.command import say
from dsgd.config import Config
from dsgd.errors import CheckpointError, UsageError
from dsgd.folder import start_folder
from dsgd.follow import settings
from dsgd.prepare import facts, prepare
from dsgd.rank import Rank
from dsgd.records import METRICS, ORDER, SUMMARY, TRACE, write_json, write_text
from dsgd.state import HEAD
from dsgd.trace import encode, make_events


@dataclass
class Result:
    """What a run gives back.

    Attributes:
        summary: as in summary.json.  records: [dict], as in metrics.jsonl.  params: x (n,), the final parameters.
        seconds: {what: s}, where the time went.  folder: of the files, or None.
        unsaved: which files could not be written, why, and what to do, in one line; None if all could.
    """

    config: Config
    summary: dict
    records: list
    params: np.ndarray
    seconds: dict
    folder: Path | None = None
    trace: list | None = field(default=None, repr=False)
    events: list | None = field(default=None, repr=False)  # of trace.json, with trace=True
    order: list | None = field(default=None, repr=False)  # of pushes: the entries of order.jsonl
    unsaved: str | None = None
    checkpoint: tuple | None = field(default=None, repr=False)  # (arrays, manifest) in memory, with keep=True

    def plot(self):
        """The convergence figure, a matplotlib Figure."""
        from dsgd.plots.convergence import figure

        return figure({self.summary["algorithm"]: self.records})


def open_backend(backend, config, world):
    """The backend of a run, by name, or the one given.

    Under MPI, start a script by `mpirun -n 4 python -m mpi4py SCRIPT`.
    """
    if backend is None:
        from dsgd.simulator.backend import SimulatorBackend

        return SimulatorBackend(config.simulate or 1, "simulator" if config.simulate else "single", **(world or {}))
    if backend == "mpi":
        try:
            from dsgd.mpi.backend import MPIBackend
        except ImportError as error:
            raise UsageError(
                f"no MPI here ({error}); pip install 'dsgd[mpich]', or leave backend out to simulate"
            ) from None

        backend = MPIBackend()
    if isinstance(backend, str):
        raise UsageError(f"unknown backend {backend!r}: it is 'mpi', or left out for the simulator")
    return share_out(backend, config, world) if config.simulate and not backend.virtual else backend


def share_out(host, config, world):
    """The simulator whose ranks the processes of another backend share out."""
    from dsgd.simulator.backend import SharedSimulator

    return SharedSimulator(config.simulate, host, **(world or {}))


def run(
    config=None,
    *,
    backend=None,
    objective=None,
    controller=None,
    world=None,
    wish=None,
    announce=None,
    start=None,
    keep=False,
    **flags,
):
    """Train, and return a Result; under MPI every rank calls this, and ranks other than 0 get None.

    Args:
        config: a Config; `flags` are its fields by name and replace its values, as in run(simulate=8, lr=0.05).
            Without `output` no file is written.
        backend: "mpi" to run on this job's MPI ranks; by default `simulate` ranks in this process, or one.
        objective: trains this (see objectives) in place of a network on `data`.
        controller: a function, in place of one that `controllers` has, or the spec of one of those.
        world: options of the simulated world: shuffle, carrier, check, trace, network.
        wish: a list; once it is not empty, a synchronous run stops after its step and saves.
        announce: called with (job, backend) before the first step.
        start: the `checkpoint` of an earlier Result, the same on every rank: the run goes on from it, and what differs
            from the earlier run is the caller's business.  keep: whether the Result is to hold one.
    Raises:
        UsageError, DataError, CheckpointError: before the first step.  NonFiniteGradient: with rank, step and layer.

    >>> import dsgd
    >>> task = dict(data="blobs", steps=20, dtype="float64")
    >>> one = dsgd.run(algorithm="sgd", **task)
    >>> four = dsgd.run(algorithm="data-parallel", simulate=4, **task)
    >>> four.summary["workers"], bool(abs(four.params - one.params).max() < 1e-12)
    (4, True)
    """
    from threadpoolctl import threadpool_limits

    began = time.perf_counter()
    if {"steps", "epochs"} <= flags.keys():
        raise UsageError("steps and epochs both say how long to train; give one of them")
    if isinstance(controller, str):
        controller, flags = None, flags | {"controller": controller}
    if flags.get("replay") and not config:
        flags = settings(flags["replay"], launched=backend is not None) | flags
    config = make(asdict(config or Config()) | flags) if flags or not config else config
    own_backend = backend is None or isinstance(backend, str)
    backend = open_backend(backend, config, world)
    with threadpool_limits(limits=config.threads, user_api="blas"):
        with backend.watch(config.timeout):
            job = backend.agree(lambda: prepare(config, backend, objective, controller))
            backend.handshake(facts(job), job.manifest["versions"])
            if start and start[0]["x"].size != job.objective.layout.size:
                sizes = start[0]["x"].size, job.objective.layout.size
                raise CheckpointError("start: its x has {} numbers, and this network has {}".format(*sizes))
            job = start_folder(job._replace(restored=start, keep=keep), backend)._replace(
                wish=[] if wish is None else wish
            )
            if announce:
                announce(job, backend)
            start = job.restored[1]["clock"] if job.restored else 0.0
            own = {"network": job.network, "timing": job.timing} if backend.virtual else {"packet": packet_of(job)}
            prepared = time.perf_counter()
            try:
                done = backend.run(
                    lambda *comms: Rank(job, *comms).run(),
                    roles=job.roles,
                    dtype=config.dtype,
                    start=start,
                    reduction=config.reduction,
                    faults=job.faults,
                    debug=config.debug_collectives,
                    trace=config.trace,
                    **own,
                )
                if own_backend:
                    backend.close()
                return finish(job, backend, done, prepared - began) if job.recorder else None
            finally:
                if job.recorder:
                    job.recorder.close()


def packet_of(job):
    """Elements of the packets that all ranks sum in the written order, each where it computed its own.

    0 for an algorithm or a reduction that does not, and for packets on a card: they go through pinned memory.
    """
    summed = job.algorithm.sums in ("allreduce", "reduce_scatter") and job.config.reduction == "tree"
    return HEAD + job.objective.layout.size if summed and not job.roles.servers and job.xp is np else 0


def load_of(server, roles, ranks):
    """What a server had to do: its key range, and the messages and bytes that it sent, those of its worker included."""
    keys = [[lo, hi] for rank, lo, hi in roles.owners if rank == server]
    return {"rank": server, "keys": keys[0], "messages": int(ranks[server][0]), "bytes": int(ranks[server][1])}


def finish(job, backend, done, startup):
    """The Result of rank 0, and its files."""
    recorder, disk, config = job.recorder, job.recorder.disk, job.config
    last = next(
        (row for row in reversed(recorder.records.rows) if "test_loss" in row and row["step"] == done["step"]), None
    )
    with recorder.timed("evaluation"):
        test = last or job.objective.evaluate(done["x"])
        classes = job.objective.classify(done["x"])
    ranks = done["ranks"]
    summary = {
        "algorithm": config.algorithm,
        "backend": backend.name,
        "ranks": backend.size,
        "workers": len(job.roles.workers),
        "processes": backend.processes,
        "steps": done["step"],
        "ended_by": done["ended_by"],
        "epochs": recorder.done / job.objective.samples,
        "train_loss": recorder.train_loss,
        "test_loss": test["test_loss"],
        "test_accuracy": test["test_accuracy"],
        "test_r2": test.get("test_r2"),
        "params_sha256": digest(done["x"]),
        "samples_per_worker": [
            {"worker": i, "samples": int(ranks[r][2]), "pid": int(ranks[r][3])}
            for i, r in enumerate(job.roles.workers)
            if r in ranks
        ],
        "wall_seconds": time.perf_counter() - recorder.first,
        "virtual_seconds": done["clock"] if backend.virtual else None,
        "bytes_sent": int(sum(rank[1] for rank in ranks.values())),
        "samples_lost": recorder.lost,
        "messages_sent": int(sum(rank[0] for rank in ranks.values())),
        "gradients": recorder.watch.verdict,
    }
    summary |= classes | job.order.summary()
    if job.roles.servers:
        summary["servers"] = [load_of(server, job.roles, ranks) for server in job.roles.servers]
    seconds = {"start-up": startup} | recorder.seconds
    if job.folder:
        disk.attempt(METRICS, recorder.records.write, done["step"], last=True)
        disk.attempt(ORDER, job.order.finish, done["step"], last=True)
        disk.attempt(SUMMARY, lambda: write_json(job.folder / SUMMARY, summary), done["step"], last=True)
    events = list(make_events(done["logs"], job.roles)) if config.trace else None
    if events and job.folder:
        write_timeline(job, backend, done, events)
    trace = backend.world.trace if backend.virtual else None
    rows, unsaved = recorder.records.rows, disk.verdict()
    result = Result(config, summary, rows, done["x"], seconds, job.folder, trace, events, job.order.entries, unsaved)
    result.checkpoint = done["checkpoint"]
    if job.folder and not config.no_plot and not unsaved:
        from dsgd.plots.convergence import draw

        with recorder.timed("plot"):
            try:
                draw(job.folder, job.folder / "convergence.png")
            except OSError as error:  # all that matters is saved: a picture is no reason to fail
                say(f"{job.folder / 'convergence.png'} was not drawn: {error.strerror or error}")
        seconds["plot"] = recorder.seconds["plot"]
    return result


def write_timeline(job, backend, done, events):
    """trace.json of all ranks; what did not fit is told of."""
    facts = {"algorithm": job.config.algorithm, "backend": backend.name, "clock error (s)": backend.clock_error}
    facts["first step"] = job.restored[1]["step"] + 1 if job.restored else 1
    text = encode(events, facts)
    job.recorder.disk.attempt(TRACE, lambda: write_text(job.folder / TRACE, text), done["step"], last=True)
    if any(log["full"] for log in done["logs"]):
        calls = sum(len(log["records"]) for log in done["logs"])
        say(
            f"{job.folder / TRACE} does not reach the end of the run: {calls} calls are all it holds; trace fewer steps"
        )
