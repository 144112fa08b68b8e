"""The configuration of a run: one frozen dataclass whose fields are the flags, the TOML keys and config.json."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace

from dsgd.algorithms import ALGORITHMS
from dsgd.algorithms.settings import unsettable
from dsgd.collectives import REDUCTIONS
from dsgd.controllers import CONTROLLERS, make_controller
from dsgd.errors import UsageError
from dsgd.faults import FAULTS, read_faults
from dsgd.layers import ACTIVATIONS, LOSSES
from dsgd.mlp import INITS
from dsgd.network import NETWORKS
from dsgd.optimizers import DEFAULT_LR, OPTIMIZERS
from dsgd.sampling import PARTITIONS, WHOLE
from dsgd.schedules import SCHEDULES, make_schedule
from dsgd.specs import build, choose, parse
from dsgd.timing import COMPUTE, parse_compute

OFF = -1.0  # a tolerance that was not given: 0 is one, too
PATIENCE = 10  # periods, where --tolerance is given and --patience is not
COUNTS = ("steps", "simulate", "checkpoint_every", "log_every", "seed", "warmup_steps", "patience")
COUNTS += ("check_replicas", "stop_on_divergence")
LEAST = {"batch_size": 1, "epochs": 1, "threads": 1} | dict.fromkeys(COUNTS, 0)
SCALINGS = ("none", "linear")
SUMS = {"tree": ("allreduce", "reduce"), "native": ("allreduce", "reduce")} | dict.fromkeys(REDUCTIONS, ("allreduce",))


def flag(group, default, text, metavar=None):
    """A field that is a flag: its group in --help, default, help text."""
    return field(default=default, metadata={"group": group, "help": text, "metavar": metavar})


@dataclass(frozen=True)
class Config:
    data: str = flag("data", "digits", "a name or a file, with options; the guide lists them", "NAME[:test=0.2,...]")
    batch_size: int = flag("data", 32, "global batch: samples of one step over all workers")
    partition: str = flag("data", "shuffled", "which worker gets which samples: " + ", ".join(PARTITIONS), "NAME[:...]")
    hidden: str = flag("model", "64,32", "widths of the hidden layers; '' for none", "N,N,...")
    activation: str = flag("model", "relu", ", ".join(ACTIVATIONS))
    loss: str = flag("model", "auto", "auto (by the labels), " + ", ".join(LOSSES))
    init: str = flag("model", "he", ", ".join(INITS), "NAME[:gain=1]")
    dropout: float = flag("model", 0.0, "probability that a hidden unit is dropped")
    l1: float = flag("model", 0.0, "factor of the sum of the absolute weights in the loss", "FACTOR")
    l2: float = flag("model", 0.0, "factor of half the sum of the squared weights in the loss", "FACTOR")
    dtype: str = flag("model", "float32", "float32 or float64")
    optimizer: str = flag(
        "optimizer", "sgd:momentum=0.9", ", ".join(OPTIMIZERS) + ", with options", "NAME[:momentum=0.9,...]"
    )
    lr: float = flag(
        "optimizer",
        0.0,
        "step size; 0 stands for the optimizer's own: " + ", ".join(f"{k} {v}" for k, v in DEFAULT_LR.items()),
    )
    schedule: str = flag("optimizer", "constant", "of the step size: " + ", ".join(SCHEDULES), "NAME[:...]")
    warmup_steps: int = flag("optimizer", 0, "steps in which the step size rises to --lr, before the schedule", "STEPS")
    lr_scaling: str = flag("optimizer", "none", "none, or linear: --lr is meant for a batch of 32 and grows with it")
    clip_norm: float = flag("optimizer", 0.0, "largest norm of the averaged gradient; 0 for no limit", "NORM")
    epochs: int = flag("optimizer", 40, "passes over the training set")
    steps: int = flag("optimizer", 0, "steps, in place of --epochs")
    tolerance: float = flag(
        "optimizer", OFF, "stop once the mean loss of an epoch (or --log-every steps) no longer falls by more", "LOSS"
    )
    patience: int = flag("optimizer", 0, f"... that many times in a row (default: {PATIENCE})", "TIMES")
    stop_on_divergence: int = flag(
        "optimizer", 0, "stop once that mean loss was over 10 times the best so far, this many times in a row", "TIMES"
    )
    seed: int = flag("optimizer", 0, "of everything random")
    algorithm: str = flag(
        "distribution",
        "",
        "data-parallel by default, sgd on one rank; " + ", ".join(ALGORITHMS),
        "NAME[:option=value,...]",
    )
    reduction: str = flag(
        "distribution",
        "tree",
        "how workers sum: tree (the written order), native (the MPI library's), or from scratch: "
        + ", ".join(REDUCTIONS),
    )
    simulate: int = flag("distribution", 0, "ranks in this process, on a virtual clock, instead of mpirun's", "N")
    compute: str = flag(
        "distribution",
        "flops",
        "how long a gradient takes on the virtual clock: " + ", ".join(COMPUTE) + " (measured: not reproducible)",
        "NAME[:option=value,...]",
    )
    network: str = flag(
        "distribution", "uniform", "what messages cost on the virtual clock: " + ", ".join(NETWORKS), "NAME[:...]"
    )
    controller: str = flag(
        "distribution",
        "",
        "changes settings of a parameter server while it trains: " + ", ".join(CONTROLLERS),
        "NAME[:option=value,...]",
    )
    replay: str = flag(
        "distribution", "", "follow the order of another run's pushes: its folder, or its order.jsonl", "RUN"
    )
    threads: int = flag("distribution", 1, "BLAS threads of a worker")
    device: str = flag("distribution", "cpu", "cpu, or gpu: one CUDA card a process, through CuPy")
    timeout: float = flag("faults", 600.0, "seconds without progress after which a job ends; 0 for never", "SECONDS")
    debug_collectives: bool = flag("faults", False, "compare every collective over the ranks, and name what differs")
    check_replicas: int = flag("faults", 0, "steps between comparisons of the workers' parameters; 0 for none", "STEPS")
    faults: str = flag("faults", "", "faults on purpose: " + ", ".join(FAULTS), "'KIND:option=value,...; ...'")
    output: str = flag("output", "", "folder of the run; runs/NUMBER-ALGORITHM by default", "FOLDER")
    resume: bool = flag("output", False, "continue the run in --output")
    checkpoint_every: int = flag(
        "output",
        0,
        "steps between checkpoints, at which asynchronous workers come to rest; 0 for one at the end",
        "STEPS",
    )
    log_every: int = flag("output", 0, "steps between records; 0 for one an epoch", "STEPS")
    trace: bool = flag(
        "output",
        False,
        "write a timeline of all ranks, trace.json, at the end; a run that is killed or fails leaves none",
    )
    quiet: bool = flag("output", False, "print the last line only")
    no_plot: bool = flag("output", False, "do not draw convergence.png")

    def __post_init__(self):
        self._check_numbers()
        for name, table in (
            ("activation", ACTIVATIONS),
            ("loss", ["auto", *LOSSES]),
            ("dtype", ("float32", "float64")),
            ("lr_scaling", SCALINGS),
            ("reduction", SUMS),
            ("device", ("cpu", "gpu")),
        ):
            choose(name.replace("_", "-"), getattr(self, name), dict.fromkeys(table))
        parse(self.partition, PARTITIONS, "--partition")
        if not 0 < parse(self.init, INITS, "--init")[1]["gain"] < float("inf"):
            raise UsageError(f"--init {self.init}: the gain must be a positive number")
        make_schedule(self.schedule, lr=1.0, steps=1)
        read_faults(self.faults)
        make_controller(self.controller)
        parse_compute(self.compute)
        parse(self.network, NETWORKS, "--network")
        self._check_combinations()

    def _check_numbers(self):
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)} must be at least {least}")
        for name in ("lr", "l1", "l2", "clip_norm", "timeout"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)} must be 0 or more, and finite")
        if not (0 <= self.tolerance < float("inf") or self.tolerance == OFF):
            raise UsageError(f"--tolerance {self.tolerance} must be 0 or more, and finite")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"--dropout {self.dropout} is not a probability in [0, 1)")

    def _check_combinations(self):
        build(self.optimizer, OPTIMIZERS, "--optimizer")
        name, options = parse(self.optimizer, OPTIMIZERS, "--optimizer")
        if self.l2 and options.get("weight_decay") and not OPTIMIZERS[name].decoupled:
            raise UsageError(
                f"--l2 and weight_decay of {name} are the same penalty, given in two places; keep one of them"
            )
        if self.replay and self.resume:
            raise UsageError(
                "--replay with --resume: a replay is made in one go; leave --resume out, and start it anew"
            )
        if self.patience and self.tolerance == OFF:
            raise UsageError(f"--patience {self.patience} needs a --tolerance: how far must the loss fall?")
        hidden = self.widths()
        if self.dropout and not hidden:
            raise UsageError("--dropout drops hidden units, and --hidden '' has none; leave one of them out")
        if self.algorithm:
            self.check_algorithm()

    def check_algorithm(self):
        """Refuse what the algorithm cannot do."""
        name, options = self.parse_algorithm()
        if self.controller:
            self.check_controller(make_controller(self.controller)[0])
        if ALGORITHMS[name].sums not in SUMS[self.reduction] and self.reduction != "tree":
            raise UsageError(
                f"--reduction {self.reduction} is a way to all-reduce, and {name} does not; leave it out"
                + ", or add ranks" * (name == "sgd")
                if self.reduction in REDUCTIONS
                else f"--reduction {self.reduction}: {name} has no reduction over workers that MPI could make; leave it out"
            )
        synchronous = ALGORITHMS[name].synchronous(**options)
        replicas = ALGORITHMS[name].replicas and synchronous and not options.get("colocated")
        if self.check_replicas and not replicas:
            raise UsageError(
                f"--check-replicas compares the x of each worker, and those of {self.algorithm} own parts of it, or go their own "
                "ways; leave it out"
            )
        if not synchronous:
            agreed = {
                "--tolerance": self.tolerance != OFF,
                "--stop-on-divergence": self.stop_on_divergence,
                "--schedule plateau": self.schedule.startswith("plateau"),
            }
            given = [what for what in agreed if agreed[what]]
            if given:
                raise UsageError(
                    f"{given[0]} needs a loss that all ranks agree on, and asynchronous ranks do not; leave it out"
                )

    def check_controller(self, setting=None):
        """Refuse a controller that has nothing to set.   setting: what it will set, if that is known"""
        name, options = self.parse_algorithm()
        if "consistency" not in options:
            raise UsageError(f"--controller: {name} has no settings that change; it is for parameter-server")
        why = setting and unsettable(
            setting, options["bound"], parse(self.partition, PARTITIONS, "--partition")[0] in WHOLE
        )
        if why:
            raise UsageError(f"--controller {self.controller}: {why}")

    def widths(self):
        """The hidden widths, a tuple."""
        try:
            widths = tuple(int(width) for width in self.hidden.split(",")) if self.hidden.strip() else ()
        except ValueError:
            raise UsageError(f"--hidden {self.hidden!r} is not a list of whole numbers such as 64,32") from None
        if any(width < 1 for width in widths):
            raise UsageError(f"--hidden {self.hidden}: a layer needs at least one unit")
        return widths

    def parse_algorithm(self):
        """(name, options) of --algorithm."""
        return parse(self.algorithm, ALGORITHMS, "--algorithm", schema=lambda algorithm: algorithm.run)

    def settle(self, size):
        """This configuration with the choices that depend on others made.   size: ranks

        >>> settled = Config(optimizer="adam").settle(size=4)
        >>> settled.algorithm, settled.lr
        ('data-parallel', 0.001)
        """
        algorithm = self.algorithm or ("sgd" if size == 1 else "data-parallel")
        lr = self.lr or DEFAULT_LR[self.optimizer.partition(":")[0]]
        patience = self.patience or (PATIENCE if self.tolerance != OFF else 0)
        return replace(self, algorithm=algorithm, lr=lr, patience=patience)

    def identity(self):
        """{key: value} of all that a resumed run must have in common with the run it continues."""
        free = ("epochs", "steps", "simulate", "output", "resume", "quiet", "no_plot", "trace")
        free += ("timeout", "debug_collectives", "check_replicas", "faults", "replay", "device")
        return {key: value for key, value in asdict(self).items() if key not in free}

    def digest(self):
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
