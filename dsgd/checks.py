"""What a run refuses before its first step because it cannot be meant: combinations of flags, world, steps and memory.

What one flag alone may be is in config.py.  Each of these raises a UsageError, or returns nothing.
"""

import os

from dsgd.config import Config
from dsgd.errors import UsageError
from dsgd.faults import NETWORK
from dsgd.optimizers import OPTIMIZERS
from dsgd.specs import parse

RANK_BYTES = 10_000  # of a simulated rank beside its arrays, about


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


def check_optimizer(config, model, roles):
    """Refuse an optimizer of whole layers where each server updates its part of one push.   model: of the server, or None"""
    layerwise = OPTIMIZERS[parse(config.optimizer, OPTIMIZERS, "--optimizer")[0]].layerwise
    alone = model and not model.averages and roles.owners_step
    if alone and len(roles.owners) > 1 and layerwise:
        raise UsageError(
            f"--optimizer {config.optimizer} needs whole layers, and no server sees a whole layer's push; use servers=1"
        )


def check_steps(config, steps, roles, faults, per_epoch):
    """Refuse what does not fit into a run of so many steps.   per_epoch: steps of an epoch"""
    for what, count in (("the run has", steps), ("--checkpoint-every is", config.checkpoint_every)):
        if count % roles.every:
            raise UsageError(
                f"--algorithm {config.algorithm}: all workers come to rest after whole periods of {roles.every} steps, "
                f"and {what} {count}, which is no multiple"
            )
    if config.warmup_steps > steps:
        raise UsageError(f"--warmup-steps {config.warmup_steps} is longer than the run of {steps} steps")
    faults.refuse_idle(steps, roles.workers)
    period = config.log_every or per_epoch
    if config.patience and steps < period:
        raise UsageError(
            f"--tolerance looks at the mean loss of {period} steps at a time, and the run has {steps}; "
            "give a smaller --log-every, or more steps"
        )


def fit_memory(ranks, nbytes):
    """Refuse more simulated ranks than this machine has memory for: each has a gradient of its own, and some objects."""
    needed, memory = ranks * (nbytes + RANK_BYTES), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise UsageError(
            f"--simulate {ranks}: so many ranks take at least {needed / 2**30:.0f} GiB, and this machine has "
            f"{memory / 2**30:.0f}; use fewer, or a smaller network"
        )
