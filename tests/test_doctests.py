"""The examples in docstrings and on the pages print what they say."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    path for folder in ("dsgd", "simulator", "mpi", "plots", "notebooks") for path in (ROOT / folder).rglob("*.py")
]
WITH_EXAMPLES = sorted(path.relative_to(ROOT) for path in SOURCES if ">>> " in path.read_text(encoding="utf-8"))
BLOCK = re.compile(r"^```pycon\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = {
    path.relative_to(ROOT): found
    for path in sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
    if (found := BLOCK.findall(path.read_text(encoding="utf-8")))
}


def run(test):
    """Run the examples of a docstring; what goes wrong is the failure's text."""
    said = []
    found = doctest.DocTestRunner().run(test, out=said.append)
    assert found.attempted and not found.failed, "".join(said)


def documented(path):
    """[name] of what has examples in its docstring: module, functions, classes, methods; "" for the module."""
    found = []

    def look(node, name):
        if ">>> " in (ast.get_docstring(node) or ""):
            found.append(name)
        for child in node.body:
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                look(child, f"{name}.{child.name}".lstrip("."))

    look(ast.parse((ROOT / path).read_text(encoding="utf-8")), "")
    return found


@pytest.mark.parametrize("path, name", [(path, name) for path in WITH_EXAMPLES for name in documented(path)], ids=str)
def test_the_example_of_a_docstring(path, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if path.parts[0] == "mpi":
        pytest.importorskip("mpi4py")
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(f"dsgd.{module}" if path.parts[0] in ("simulator", "mpi", "plots") else module)
    part = module
    for word in filter(None, name.split(".")):
        part = vars(part)[word]
    text = part.__doc__
    run(doctest.DocTestParser().get_doctest(text, dict(vars(module)), f"{path}: {name}", str(path), 0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path, number", [(path, i) for path in PAGES for i in range(len(PAGES[path]))], ids=str)
def test_the_examples_of_a_page(path, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = PAGES[path][number]
    for optional in ("torch", "sklearn"):
        if f"import {optional}" in code or f"from {optional}" in code:
            pytest.importorskip(optional)
    run(doctest.DocTestParser().get_doctest(code, {}, f"{path}, block {number + 1}", str(path), 0))


def test_there_are_examples():
    assert sum(len(documented(path)) for path in WITH_EXAMPLES) >= 30
    assert Path("docs/frameworks.md") in PAGES
    assert not [path for path in WITH_EXAMPLES if not documented(path)], "prompts outside of docstrings"
