"""The command line, TOML files and saved configurations, read into a Config."""

import argparse
import json
import numbers
import textwrap
import tomllib
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

from dsgd.config import OFF, Config
from dsgd.errors import UsageError
from dsgd.follow import settings
from dsgd.specs import convert, nearest

GROUPS = ("data", "model", "optimizer", "distribution", "faults", "output")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(message)


class Help(argparse.HelpFormatter):
    """Names such as data-parallel stay in one piece."""

    def _split_lines(self, text, width):
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def parser():
    """The command line: one flag for each field of Config, grouped."""
    result = Parser(
        prog="python -m dsgd.train",
        allow_abbrev=False,
        formatter_class=Help,
        description="Train a network on one worker, on simulated ranks (--simulate N) or under mpirun: the same flags everywhere.",
    )
    groups = {name: result.add_argument_group(name) for name in GROUPS}
    for f in fields(Config):
        name, text = "--" + f.name.replace("_", "-"), f.metadata["help"]
        if f.type is bool:
            groups[f.metadata["group"]].add_argument(name, action="store_true", default=None, help=text)
        else:
            shown = text + ("" if f.default in ("", 0, OFF) else f" (default: {f.default})")
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
    return configure(parse_words(parser(), argv), launched)


def parse_words(known, argv):
    """{flag: text} of a command line, None where it was not given.   known: a Parser

    Raises:
        UsageError: for a flag that is unknown, or given twice.
    """
    namespace, unknown = known.parse_known_args(argv)
    names = [name for action in known._actions for name in action.option_strings if name.startswith("--")]
    if unknown:
        word = unknown[0].partition("=")[0]
        hint = nearest(word, names) if word.startswith("-") else "flags begin with --; choices:"
        raise UsageError(f"unknown argument {unknown[0]!r}; {hint.partition('choices:')[0]}see --help")
    for name in names:
        if sum(word.partition("=")[0] == name for word in argv) > 1:
            raise UsageError(f"{name} is given twice; keep one of them")
    return vars(namespace)


def configure(values, launched=False):
    """(Config, whether to print it and stop) of what parse_words gave: with --config the file's, with --resume the folder's."""
    file, shown = values.pop("config"), values.pop("print_config")
    given = {key: value for key, value in values.items() if value is not None}
    going_on = given.keys() >= {"resume", "output"} and not file
    saved = read_toml(file) if file else read_folder(given["output"], launched) if going_on else {}
    if given.get("replay"):
        saved = settings(given["replay"], launched) | saved
    for values in (given, saved):
        if "epochs" in values and "steps" in values:
            raise UsageError("--epochs and --steps both say how long to train; give one of them")
    if 0 in (given.get("steps"), saved.get("steps")) or given.get("steps") == "0":
        raise UsageError("--steps 0 trains nothing; leave it out for --epochs to say how long")
    if "epochs" in given or "steps" in given:  # either replaces either: the command line wins
        saved = {key: value for key, value in saved.items() if key not in ("epochs", "steps")}
    with naming(file or given.get("replay") or saved and Path(given["output"]) / "config.json"):
        make(saved)
    return make(saved | given), shown


@contextmanager
def naming(file):
    """Errors say in which file they are, if it is one."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None


def read_folder(folder, launched):
    """{key: value} of the run in a folder, which --resume goes on with: only what changes has to be given again."""
    path = Path(folder) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("epochs" if values["steps"] else "steps")
        values.pop("faults", None)  # they are asked for anew or not at all
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no run to resume; leave out --resume to start one there") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
        elif kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
            value = as_float(key, value)
        elif kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
            value = int(value)  # a NumPy integer
        if type(value) is not kind:
            raise UsageError(f"{key} = {value!r} is not {'an' if kind is int else 'a'} {kind.__name__}")
        typed[key] = value
    return Config(**typed)


def as_float(key, number):
    try:
        return float(number)
    except OverflowError:
        raise UsageError(f"{key} is a whole number beyond any float") from None


def read_toml(path):
    """{key: value} of a TOML file; keys may have - or _."""
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # of no text, of no TOML, of a number or a nesting too long
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
