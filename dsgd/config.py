"""The configuration of a run: one frozen dataclass whose fields are the flags, the TOML keys and config.json."""

import argparse
import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from dsgd.algorithms import ALGORITHMS
from dsgd.errors import UsageError
from dsgd.layers import ACTIVATIONS, LOSSES
from dsgd.mlp import INITS
from dsgd.optimizers import DEFAULT_LR, OPTIMIZERS
from dsgd.sampling import PARTITIONS
from dsgd.specs import build, choose, convert, nearest, parse

GROUPS = ("data", "model", "optimizer", "distribution", "output")


def flag(group, default, text, metavar=None):
    """A field that is a flag: its group in --help, default, help text."""
    return field(default=default, metadata={"group": group, "help": text, "metavar": metavar})


@dataclass(frozen=True)
class Config:
    data: str = flag(
        "data", "digits", "digits, fashion-mnist, teacher or FILE.npz, with options", "NAME[:test=0.2,...]"
    )
    batch_size: int = flag("data", 32, "global batch: samples of one step over all workers")
    partition: str = flag("data", "shuffled", "which worker gets which samples: shuffled")
    hidden: str = flag("model", "64,32", "widths of the hidden layers; '' for none", "N,N,...")
    activation: str = flag("model", "relu", ", ".join(ACTIVATIONS))
    loss: str = flag("model", "auto", "auto (by the labels), " + ", ".join(LOSSES))
    init: str = flag("model", "he", ", ".join(INITS))
    dtype: str = flag("model", "float32", "float32 or float64")
    optimizer: str = flag(
        "optimizer", "sgd:momentum=0.9", ", ".join(OPTIMIZERS) + ", with options", "NAME[:momentum=0.9,...]"
    )
    lr: float = flag(
        "optimizer",
        0.0,
        "step size; 0 stands for the optimizer's own: " + ", ".join(f"{k} {v}" for k, v in DEFAULT_LR.items()),
    )
    epochs: int = flag("optimizer", 40, "passes over the training set")
    steps: int = flag("optimizer", 0, "steps, in place of --epochs")
    seed: int = flag("optimizer", 0, "of everything random")
    algorithm: str = flag(
        "distribution",
        "",
        "data-parallel by default, sgd on one rank; " + ", ".join(ALGORITHMS),
        "NAME[:option=value,...]",
    )
    reduction: str = flag(
        "distribution", "tree", "order of sums over workers: tree (written) or native (the MPI library's)"
    )
    simulate: int = flag("distribution", 0, "ranks in this process, on a virtual clock, instead of mpirun's", "N")
    threads: int = flag("distribution", 1, "BLAS threads of a worker")
    device: str = flag("distribution", "cpu", "cpu; gpu is not there yet")
    output: str = flag("output", "", "folder of the run; runs/NUMBER-ALGORITHM by default", "FOLDER")
    resume: bool = flag("output", False, "continue the run in --output")
    checkpoint_every: int = flag("output", 0, "steps between checkpoints; 0 for one at the end", "STEPS")
    log_every: int = flag("output", 0, "steps between records; 0 for one an epoch", "STEPS")
    quiet: bool = flag("output", False, "print the last line only")
    no_plot: bool = flag("output", False, "do not draw convergence.png")

    def __post_init__(self):
        for known, least in (
            ("batch_size", 1),
            ("epochs", 1),
            ("steps", 0),
            ("simulate", 0),
            ("threads", 1),
            ("checkpoint_every", 0),
            ("log_every", 0),
            ("seed", 0),
        ):
            if getattr(self, known) < least:
                raise UsageError(f"--{known.replace('_', '-')} {getattr(self, known)} must be at least {least}")
        if not 0 <= self.lr < float("inf"):
            raise UsageError(f"--lr {self.lr} must be a positive number")
        for name, table in (
            ("activation", ACTIVATIONS),
            ("init", INITS),
            ("loss", ["auto", *LOSSES]),
            ("partition", list(PARTITIONS)),
        ):
            choose(name, getattr(self, name), dict.fromkeys(table))
        choose("dtype", self.dtype, dict.fromkeys(("float32", "float64")))
        choose("reduction", self.reduction, dict.fromkeys(("tree", "native")))
        choose("device", self.device, dict.fromkeys(("cpu", "gpu")))
        if self.device == "gpu":
            raise UsageError("--device gpu is not there yet; leave it out to train on the CPU")
        build(self.optimizer, OPTIMIZERS, "optimizer")
        if self.algorithm:
            name, _ = self.parse_algorithm()
            if self.reduction != "tree" and not ALGORITHMS[name].reduces:
                raise UsageError(f"--reduction {self.reduction}: {name} has no reduction over workers; leave it out")
        self.widths()

    def widths(self):
        """The hidden widths, a tuple."""
        try:
            widths = tuple(int(width) for width in self.hidden.split(",") if width.strip())
        except ValueError:
            raise UsageError(f"--hidden {self.hidden!r} is not a list of whole numbers such as 64,32") from None
        if any(width < 1 for width in widths):
            raise UsageError(f"--hidden {self.hidden}: a layer needs at least one unit")
        return widths

    def parse_algorithm(self):
        """(name, options) of --algorithm."""
        return parse(self.algorithm, ALGORITHMS, "algorithm", schema=lambda algorithm: algorithm.run)

    def settle(self, size):
        """This configuration with the choices that depend on the number of ranks made."""
        algorithm = self.algorithm or ("sgd" if size == 1 else "data-parallel")
        lr = self.lr or DEFAULT_LR[self.optimizer.partition(":")[0]]
        return replace(self, algorithm=algorithm, lr=lr)

    def identity(self):
        """{key: value} of all that a resumed run must have in common with the run it continues."""
        free = ("epochs", "steps", "simulate", "output", "resume", "quiet", "no_plot")
        return {key: value for key, value in asdict(self).items() if key not in free}

    def digest(self):
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(message)


def parser():
    """The command line: one flag for each field of Config, grouped."""
    result = Parser(
        prog="python -m dsgd.train",
        allow_abbrev=False,
        description="Train a network on one worker, on simulated ranks (--simulate N) or under mpirun: the same flags everywhere.",
    )
    groups = {name: result.add_argument_group(name) for name in GROUPS}
    for f in fields(Config):
        name, text = "--" + f.name.replace("_", "-"), f.metadata["help"]
        if f.type is bool:
            groups[f.metadata["group"]].add_argument(name, action="store_true", default=None, help=text)
        else:
            shown = text + ("" if f.default in ("", 0, 0.0) else f" (default: {f.default})")
            groups[f.metadata["group"]].add_argument(
                name, default=None, help=shown.replace("%", "%%"), metavar=f.metadata["metavar"]
            )
    groups["output"].add_argument("--config", metavar="FILE.toml", help="read flags from a file; the command line wins")
    groups["output"].add_argument(
        "--print-config", action="store_true", help="print the configuration as TOML and stop"
    )
    return result


def read_arguments(argv, launched=False):
    """(Config, whether to print it and stop) of a command line.

    Args:
        launched: whether a launcher has started the ranks, so that none are to be simulated.

    Raises:
        UsageError: in one line, with the nearest valid choice.
    """
    known = parser()
    namespace, unknown = known.parse_known_args(argv)
    if unknown:
        names = [name for action in known._actions for name in action.option_strings if name.startswith("--")]
        word = unknown[0].partition("=")[0]
        raise UsageError(
            f"unknown argument {unknown[0]!r}; "
            + (nearest(word, names) if word.startswith("-") else "flags begin with --; choices:").partition("choices:")[
                0
            ]
            + "see --help"
        )
    values = vars(namespace)
    file, shown = values.pop("config"), values.pop("print_config")
    given = {key: value for key, value in values.items() if value is not None}
    going_on = given.keys() >= {"resume", "output"} and not file
    saved = read_toml(file) if file else read_folder(given["output"], launched) if going_on else {}
    for values in (given, saved):
        if "epochs" in values and "steps" in values:
            raise UsageError("--epochs and --steps both say how long to train; give one of them")
    if "epochs" in given or "steps" in given:  # either replaces either: the command line wins
        saved = {key: value for key, value in saved.items() if key not in ("epochs", "steps")}
    return make(saved | given), shown


def read_folder(folder, launched):
    """{key: value} of the run in a folder, which --resume goes on with: only what changes has to be given again."""
    path = Path(folder) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("epochs" if values["steps"] else "steps")
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no run to resume; leave out --resume to start one there") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged ({error}); give the run's flags in --config FILE.toml to resume without it"
        ) from None
    return values | {"simulate": 0} if launched else values


def make(values):
    """A Config from {key: value}, values as text or of the field's type."""
    types = {f.name: f.type for f in fields(Config)}
    typed = {}
    for key, value in values.items():
        if key not in types:
            raise UsageError(f"unknown option {key!r}; {nearest(key, list(types))}")
        kind = types[key]
        if isinstance(value, str):
            value = convert("--" + key.replace("_", "-"), value, kind)
        elif kind is str and isinstance(value, (list, tuple)):
            value = ",".join(map(str, value))
        elif kind is str and isinstance(value, Path):
            value = str(value)
        elif kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UsageError(f"{key} = {value!r} is not {'an' if kind is int else 'a'} {kind.__name__}")
        typed[key] = value
    return Config(**typed)


def read_toml(path):
    """{key: value} of a TOML file; keys may have - or _."""
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--config {path}: {error}") from None
    return {key.replace("-", "_"): value for key, value in values.items()}


def to_toml(config):
    """A TOML file that --config reads back to the same configuration."""
    skip = "epochs" if config.steps else "steps"
    return "\n".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in asdict(config).items()
        if key not in (skip, "resume")
    )
