"""Who may import whom, as ARCHITECTURE.md draws it, and what every algorithm's file must say."""

import ast
import configparser
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("dsgd", "simulator", "mpi", "plots")  # the last three are packages inside dsgd
FILES = {
    f: ".".join(f.relative_to(ROOT).with_suffix("").parts)
    for folder in FOLDERS
    for f in sorted((ROOT / folder).rglob("*.py"))
}
MODULES = {
    (name if name.startswith("dsgd") else f"dsgd.{name}").removesuffix(".__init__"): file
    for file, name in FILES.items()
}

# The table.  A name stands for the module and all that is in it; "stdlib" for the standard library.
MAY_IMPORT_ONLY = {
    "dsgd.algorithms": "dsgd.algorithms dsgd.comm dsgd.collectives dsgd.errors dsgd.layout dsgd.mlp dsgd.specs dsgd.state numpy typing math functools collections",
    "dsgd.arrays": "numpy threading contextlib hashlib cupy",
    "dsgd.layout": "math",
    "dsgd.layers": "dsgd.arrays math typing",
    "dsgd.mlp": "dsgd.arrays dsgd.layers dsgd.layout dsgd.specs numpy math typing copy",
    "dsgd.plots": "dsgd.plots dsgd.collectives dsgd.command dsgd.errors dsgd.order dsgd.records dsgd.study dsgd.timeline numpy matplotlib stdlib",
    "dsgd.timeline": "stdlib",
    "dsgd.data": "dsgd.data dsgd.arrays dsgd.errors dsgd.specs numpy stdlib mlxtend",
    "dsgd.optimizers": "dsgd.optimizers dsgd.arrays dsgd.errors numpy math",
    "dsgd.simulator": "dsgd.simulator dsgd.arrays dsgd.comm dsgd.collectives dsgd.costs dsgd.errors dsgd.faults dsgd.network dsgd.pool dsgd.timing dsgd.traced numpy greenlet stdlib",
    "dsgd.mpi": "dsgd.mpi dsgd.arrays dsgd.comm dsgd.collectives dsgd.command dsgd.costs dsgd.errors dsgd.pool dsgd.traced numpy mpi4py stdlib",
}
MAY_NOT_IMPORT = {
    **dict.fromkeys(("dsgd.mlp", "dsgd.layers", "dsgd.layout", "dsgd.arrays"), "dsgd.comm dsgd.collectives dsgd.costs"),
    "dsgd": "simulator mpi plots pickle",  # as top-level packages they exist in a checkout only
}
IMPORTED_ONLY_BY = {
    "dsgd.simulator": "dsgd.simulator dsgd.runner dsgd.chaos",
    "dsgd.mpi": "dsgd.mpi dsgd.runner dsgd.train dsgd.compare dsgd.launch dsgd.doctor",
    "dsgd.plots": "dsgd.plots dsgd.runner dsgd.compare dsgd.report dsgd.tensorboard",
    "greenlet": "dsgd.simulator",
    "mpi4py": "dsgd.mpi",
    "cupy": "dsgd.arrays dsgd.device",
    "mlxtend": "dsgd.data.named",
    "sklearn": "dsgd.sklearn",
    "tensorboardX": "dsgd.tensorboard",
}
BEFORE_MPI = (
    *("dsgd", "dsgd.train", "dsgd.doctor", "dsgd.doctor.__main__", "dsgd.command"),
    *("dsgd.mpi", "dsgd.mpi.launch", "dsgd.mpi.segments"),
)


def within(name, names):
    """Whether a module is, or is in, one of the names."""
    return any(
        name == n or name.startswith(n + ".") or n == "stdlib" and name.partition(".")[0] in sys.stdlib_module_names
        for n in names.split()
    )


def imports(nodes):
    """What the nodes import; `from a import b` counts as a.b only if that is a module of ours."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in found)


def parse(module):
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", MODULES)
def test_the_import_table(module):
    for name in set(imports(ast.walk(parse(module)))):
        assert all(within(name, only) for who, only in MAY_IMPORT_ONLY.items() if within(module, who)), (
            f"{module} imports {name}"
        )
        assert not any(within(name, never) for who, never in MAY_NOT_IMPORT.items() if within(module, who)), (
            f"{module} imports {name}"
        )
        assert all(within(module, only) for what, only in IMPORTED_ONLY_BY.items() if within(name, what)), (
            f"{module} imports {name}"
        )


# How long it took; waiting.
CLOCKS = "dsgd.recorder dsgd.runner dsgd.compare dsgd.launch dsgd.mpi dsgd.chaos dsgd.timing dsgd.doctor"
SEEDED = "dsgd.simulator.kernel dsgd.chaos_plan"  # random.Random(seed)


@pytest.mark.fault(
    "C7", "clocks or hosts differ", "nothing that is computed depends on the time of day or on an unseeded number"
)
@pytest.mark.parametrize("module", MODULES)
def test_only_these_modules_know_the_time_or_random(module):
    names = {name.partition(".")[0] for name in imports(ast.walk(parse(module)))}
    assert not names & {"datetime", "secrets", "uuid"}
    assert "time" not in names or within(module, CLOCKS)
    assert "random" not in names or within(module, SEEDED)


@pytest.mark.fault("C7")
def test_numpy_draws_where_the_seed_is_given_and_nowhere_else():
    for module in MODULES:
        names = {ast.unparse(node) for node in ast.walk(parse(module)) if isinstance(node, ast.Attribute)}
        assert "np.random" not in names or module == "dsgd.arrays", module


@pytest.mark.parametrize("module", ["dsgd.runner", "dsgd.train"])
def test_backends_are_imported_inside_a_function(module):
    assert not [name for name in imports(parse(module).body) if within(name, "dsgd.simulator dsgd.mpi dsgd.plots")]


@pytest.mark.parametrize("module", BEFORE_MPI)
def test_nothing_but_the_standard_library_is_loaded_before_mpi(module):
    assert all(
        within(name, "stdlib dsgd.command dsgd.mpi.launch dsgd.mpi.segments") for name in imports(parse(module).body)
    )


def test_train_knows_only_two_modules_of_mpi():
    assert {name for name in imports(ast.walk(parse("dsgd.train"))) if within(name, "dsgd.mpi")} == {
        "dsgd.mpi.launch",
        "dsgd.mpi.backend",
    }


@pytest.mark.parametrize(
    "module",
    [m for m in MODULES if within(m, "dsgd.algorithms") and m not in ("dsgd.algorithms", "dsgd.algorithms.roles")],
)
def test_an_algorithm_opens_with_its_equation_its_reference_and_its_identity(module):
    lines = ast.get_docstring(parse(module)).splitlines()
    assert any(line.startswith("    ") and any(sign in line for sign in "←=→") for line in lines), "no equation"
    assert any(line.startswith("Reference: ") for line in lines) and any(
        line.startswith("Exact when: ") for line in lines
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_and_fits_a_few_screens(module):
    assert ast.get_docstring(parse(module))
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= 300, f"{MODULES[module]} has {lines} lines"


def test_setup_cfg_lists_the_packages_of_the_tree():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = {name.strip() for name in config["options"]["packages"].split(",")}
    assert listed == {name for name, file in MODULES.items() if file.name == "__init__.py"}
    places = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    assert places == {f"dsgd.{folder}": folder for folder in FOLDERS[1:]}
