"""docs/faults.md, made from the tests.   python docs/fault_matrix.py writes it; a test compares.

A test that holds a row is marked `@pytest.mark.fault("P1", "what goes wrong", "what is promised")`.  Several tests may
hold one row: the first that says what goes wrong speaks for all, the others are `@pytest.mark.fault("P1")`.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "faults.md"
GROUPS = {
    "P": "Processes",
    "C": "Agreement between ranks",
    "N": "Numbers",
    "D": "Data",
    "K": "Disk",
    "S": "Network and servers, in the simulator",
    "U": "Command line and environment",
    "G": "GPU",
}
HEAD = """# What can go wrong, and what is promised

Every row is held by the tests that it names; this page is made from them (`make tables`). Exit codes: 0 done, 2 a flag
or a combination that cannot be meant, 65 damaged data or checkpoints, 70 a failure inside, 74 the disk, 75 a rank that was
lost or did not answer (the job can be resumed), 130 and 143 after a signal. A launcher gives a *killed* rank's job a code
of its own (MPICH 9, Open MPI 137): not 0.
"""


def marks(tree, mark="fault"):
    """(test, [arguments of the mark]) for every such mark in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"pytest.mark.{mark}":
                    yield node.name, [ast.literal_eval(argument) for argument in decorator.args]


def rows():
    """{row: (what, promise, [(file, test)])}, sorted."""
    found = {}
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for test, (row, *said) in marks(ast.parse(path.read_text(encoding="utf-8"))):
            what, promise, tests = found.get(row, ("", "", []))
            if said and what:
                raise SystemExit(f"{path.name}::{test}: row {row} has its words already: {what!r}")
            found[row] = (*(said or (what, promise)), tests + [(path.name, test)])
    silent = [row for row, (what, _, _) in found.items() if not what]
    if silent:
        raise SystemExit(f"row {silent[0]} has tests and no words")
    return dict(sorted(found.items(), key=lambda item: (list(GROUPS).index(item[0][0]), int(item[0][1:]))))


def page():
    """docs/faults.md as it should be."""
    lines, group = [HEAD], ""
    for row, (what, promise, tests) in rows().items():
        if row[0] != group:
            group = row[0]
            lines.append(
                f"\n## {GROUPS[group]}\n\n| row | what goes wrong | what is promised | tests |\n| --- | --- | --- | --- |\n"
            )
        files = {}
        for file, test in tests:
            files.setdefault(file, []).append(re.sub("^test_", "", test).replace("_", " "))
        held = "; ".join(f"[{file}](../tests/{file}): {', '.join(names)}" for file, names in files.items())
        lines.append(f"| {row} | {what} | {promise} | {held} |\n")
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
