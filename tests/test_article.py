"""The rows of docs/article.md and the repository: what a row names is there, and nothing that teaches is without a row."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "article.md"
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| the article"))
]
MISSING = "not yet"


def named(cell):
    """The files that the links of a cell name, from the top of the repository."""
    return [(PAGE.parent / target).resolve().relative_to(ROOT) for target in re.findall(r"\]\(([^)]+)\)", cell)]


def functions_of(file):
    """The names of the functions in a file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_a_row_names_what_is_there(row):
    what, term, modules, notebook, check = row
    assert what and re.search("[一-鿿]", term)
    if modules.startswith(MISSING):
        patterns = re.findall(r"`([^`]+)`", modules)
        assert patterns and notebook == check == MISSING and not named(" ".join(row))
        here = [path for folder in ("dsgd", "simulator", "mpi") for p in patterns for path in (ROOT / folder).rglob(p)]
        assert not here, f"{here[0]} is there: the row can name it"
        return
    assert all((ROOT / path).is_file() for path in named(modules)) and named(modules)
    (notebook,) = named(notebook)
    assert notebook.suffix == ".ipynb" and (ROOT / notebook).is_file()
    (file,), (test,) = named(check), re.findall(r"`(test_\w+)`", check)
    assert test in functions_of(file)


@pytest.mark.parametrize("folder, pattern", [("dsgd/algorithms", "[!_]*.py"), ("notebooks", "*.ipynb")])
def test_every_algorithm_and_every_notebook_has_a_row(folder, pattern):
    there = {path.relative_to(ROOT) for path in (ROOT / folder).glob(pattern)}
    assert there and not there - {path for row in ROWS for cell in row for path in named(cell)}
