"""Loss and accuracy (or R²) against steps and against time.   python -m dsgd.plots.convergence RUN... [--output FILE]"""

import argparse
import json
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from dsgd.plots.style import COLOURS, SCORES, STYLE, points, score
from dsgd.records import SUMMARY, DataError, read_records


def figure(runs):
    """A matplotlib Figure of four panels.

    Args:
        runs: {label: [record]}, as records.read_records gives them.
    """
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(9, 6), layout="constrained")
        axes = result.subplots(2, 2, sharey="row")
        virtual = all(row.get("virtual_time") is not None for rows in runs.values() for row in rows)
        clock, label = ("virtual_time", "virtual time (s)") if virtual else ("time", "time (s)")
        key = score([row for rows in runs.values() for row in rows], ("test_accuracy", "test_r2"))
        for (name, rows), colour in zip(runs.items(), COLOURS * len(runs)):
            for column, x in enumerate(("step", clock)):
                _losses(axes[0, column], rows, x, name, colour)
                axes[1, column].plot(*points(rows, x, key), ".-", color=colour, label=name)
        for column, text in enumerate(("step", label)):
            axes[1, column].set_xlabel(text)
        axes[0, 0].set_ylabel("mean loss")
        axes[1, 0].set_ylabel(SCORES.get(key, "test accuracy"))
        axes[0, 0].legend()
        if key is None:
            axes[1, 0].text(0.5, 0.5, "neither accuracy nor R²", ha="center", transform=axes[1, 0].transAxes)
        return result


def _losses(axes, rows, x, name, colour):
    """Training loss as a line, test loss dashed, on a logarithmic axis."""
    axes.plot(*points(rows, x, "train_loss"), ".-", color=colour, label=f"{name}, training")
    axes.plot(*points(rows, x, "test_loss"), ".--", color=colour, label=f"{name}, test")
    axes.set_yscale("log")


def draw(folders, output):
    """Write the figure of some run folders to `output`, a .png, .svg or .pdf."""
    runs = {}
    for folder in map(Path, folders):
        summary = folder / SUMMARY
        try:
            name = json.loads(summary.read_text())["algorithm"]
        except (OSError, ValueError, KeyError, TypeError):  # a run that is not over yet
            name = folder.name
        runs[name if name not in runs else f"{name} ({folder})"] = read_records(folder)
    figure(runs).savefig(output, dpi=120)


def main():
    parser = argparse.ArgumentParser(prog="python -m dsgd.plots.convergence", description=__doc__.partition(".")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--output", default="convergence.png", metavar="FILE")
    arguments = parser.parse_args()
    try:
        draw(arguments.runs, arguments.output)
    except DataError as error:
        parser.exit(2, f"dsgd: {error}\n")
    except ValueError as error:  # a format that nobody draws
        parser.exit(2, f"dsgd: {arguments.output}: {error}\n")
    except OSError as error:
        parser.exit(2, f"dsgd: {error.filename}: {error.strerror}; a run's folder holds a metrics.jsonl\n")


if __name__ == "__main__":
    main()
