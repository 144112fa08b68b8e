"""Tables of the pages, from registries, tests and results.   python docs/tables.py writes them; a test compares.

A table stands between `<!-- NAME -->` and `<!-- end -->`.  A test that holds what a row says under "exact when" is marked
`@pytest.mark.identity("dsgd")`, with the names of all rows that it holds.
"""

import ast
import inspect
import os
import re
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from benchmarks.measure import NETWORKS as MEASURED, describe  # noqa: E402
from benchmarks.results import REFERENCE, read  # noqa: E402
from dsgd.algorithms import ALGORITHMS  # noqa: E402
from dsgd.algorithms.consistency import MODELS  # noqa: E402
from dsgd.data import DATASETS, FILES  # noqa: E402
from dsgd.faults import FAULTS, SIMULATED  # noqa: E402
from dsgd.network import NETWORKS  # noqa: E402
from dsgd.optimizers import DEFAULT_LR, OPTIMIZERS  # noqa: E402
from dsgd.sampling import PARTITIONS  # noqa: E402
from dsgd.schedules import SCHEDULES  # noqa: E402
from dsgd.specs import options  # noqa: E402
from dsgd.timing import COMPUTE, common  # noqa: E402
from fault_matrix import marks  # noqa: E402


def first_line(part):
    """The first paragraph of a docstring, in one line."""
    return " ".join(inspect.getdoc(part).partition("\n\n")[0].split())


def labelled(part, label):
    """The paragraph of a docstring that begins with `label:`, without the label; "" if there is none."""
    found = re.search(rf"^{label}: (.*?)(?:\n\n|\n[A-Z]\w+ ?\w*: |\Z)", inspect.getdoc(part), re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def shown(function):
    """The options of a part with their defaults, as a spec has them; … for one that has to be given."""
    defaults = {name: parameter.default for name, parameter in options(function).items()}
    written = {None: "…", ...: "", True: "true", False: "false"}
    texts = {name: written[d] if d in (None, ...) or type(d) is bool else d for name, d in defaults.items()}
    return ", ".join(f"`{name}={text}`" for name, text in texts.items())


def equations(module):
    """The indented lines of a docstring, one after the other."""
    lines = [line.strip() for line in module.__doc__.splitlines() if line.startswith("    ")]
    parts = "; ".join(" ".join(part.split()) for line in lines for part in re.split(r" {4,}", line))
    return parts.replace(":; ", ": ")


@cache
def identities():
    """{name: [(file, test)]} of the tests that are marked as holding what is said of it."""
    found = {}
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for test, names in marks(ast.parse(path.read_text(encoding="utf-8")), "identity"):
            for name in names:
                found.setdefault(name, []).append((path.name, test))
    unknown = found.keys() - ALGORITHMS.keys() - MODELS.keys()
    if unknown:
        raise SystemExit(f"{found[min(unknown)][0]}: there is no {min(unknown)!r} to be held")
    return found


def held(name):
    """Links to the tests of an identity."""
    return ", ".join(f"[{test}](tests/{file})" for file, test in identities()[name])


def algorithms():
    yield "`--algorithm`", "update", "options", "reference", "exact when", "test"
    for name, algorithm in ALGORITHMS.items():
        module = inspect.getmodule(algorithm.run)
        path = Path(module.__file__).relative_to(ROOT)
        said = [labelled(module, label).rstrip(".") for label in ("Reference", "Exact when")]
        yield f"[`{name}`]({path})", equations(module), shown(algorithm.run), *said, held(name)


def consistency():
    yield "`consistency=`", "update, and when a worker goes on", "options", "reference", "exact when", "test"
    for name, model in MODELS.items():
        said = [labelled(model, label) for label in ("Reference", "Exact when")]
        yield f"`{name}`", first_line(model), shown(model), *said, held(name)


def optimizers():
    yield "`--optimizer`", "update", "options", "`--lr`"
    for name, optimizer in OPTIMIZERS.items():
        yield f"`{name}`", first_line(optimizer), shown(optimizer), DEFAULT_LR[name]


def schedules():
    yield "`--schedule`", "step size in step t", "options, in steps"
    for name, schedule in SCHEDULES.items():
        yield f"`{name}`", first_line(schedule), shown(schedule)


def partitions():
    yield "`--partition`", "who has which samples", "options"
    for name, partition in PARTITIONS.items():
        yield f"`{name}`", first_line(partition), shown(partition)


def data():
    yield "`--data`", "what it is", "options"
    for name, source in (DATASETS | FILES).items():
        yield f"`{name}`", first_line(source), shown(source)


def compute():
    yield "`--compute`", "seconds of a gradient", "options"
    for name, model in COMPUTE.items():
        yield f"`{name}`", first_line(model), shown(model)
    yield "all of them", first_line(common), shown(common)


def network():
    yield "`--network`", "what messages cost", "options"
    for name, kind in NETWORKS.items():
        yield f"`{name}`", first_line(kind), shown(kind)


def benchmarks():
    yield "`python -m benchmarks …`", "what", "bar", "measured"
    found = read(REFERENCE)
    yield "", "this machine", "", describe(found["ranks"][0])
    for name, (_, figures) in found.items():
        for what in dict.fromkeys(figure.what for figure in figures if figure.bar):
            yield f"`{name}`", *summed_up([figure for figure in figures if figure.what == what])


def summed_up(figures):
    """(what, bar, measured) of the cases of one number."""
    cases = ", ".join(figure.case for figure in figures if figure.case)
    bars = [figure.bar or "none" for figure in figures]
    bar = re.sub(r", at (least|most)", ",", ", ".join(bars if len(set(bars)) > 1 else bars[:1]))
    values = [f"{figure.shown} {figure.unit}".strip() if figure.value is not None else "left out" for figure in figures]
    missed = [figure.case for figure in figures if figure.met is False]
    verdict = ": missed" * bool(missed) + f" ({', '.join(missed)})" * (0 < len(missed) < len(figures))
    return f"{figures[0].what}: {cases}" if cases else figures[0].what, bar, ", ".join(values) + verdict


def ceilings():
    yield "what", "measured"
    for figure in (figure for figure in read(REFERENCE)["ceilings"][1] if figure.value is not None):
        yield f"{figure.what} {figure.case}".strip(), f"{figure.shown} {figure.unit}"


def roofline():
    """Rows are parts of a step, columns networks."""
    figures = read(REFERENCE)["roofline"][1]
    yield "part of a step, µs", *(f"{network} ({batch})" for network, (_, batch) in MEASURED.items())
    for what in dict.fromkeys(figure.what for figure in figures):
        cells = {figure.case: figure for figure in figures if figure.what == what}
        notes = {network: f" ({figure.note})" * bool(figure.note) for network, figure in cells.items()}
        yield what, *(cells[network].shown + notes[network] for network in MEASURED if network in cells)


def faults():
    yield "`--faults`", "what happens", "options", "where"
    for name, fault in FAULTS.items():
        yield f"`{name}`", first_line(fault), shown(fault), "the simulator" if name in SIMULATED else "both worlds"


def pictures():
    """Those that are commands; the first line of each module says what it draws, and how it is called."""
    yield "picture", "command"
    for path in sorted((ROOT / "plots").glob("*.py")):
        what, _, command = ast.get_docstring(ast.parse(path.read_text("utf-8"))).partition("\n")[0].partition("   ")
        if command:
            yield what.removesuffix("."), f"`{command.strip()}`"


TABLES = {
    f.__name__: f
    for f in (
        algorithms,
        consistency,
        optimizers,
        schedules,
        partitions,
        data,
        compute,
        network,
        faults,
        pictures,
        benchmarks,
        ceilings,
        roofline,
    )
}


CHINESE = {"update": "更新公式", "options": "选项", "reference": "文献", "exact when": "何时精确相等", "test": "测试"}


def table(name, page):
    """A table as Markdown, with links as they have to be on this page."""
    head, *rows = TABLES[name]()
    if page.name.endswith(".zh.md"):
        head = [CHINESE.get(cell, cell) for cell in head]
    cells = [head, ["---"] * len(head), *rows]
    text = "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |\n" for row in cells)
    up = os.path.relpath(ROOT, page.parent)
    return text if up == "." else re.sub(r"\]\((?!http)", f"]({up}/", text)


def filled(page):
    """A page's text with its tables made anew."""
    return re.sub(
        r"<!-- (\w+) -->\n.*?<!-- end -->",
        lambda m: f"<!-- {m[1]} -->\n{table(m[1], page)}<!-- end -->",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )


PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh.md", "ARCHITECTURE.md")),
    *sorted((ROOT / "docs" / "guide").glob("*.md")),
]

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page), encoding="utf-8")
