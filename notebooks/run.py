"""Execute the notebooks, each in a kernel of its own.   python -m notebooks.run [NAME...] [--full]

The executed copies go to runs/notebooks/; the notebooks themselves are committed without output, and stay so.
Cells that begin with `# full` take longer than a lesson should: without --full they are left out.
"""

import argparse
import asyncio
import os
import re
import sys
from pathlib import Path
from signal import SIGINT
from tempfile import TemporaryDirectory

from dsgd.command import run_command, say
from dsgd.errors import DsgdError, UsageError

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
FULL = "# full"
SECONDS = {False: 120, True: 1800}  # that a cell may take, without and with the long ones
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class CellFailed(DsgdError):
    """A cell raised, took too long, or ended the kernel."""

    code = 70


def find(names=()):
    """The paths of the notebooks, in order, whose names begin with one of `names`; all of them without names.

    Raises:
        UsageError: a name is no notebook's.
    """
    every = sorted(FOLDER.glob("[0-9]*.ipynb"))
    found = [path for path in every if not names or path.name.startswith(tuple(names))]
    for name in names:
        if not any(path.name.startswith(name) for path in every):
            raise UsageError(f"no notebook begins with {name}: there are {', '.join(path.stem for path in every)}")
    return found


def execute(path, full=False):
    """The notebook of `path` with its outputs, an nbformat.NotebookNode.   full: with the cells that take long

    The kernel is this Python's, works in the folder of the notebooks, imports this checkout, and is ended in any case.

    Raises:
        CellFailed: with notebook, cell and traceback.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, DeadKernelError
    from traitlets.config import Config

    notebook, begun = nbformat.read(path, as_version=4), []
    notebook.cells = [cell for cell in notebook.cells if full or not cell.source.startswith(FULL)]
    with TemporaryDirectory(prefix="dsgd-") as sockets:  # of this user alone: no port, no firewall
        client = NotebookClient(
            notebook,
            timeout=SECONDS[full],
            kernel_name="python3",
            config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
            resources={"metadata": {"path": str(FOLDER)}},
            on_cell_execute=lambda cell, cell_index: begun.append(cell.id),
        )
        try:
            asyncio.run(run_cells(client))
        except (CellControlSignal, DeadKernelError) as error:
            raise CellFailed(f"{path.name}, cell {begun[-1]}: {COLOUR.sub('', str(error)).strip()}") from None
    return notebook


async def run_cells(client):
    """Run a NotebookClient's cells; Ctrl-C ends the kernel and is a KeyboardInterrupt, not a kernel that died."""
    client.on_notebook_start = lambda notebook: asyncio.get_running_loop().remove_signal_handler(SIGINT)
    try:
        await client.async_execute(env=environment())
    except Exception:  # whatever nbclient makes of a cell that is cancelled
        if asyncio.current_task().cancelling():
            raise asyncio.CancelledError from None
        raise


def environment():
    """Of the kernel: this checkout comes first, and pictures go into the notebook whatever the caller's backend is."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    rest = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    return rest | {"PYTHONPATH": os.pathsep.join(paths)}


def main(argv):
    parser = argparse.ArgumentParser(prog="python -m notebooks.run", description=__doc__.partition("   ")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="how its file begins, as 06; default: all notebooks")
    parser.add_argument("--full", action="store_true", help="with the cells that take long")
    arguments, problems = parser.parse_args(argv), []
    try:
        import nbformat
    except ImportError as error:
        raise UsageError(f"notebooks cannot be executed here ({error}); pip install -e '.[notebooks]'") from None
    output = ROOT / "runs" / "notebooks"
    output.mkdir(parents=True, exist_ok=True)
    for path in find(arguments.names):
        try:
            nbformat.write(execute(path, arguments.full), output / path.name)
            print(output / path.name, flush=True)
        except CellFailed as error:
            say(str(error))
            problems.append(error)
    return problems[0].code if problems else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
