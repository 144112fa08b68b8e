"""The command line that all pictures share: `python -m dsgd.plots.NAME RUN... [--output FILE]`."""

import argparse
import os
import sys
from pathlib import Path

from dsgd.command import run_command, say
from dsgd.errors import UsageError
from dsgd.plots.runs import read_all, read_run
from dsgd.plots.style import FORMATS, save


def draw_runs(name, doc, figure, read=read_run, options=None):
    """Draw what `read` finds in the folders of the command line, and end the process.

    A folder that cannot be read is named; the others are drawn.  The exit code is then that of the first such folder.

    Args:
        name: the picture's; without --output it is drawn to NAME.png.  doc: begins with the one line of --help, then blanks.
        figure: (of {label: what read gave}, **options) gives a matplotlib Figure.
        options: {"--flag": arguments of add_argument}; `figure` takes them by name.
    """
    sys.exit(run_command(lambda argv: _draw(argv, name, doc, figure, read, options or {})))


def _draw(argv, name, doc, figure, read, options):
    parser = argparse.ArgumentParser(prog=f"python -m dsgd.plots.{name}", description=doc.partition("   ")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--output", default=f"{name}.png", metavar="FILE", help=f"{FORMATS}; default: {name}.png")
    for flag, arguments in options.items():
        parser.add_argument(flag, **arguments)
    given = vars(parser.parse_args(argv))
    folders, output = given.pop("runs"), check_output(given.pop("output"))
    found, problems = read_all(folders, read)
    for problem in problems:
        say(str(problem))
    if found:
        save(figure(found, **given), output)
    return problems[0].code if problems else 0


def check_output(name, formats=FORMATS, what="a figure"):
    """The Path that a figure is to be written to; of a link, the file that it leads to.

    Raises:
        UsageError: it ends in none of the formats, is no plain file, or there is no folder that it can be written to.
    """
    path = Path(name)
    if path.suffix.lower() not in formats.replace(",", "").split():
        raise UsageError(f"--output {name}: {what} is a file, one of {formats}")
    path = path.resolve()
    if path.is_dir():
        raise UsageError(f"--output {name} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise UsageError(f"--output {name} is a device or a pipe; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"--output {name}: there is no folder {path.parent}; mkdir -p {path.parent} makes it")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--output {name}: {path.parent} cannot be written to; name another folder")
    return path
