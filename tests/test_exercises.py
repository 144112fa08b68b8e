"""The notebooks' exercises: solutions pass, and what is wrong is named.   See notebooks/checking.py"""

import ast
import importlib
import json
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
NAMES = sorted(path.stem for path in (NOTEBOOKS / "exercises").glob("*.py"))
LESSONS = {path.stem[3:].replace("-", "_"): path for path in NOTEBOOKS.glob("*.ipynb")}
EXERCISES = [(name, each) for name in NAMES for each in importlib.import_module(f"exercises.{name}").EXERCISES]
MISTAKES = [(name, *mistake) for name in NAMES for mistake in importlib.import_module(f"solutions.{name}").MISTAKES]


def check(name, exercise, function, capsys):
    """(whether it is right, what was printed)"""
    passed = importlib.import_module(f"exercises.{name}").EXERCISES[exercise](function)
    return passed, capsys.readouterr().out


def untouched(*arguments, **options): ...


def raises(*arguments, **options):
    raise LookupError("not that way")


@pytest.mark.parametrize("name, exercise", EXERCISES)
def test_a_solution_is_right(name, exercise, capsys):
    solution = getattr(importlib.import_module(f"solutions.{name}"), exercise)
    assert check(name, exercise, solution, capsys) == (True, f"{exercise}: right.\n")


@pytest.mark.parametrize(
    "name, exercise, function, words", MISTAKES, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_mistake_is_named(name, exercise, function, words, capsys):
    passed, text = check(name, exercise, function, capsys)
    assert not passed and text.startswith(f"{exercise}: not yet. {words}"), text


@pytest.mark.parametrize("name, exercise", EXERCISES)
def test_every_exercise_has_a_mistake_that_is_named(name, exercise):
    assert any(mistake[:2] == (name, exercise) for mistake in MISTAKES)


@pytest.mark.parametrize("name, exercise", EXERCISES)
def test_an_untouched_exercise_says_not_yet(name, exercise, capsys):
    passed, text = check(name, exercise, untouched, capsys)
    assert not passed and text.startswith(f"{exercise}: not yet. Step 1") and "it is missing" in text


@pytest.mark.parametrize("name, exercise", EXERCISES)
def test_what_an_exercise_raises_is_told(name, exercise, capsys):
    passed, text = check(name, exercise, raises, capsys)
    assert not passed and "it raised LookupError: not that way" in text and text.startswith(f"{exercise}: not yet.")


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_has_each_exercise_untouched_and_its_check(name):
    cells = [cell for cell in json.loads(LESSONS[name].read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    for exercise in importlib.import_module(f"exercises.{name}").EXERCISES:
        stub = next(i for i, text in enumerate(sources) if text.startswith(f"def {exercise}("))
        body = ast.parse(sources[stub]).body[0].body
        assert ast.unparse(body[-1]) == "..." and "# your turn" in sources[stub]
        assert sources[stub + 1] == f"check.{exercise}({exercise});"
