"""Every notebook runs from top to bottom, in a kernel of its own, and is kept as it was written: without output."""

import ast
import re
from concurrent.futures import ThreadPoolExecutor

import nbformat
import psutil
import pytest
from threadpoolctl import threadpool_info

import dsgd
from dsgd.errors import UsageError
from notebooks.run import FULL, CellFailed, execute, find

NOTEBOOKS = find()
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def executed(request):
    """{path: Future of the executed notebook} of those that are tested, two at a time: most of a kernel's start is waiting."""
    wanted = {item.callspec.params["path"] for item in request.session.items if "executed" in item.fixturenames}
    pool = ThreadPoolExecutor(2)
    yield {path: pool.submit(execute, path) for path in sorted(wanted)}
    pool.shutdown(cancel_futures=True)


@every_notebook
def test_a_notebook_runs(path, executed):
    """Without a warning; and each cell that ends in a figure shows one."""
    pictures = 0
    for cell in executed[path].result().cells:
        outputs = cell.get("outputs", [])
        assert not [output.text for output in outputs if output.get("name") == "stderr"], cell.id
        if ends_in_figure(cell):
            pictures += 1
            assert any("image/png" in output.get("data", {}) for output in outputs), cell.id
    assert pictures


def code_of(cell):
    """The syntax tree of a code cell; lines of IPython are left out."""
    return ast.parse(re.sub("^%.*", "", cell.source, flags=re.M))


def ends_in_figure(cell):
    """Whether the cell's last line is the figure of a picture of dsgd.plots."""
    last = code_of(cell).body[-1:] if cell.cell_type == "code" else []
    return bool(last) and isinstance(last[0], ast.Expr) and ast.unparse(last[0]).partition("(")[0].endswith(".figure")


# --- how they are kept


def test_there_are_ten():
    assert [int(path.name[:2]) for path in NOTEBOOKS] == list(range(1, 11))


@every_notebook
def test_a_notebook_is_kept_without_output(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == KERNEL and (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert [cell.id for cell in notebook.cells] == [f"a{i}" for i, _ in enumerate(notebook.cells, 1)]
    for cell in notebook.cells:
        assert cell.metadata == {} and cell.source.strip() == cell.source != "", cell.id
        assert cell.cell_type == "markdown" or not cell.outputs and cell.execution_count is None, cell.id


@every_notebook
def test_a_notebook_begins_with_words(path):
    """A title and a text, then the only cell of imports."""
    first, second = nbformat.read(path, as_version=4).cells[:2]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert second.cell_type == "code" and second.source.startswith("%matplotlib inline\n")


@every_notebook
def test_pictures_come_from_the_project(path):
    """No notebook draws by itself: what it draws with, a run's folder is drawn with, too."""
    for cell in nbformat.read(path, as_version=4).cells:
        for node in ast.walk(code_of(cell)) if cell.cell_type == "code" else ():
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith("matplotlib")], cell.id


# --- what runs them


def write(path, *cells):
    """A notebook of these code cells."""
    made = [nbformat.v4.new_code_cell(source, id=f"a{i}") for i, source in enumerate(cells, 1)]
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=KERNEL), path)
    return path


def test_a_cell_that_raises_is_named_and_its_kernel_ended(tmp_path):
    process = tmp_path / "process"
    first = f"import os, pathlib; pathlib.Path({str(process)!r}).write_text(str(os.getpid()))"
    path = write(tmp_path / "wrong.ipynb", first, f"{FULL}\nraise SystemError", "[][3]", "1")
    with pytest.raises(
        CellFailed, match=r"(?s)^wrong.ipynb, cell a3: .*\[\]\[3\].*IndexError: list index out of range"
    ):
        execute(path)
    assert not psutil.pid_exists(int(process.read_text()))
    with pytest.raises(CellFailed, match=r"(?s)^wrong.ipynb, cell a2: .*SystemError"):
        execute(path, full=True)


def test_a_name_that_is_no_notebook_is_refused():
    assert [path.name[:2] for path in find(["06"])] == ["06"]
    with pytest.raises(UsageError, match="no notebook begins with 6: there are .*06-all-reduce"):
        find(["6"])


class Interrupted(dsgd.Quadratic):
    """Ctrl-C comes in the midst of a gradient, the tenth one."""

    left = 9

    def gradient(self, *arguments):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().gradient(*arguments)


def test_an_interrupted_run_leaves_nothing_broken():
    """The next cell trains as one of a fresh kernel does: same bits, messages and virtual seconds."""
    flags = dict(simulate=4, steps=20, algorithm="parameter-server:consistency=asp", optimizer="sgd", lr=0.1)
    threads, fresh = threadpool_info(), dsgd.run(**flags, objective=dsgd.Quadratic())
    with pytest.raises(KeyboardInterrupt):
        dsgd.run(**flags, objective=Interrupted())
    again = dsgd.run(**flags, objective=dsgd.Quadratic())
    assert again.params.tobytes() == fresh.params.tobytes() and again.order == fresh.order
    assert again.summary["virtual_seconds"] == fresh.summary["virtual_seconds"]
    assert threadpool_info() == threads  # its limit of BLAS threads is lifted
