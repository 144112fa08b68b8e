"""From a configuration to a Job: data, network, roles and batches, every combination checked before the first step."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

import dsgd
from dsgd.algorithms import ALGORITHMS
from dsgd.checkpoint import digest
from dsgd.checks import check_backend, check_optimizer, check_processes, check_steps, fit_memory
from dsgd.controllers import make_controller
from dsgd.data import load
from dsgd.device import open_device, settle
from dsgd.errors import UsageError
from dsgd.faults import read_faults
from dsgd.follow import read_replayed
from dsgd.job import Job
from dsgd.mlp import MLP
from dsgd.network import NETWORKS, read_network
from dsgd.objectives import Supervised
from dsgd.order import text
from dsgd.sampling import make_sampler
from dsgd.schedules import spans_run
from dsgd.specs import parse
from dsgd.timing import calibrate, make_timing, parse_compute
from dsgd.versions import versions

RESTARTS = "DSGD_RESTARTS"  # environment: how often dsgd.launch has started this run again
LR_BATCH = 32  # the batch for which --lr is meant under --lr-scaling linear


def prepare(config, backend, objective=None, controller=None):
    """The Job of a configuration.   objective, controller: in place of those that it names

    Raises:
        UsageError, DataError: for what cannot be meant, or read.
    """
    check_backend(config, backend)
    config = config.settle(backend.size)
    config.check_algorithm()
    name, options = config.parse_algorithm()
    controller = name_controller(config, controller)
    faults = read_faults(config.faults, config.seed)
    faults.refuse(backend.size, backend.virtual)
    if os.environ.get(RESTARTS, "0") != "0":
        faults = faults.after_restart()
    xp = open_device(config.device, backend.local_rank)
    data = "objective"
    if objective is None:
        objective, data = network(config)
    algorithm = ALGORITHMS[name]
    roles = make_roles(config, algorithm, options, backend, objective)
    workers = len(roles.workers)
    check_processes(config, roles, faults, backend)
    check_optimizer(config, algorithm.model and algorithm.model(workers, **options), roles)
    if backend.virtual:
        fit_memory(backend.size, objective.layout.size * np.dtype(config.dtype).itemsize)
    sampler = make_sampler(
        config.partition,
        labels=objective.labels,
        n=objective.samples,
        batch=config.batch_size,
        seed=config.seed,
        workers=workers,
    )
    config = replace(config, compute=calibrate(config.compute, objective, sampler, config.seed, config.dtype))
    room = settle(xp, config, algorithm, objective, workers, backend.size // backend.processes)
    steps = config.steps or config.epochs * sampler.steps_per_epoch
    check_steps(config, steps, roles, faults, sampler.steps_per_epoch)
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
        controller=controller,
        xp=xp,
        room=room,
        network=read_network(config.network, config.seed),
        timing=make_timing(config.compute, config.seed, workers),
        manifest=describe(config, controller, backend.size, data, steps),
    )
    return job._replace(replayed=read_replayed(job))


def name_controller(config, function):
    """(name, function) of what adapts settings: `function` if one is given, or else what the configuration names, or None."""
    if function:
        config.check_controller()
        return getattr(function, "__name__", repr(function)), function
    return (config.controller, make_controller(config.controller)[1]) if config.controller else None


def make_roles(config, algorithm, options, backend, objective):
    """Who is a worker and who a server (comm.Roles), as the algorithm says."""
    try:
        roles = algorithm.roles(backend.size, objective, **options)
    except ValueError as error:
        raise UsageError(f"--algorithm {config.algorithm}: {error}") from None
    if options.get("cancel") and not backend.virtual:
        raise UsageError(
            f"--algorithm {config.algorithm}: under MPI a gradient is not abandoned once it has begun, only in the simulator; "
            "leave cancel=true out"
        )
    return roles


def describe(config, controller, ranks, data, steps):
    """The manifest of a run: what is written into checkpoints beside the step.   data: digest of the data"""
    return (
        {
            "config": config.identity() | {"controller": controller[0] if controller else config.controller},
            "ranks": ranks,
            "data": data,
            "versions": versions(),
            "device": config.device,
        }
        | clock_files(config)
        | ({"schedule steps": steps} if spans_run(config.schedule) else {})
    )


def clock_files(config):
    """{"clock files": {file: sha256}} of the files that the virtual clock follows; {} where it follows none."""
    given = parse_compute(config.compute)[1] | parse(config.network, NETWORKS, "--network")[1]
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
