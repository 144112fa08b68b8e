"""From a configuration to a Job: data, network, roles and batches, every combination checked before the first step."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

import dsgd
from dsgd.algorithms import ALGORITHMS
from dsgd.checkpoint import digest
from dsgd.config import Config
from dsgd.controllers import make_controller
from dsgd.data import load
from dsgd.device import open_device, settle
from dsgd.errors import UsageError
from dsgd.faults import NETWORK, read_faults
from dsgd.follow import read_replayed
from dsgd.mlp import MLP
from dsgd.network import NETWORKS, read_network
from dsgd.objectives import Supervised
from dsgd.optimizers import OPTIMIZERS
from dsgd.order import text
from dsgd.rank import Job
from dsgd.sampling import make_sampler
from dsgd.schedules import spans_run
from dsgd.specs import parse
from dsgd.timing import calibrate, make_timing, parse_compute
from dsgd.versions import versions

RESTARTS = "DSGD_RESTARTS"  # environment: how often dsgd.launch has started this run again
RANK_BYTES = 10_000  # of a simulated rank beside its arrays, about
LR_BATCH = 32  # the batch for which --lr is meant under --lr-scaling linear


def prepare(config, backend, objective=None, controller=None):
    """The Job of a configuration.   objective, controller: in place of those that it names

    Raises:
        UsageError, DataError: for what cannot be meant, or read.
    """
    check_backend(config, backend)
    if config.trace and not config.output:
        raise UsageError("--trace writes trace.json into the folder of the run; give --output")
    config = config.settle(backend.size)
    config.check_algorithm()
    name, options = config.parse_algorithm()
    controlled = config.controller
    if controller:
        config.check_controller()
        controlled = getattr(controller, "__name__", repr(controller))
    elif controlled:
        controller = make_controller(controlled)[1]
    faults = read_faults(config.faults, config.seed)
    faults.refuse(backend.size, backend.virtual)
    if os.environ.get(RESTARTS, "0") != "0":
        faults = faults.after_restart()
    xp, room = open_device(config.device, backend.process), None
    data = "objective"
    if objective is None:
        objective, data = network(config)
    algorithm = ALGORITHMS[name]
    try:
        roles = algorithm.roles(backend.size, objective, **options)
    except ValueError as error:
        raise UsageError(f"--algorithm {config.algorithm}: {error}") from None
    if options.get("cancel") and not backend.virtual:
        raise UsageError(
            f"--algorithm {config.algorithm}: under MPI a gradient is not abandoned once it has begun, only in the simulator; "
            "leave cancel=true out"
        )
    check_processes(config, roles, faults, backend)
    model = algorithm.model and algorithm.model(len(roles.workers), **options)
    alone = model and not model.averages and roles.owners_step  # what each server updates is its part of one push
    if alone and len(roles.owners) > 1 and is_layerwise(config.optimizer):
        raise UsageError(
            f"--optimizer {config.optimizer} needs whole layers, and no server sees a whole layer's push; use servers=1"
        )
    if backend.virtual:
        fit_memory(backend.size, objective.layout.size * np.dtype(config.dtype).itemsize)
    sampler = make_sampler(
        config.partition,
        labels=objective.labels,
        n=objective.samples,
        batch=config.batch_size,
        seed=config.seed,
        workers=len(roles.workers),
    )
    config = replace(config, compute=calibrate(config.compute, objective, sampler, config.seed, config.dtype))
    if xp is not np:
        if algorithm.model:
            raise UsageError(
                f"--device gpu: the servers of {name} look into what they receive, on the CPU; use a synchronous algorithm "
                "without them, such as data-parallel, or leave --device gpu out"
            )
        room = settle(
            xp, objective, len(roles.workers), config.batch_size, backend.size // backend.processes, config.dtype
        )
    identity = config.identity() | {"controller": controlled}
    steps = config.steps or config.epochs * sampler.steps_per_epoch
    for what, count in (("the run has", steps), ("--checkpoint-every is", config.checkpoint_every)):
        if count % roles.every:
            raise UsageError(
                f"--algorithm {config.algorithm}: all workers come to rest after whole periods of {roles.every} steps, "
                f"and {what} {count}, which is no multiple"
            )
    if config.warmup_steps > steps:
        raise UsageError(f"--warmup-steps {config.warmup_steps} is longer than the run of {steps} steps")
    faults.refuse_idle(steps, roles.workers)
    period = config.log_every or sampler.steps_per_epoch
    if config.patience and steps < period:
        raise UsageError(
            f"--tolerance looks at the mean loss of {period} steps at a time, and the run has {steps}; "
            "give a smaller --log-every, or more steps"
        )
    spans = {"schedule steps": steps} if spans_run(config.schedule) else {}
    job = Job(
        config=config,
        algorithm=algorithm,
        options=options,
        roles=roles,
        objective=objective,
        sampler=sampler,
        steps=steps,
        lr=config.lr * scaling(config, roles),
        virtual=backend.virtual,
        faults=faults,
        controller=controller and (controlled, controller),
        xp=xp,
        room=room,
        network=read_network(config.network, config.seed),
        timing=make_timing(config.compute, config.seed, len(roles.workers)),
        manifest={
            "config": identity,
            "ranks": backend.size,
            "data": data,
            "versions": versions(),
            "device": config.device,
        }
        | clock_files(config)
        | spans,
    )
    return job._replace(replayed=read_replayed(job))


def is_layerwise(optimizer):
    return OPTIMIZERS[parse(optimizer, OPTIMIZERS, "optimizer")[0]].layerwise


def check_backend(config, backend):
    """Refuse flags that this backend cannot follow."""
    if backend.virtual and backend.size < backend.processes:
        raise UsageError(
            f"--simulate {backend.size} on {backend.processes} processes leaves some without a rank; start it with "
            f"mpirun -n {backend.size} at most"
        )
    for name in ("compute", "network"):
        spec, default = getattr(config, name), Config.__dataclass_fields__[name].default
        if spec != default and not backend.virtual:
            raise UsageError(
                f"--{name} {spec} is about the virtual clock, and under mpirun time passes by itself; leave it out, or "
                f"simulate (--faults 'slow:rank=1,x=3' slows a rank down in both worlds)"
            )
    if config.resume and not config.output:
        raise UsageError("--resume needs the run's folder: --output FOLDER")
    if config.reduction == "native" and backend.virtual:
        raise UsageError(
            "--reduction native is the MPI library's order, and simulated ranks have no library; leave --reduction out, or start "
            "it with mpirun and without --simulate"
        )


def check_processes(config, roles, faults, backend):
    """Refuse what one process has to simulate alone."""
    if not backend.virtual or backend.processes == 1:
        return
    kinds = [fault.kind for fault in faults.of(*NETWORK)]
    alone = {
        f"--faults {kinds and kinds[0]}": bool(kinds),
        f"--algorithm {config.algorithm}, which is asynchronous,": not roles.synchronous,
        f"--device {config.device}": config.device != "cpu",
        f"--compute {config.compute}, by the speed of this process,": config.compute.startswith("measured"),
    }
    for what, found in alone.items():
        if found:
            raise UsageError(
                f"{what} cannot be simulated by {backend.processes} processes together; start it without mpirun: "
                f"python -m dsgd.train --simulate {backend.size} ..."
            )


def clock_files(config):
    """{"clock files": {file: sha256}} of the files that the virtual clock follows; {} where it follows none."""
    given = parse_compute(config.compute)[1] | parse(config.network, NETWORKS, "network")[1]
    files = [given[option] for option in ("file", "path") if option in given]
    digests = {file: digest(np.frombuffer(Path(file).read_bytes(), np.uint8)) for file in files}
    return {"clock files": digests} if files else {}


def network(config):
    """(objective, digest of its data) of the network and the data set that a configuration names."""
    data = load(config.data, seed=config.seed, dtype=config.dtype)
    loss, classes = config.loss, data.classes
    if loss == "auto":
        loss = "cross-entropy" if classes else "mse"
    if (loss == "mse") == bool(classes):
        raise UsageError(
            f"--loss {loss} does not fit {config.data}, whose targets are {'classes' if classes else 'numbers'}"
        )
    if loss == "binary-cross-entropy" and classes != 2:
        raise UsageError(
            f"--loss binary-cross-entropy is for two classes, and {config.data} has {classes}; use cross-entropy"
        )
    outputs = 1 if loss == "binary-cross-entropy" else data.outputs
    net = MLP((data.X.shape[1], *config.widths(), outputs), config.activation, config.dropout)
    objective = Supervised(net, data, loss=loss, init=config.init, seed=config.seed)
    return objective, data.digest()


def fit_memory(ranks, nbytes):
    """Refuse more simulated ranks than this machine has memory for: each has a gradient of its own, and some objects."""
    needed, memory = ranks * (nbytes + RANK_BYTES), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise UsageError(
            f"--simulate {ranks}: so many ranks take at least {needed / 2**30:.0f} GiB, and this machine has "
            f"{memory / 2**30:.0f}; use fewer, or a smaller network"
        )


def scaling(config, roles):
    """The factor of the linear-scaling rule, by the samples of one update (Goyal et al. 2017, section 2.1)."""
    if config.lr_scaling == "none":
        return 1.0
    part = roles.pushes / len(roles.workers) if roles.pushes else 1
    return config.batch_size * part / LR_BATCH


def facts(job):
    """What must be the same on every rank before the first step, {name: value}."""
    shapes = {name: list(shape) for name, shape in job.objective.layout.shapes.items()}
    free = {
        "simulate": job.config.simulate,
        "steps": job.steps,
        "resume": job.config.resume,
        "check_replicas": job.config.check_replicas,
        "output": bool(job.config.output),
        "timeout": job.config.timeout,
        "device": job.config.device,
        "debug collectives": job.config.debug_collectives,
        "replayed order": job.replayed and digest(np.frombuffer(text(job.replayed[1]).encode(), np.uint8)),
        "dsgd": dsgd.__version__,
    }
    start = None if job.virtual else digest(job.objective.start(job.config.seed, np.dtype(job.config.dtype)))
    return (
        job.manifest["config"]
        | free
        | {"shapes": shapes, "data digest": job.manifest["data"], "initial parameters": start}
    )
