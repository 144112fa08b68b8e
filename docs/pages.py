"""The pages of the site that are made from the source: algorithms, flags, pictures, and the sources themselves."""

import ast
import inspect
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

from docstrings import markdown
from tables import identities

from dsgd.algorithms import ALGORITHMS
from dsgd.config import Config
from dsgd.specs import options

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = {".py": "python", ".toml": "toml", ".cff": "yaml", ".ipynb": "json", ".sbatch": "bash", ".cfg": "ini"}


def source(path):
    """A file of the repository as a block of code; a fence that the file has inside it does not end it."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"~~~~~~ {LANGUAGES.get(Path(path).suffix, 'text')}\n{text.rstrip()}\n~~~~~~\n"


def source_page(path):
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n{source(path)}"


def first_line(module):
    """What a module is, without the period or colon behind it."""
    return inspect.getdoc(module).partition("\n")[0].rstrip(".:")


def row(*cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |\n"


def table(*rows):
    """Rows as a Markdown table; the first one is its head."""
    return "\n" + row(*rows[0]) + row(*["---"] * len(rows[0])) + "".join(row(*cells) for cells in rows[1:]) + "\n"


def algorithm_index():
    """The list of algorithms."""
    rows = [(f"[`{name}`]({name}.md)", first_line(inspect.getmodule(a.run))) for name, a in ALGORITHMS.items()]
    return "# Algorithms\n\n`--algorithm NAME[:option=value,...]`, in order of increasing complexity.\n" + table(
        ("`--algorithm`", "what it is"), *rows
    )


def algorithm_page(name):
    """Equation, reference, exact when, options, tests and source code of an algorithm."""
    algorithm = ALGORITHMS[name]
    module = inspect.getmodule(algorithm.run)
    path = Path(module.__file__).resolve().relative_to(ROOT).as_posix()
    rows = [
        (f"`{option}`", shown_type(p.annotation), shown_default(p.default))
        for option, p in options(algorithm.run).items()
    ]
    parts = [f"# {name}\n\n", markdown(inspect.getdoc(module)), "\n\n## Options\n\n"]
    parts.append(f"`--algorithm {name}{':option=value,...' if rows else ''}`\n")
    parts.append(table(("option", "type", "default"), *rows) if rows else "\nIt has none of its own.\n")
    held = [f"- [{file}](../source/tests/{file}.md): `{test}`\n" for file, test in identities()[name]]
    parts.append(f"\n## Tests\n\nWhat is said under *exact when* is held by\n\n{''.join(held)}\nAll that name it:\n")
    others = (
        (f"[{file}](../source/tests/{file}.md)", ", ".join(f"`{test}`" for test in tests))
        for file, tests in tests_of(name)
    )
    parts.append(table(("file", "tests"), *others))
    parts.append(f"\n## Source: {path}\n\n{source(path)}")
    return "".join(parts)


def shown_type(annotation):
    return {int: "whole number", float: "number", bool: "true or false"}.get(annotation, "text")


def shown_default(default):
    return {None: "has to be given", ...: "may be left out"}.get(default, f"`{str(default).lower()}`")


@cache
def tests():
    """[(file, test, the strings that it has in it)]"""
    found = []
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                strings = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                found.append((path.name, node.name, strings))
    return found


def tests_of(algorithm):
    """[(file, [test])] of the tests that name an algorithm as a spec or a mark does."""
    named = re.compile(rf"{algorithm}(:.*)?")
    found = {}
    for file, test, strings in tests():
        if any(named.fullmatch(string) for string in strings):
            found.setdefault(file, []).append(test)
    return list(found.items())


def config_page():
    """Every flag with its default and its help."""
    groups = {}
    for field in fields(Config):
        groups.setdefault(field.metadata["group"], []).append(field)
    parts = ["# Configuration\n\nEach field is a flag, a key of the TOML file, and a keyword of `dsgd.run`.\n"]
    for group, members in groups.items():
        rows = [
            (f"`--{f.name.replace('_', '-')}`", f"`{f.name}`", f"`{f.default!r}`", f.metadata["help"]) for f in members
        ]
        parts.append(f"\n## {group.capitalize()}\n" + table(("flag", "field", "default", "what it is"), *rows))
    return "".join(parts) + "\n## The class\n\n::: dsgd.config.Config\n    options:\n      members: false\n"


def plots_page():
    """The function `figure` of each picture."""
    parts = [
        "# Pictures\n\n`python -m dsgd.plots.NAME RUN... --output FILE` draws a run's folder; `figure` draws plain data,\n"
    ]
    parts.append("without a display, and returns a matplotlib Figure.\n")
    for path in sorted((ROOT / "plots").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "figure" for node in tree.body):
            said = re.sub(r"python -m .+", r"`\g<0>`", markdown(ast.get_docstring(tree)))
            parts.append(f"\n## {path.stem}\n\n{said}\n\n")
            parts.append(f"::: dsgd.plots.{path.stem}.figure\n")
    return "".join(parts)
