"""What all pictures look like."""

import textwrap

import matplotlib

from dsgd.records import SCORES

FORMATS = ".png, .svg, .pdf"

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"]  # Okabe and Ito
MARKERS = "osDv^PX"  # tell the runs apart where colours do not: in print
LETTER = 0.09  # inches, of a wide one in a legend
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
    """Write a figure to a Path, in the format that it ends in.  The same figure is the same bytes: no date is kept."""
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, dpi=120, metadata=dates.get(path.suffix.lower()))


def look(i):
    """Of the line of run i, from 0: {"color", "marker"}, which differ up to the 56th."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 5}


def legend(figure, handles, labels):
    """A legend below everything that is drawn, in columns that fit; the figure grows by its height."""
    width = figure.get_figwidth()
    labels = [textwrap.fill(label, int((width - 1) / LETTER), break_on_hyphens=False) for label in labels]
    longest = max((len(line) for label in labels for line in label.splitlines()), default=0)
    columns = max(1, min(len(labels), int(width / (LETTER * longest + 0.7))))
    rows = sum(label.count("\n") + 1 for label in labels) / columns + 1
    figure.set_figheight(figure.get_figheight() + 0.2 * rows)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def score(rows, keys=tuple(SCORES)):
    """The first of `keys` that any of the rows has, or None."""
    return next((key for key in keys if any(row.get(key) is not None for row in rows)), None)


def points(rows, *keys):
    """The values of some keys, one list for each, of the rows that have them all."""
    whole = [row for row in rows if all(row.get(key) is not None for key in keys)]
    return [[row[key] for row in whole] for key in keys]
