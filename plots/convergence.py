"""Loss and accuracy (or R²) against steps and against time.   python -m dsgd.plots.convergence RUN... [--output FILE]"""

import argparse
import json
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from dsgd.plots.style import COLOURS, MARKERS, SCORES, STYLE, points, score
from dsgd.records import METRICS, SUMMARY, DataError, read_records


def figure(runs):
    """A matplotlib Figure of four panels.

    Args:
        runs: {label: [record]}, as records.read_records gives them.
    """
    every = [row for rows in runs.values() for row in rows]
    virtual = all(row.get("virtual_time") is not None for row in every)
    clock, label = ("virtual_time", "virtual time (s)") if virtual else ("time", "time (s)")
    key = score(every, ("test_accuracy", "test_r2"))
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(9, 6), layout="constrained")
        axes = result.subplots(2, 2, sharey="row")
        for i, (name, rows) in enumerate(runs.items()):
            for column, x in enumerate(("step", clock)):
                style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 4}
                _losses(axes[0, column], rows, x, name, style)
                axes[1, column].plot(*points(rows, x, key), label=name, **style)
        for column, text in enumerate(("step", label)):
            axes[1, column].set_xlabel(text)
        axes[0, 0].set_ylabel("mean loss")
        axes[1, 0].set_ylabel(SCORES.get(key, "test accuracy"))
        if runs:
            result.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
        if key is None:
            why = "neither accuracy nor R²" if score(every, ("test_loss",)) else "no epoch was completed"
            axes[1, 0].text(0.5, 0.5, why, ha="center", transform=axes[1, 0].transAxes)
        return result


def _losses(axes, rows, x, name, style):
    """Training loss as a line, test loss dashed, on a logarithmic axis."""
    axes.plot(*points(rows, x, "train_loss"), label=f"{name}, training", **style)
    test = points(rows, x, "test_loss")
    if test[0]:
        axes.plot(*test, linestyle="--", label=f"{name}, test", **style | {"markerfacecolor": "white"})
    axes.set_yscale("log")


def draw(folders, output):
    """Write the figure of some run folders to `output`, a .png, .svg or .pdf."""
    folders = [Path(folder) for folder in folders]
    names = [name_of(folder) for folder in folders]
    runs = {}
    for folder, name in zip(folders, names):
        rows = read_records(folder)
        if not rows:
            raise DataError(
                folder / METRICS, "holds no records", "a run makes one an epoch, or every --log-every steps"
            )
        runs[name if names.count(name) == 1 else f"{name} ({folder})"] = rows
    figure(runs).savefig(output, dpi=120)


def name_of(folder):
    """The algorithm of a run, or the name of its folder if it is not over yet."""
    try:
        return json.loads((folder / SUMMARY).read_text())["algorithm"]
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name


def main():
    parser = argparse.ArgumentParser(prog="python -m dsgd.plots.convergence", description=__doc__.partition(".")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--output", default="convergence.png", metavar="FILE")
    arguments = parser.parse_args()
    try:
        draw(arguments.runs, arguments.output)
    except DataError as error:
        parser.exit(65, f"dsgd: {error}\n")
    except ValueError as error:  # a format that nobody draws
        parser.exit(2, f"dsgd: {arguments.output}: {error}\n")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError) and str(error.filename).endswith(METRICS)
        hint = "; a run's folder holds one" if missing else ""
        parser.exit(2, f"dsgd: {error.filename or arguments.output}: {error.strerror}{hint}\n")


if __name__ == "__main__":
    main()
