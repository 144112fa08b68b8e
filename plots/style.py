"""What all pictures look like."""

import matplotlib

from dsgd.records import SCORES

FORMATS = ".png, .svg, .pdf"

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"]  # Okabe and Ito
MARKERS = "osDv^PX"  # tell the runs apart where colours do not: in print
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "font.size": 10,
    "legend.frameon": False,
    "svg.hashsalt": "dsgd",  # the same figure is the same file
}


def save(figure, path):
    """Write a figure to a Path, in the format that it ends in."""
    when = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None} if path.suffix == ".pdf" else {}
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, dpi=120, metadata=when)


def score(rows, keys=tuple(SCORES)):
    """The first of `keys` that any of the rows has, or None."""
    return next((key for key in keys if any(row.get(key) is not None for row in rows)), None)


def points(rows, *keys):
    """The values of some keys, one list for each, of the rows that have them all."""
    whole = [row for row in rows if all(row.get(key) is not None for key in keys)]
    return [[row[key] for row in whole] for key in keys]
