"""Loss and accuracy against steps and against time.   python -m dsgd.plots.convergence RUN... [--output FILE]"""

import argparse
import json
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from dsgd.records import SUMMARY, read_records

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]  # Okabe and Ito: colour-blind safe
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 10,
    "legend.frameon": False,
}


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
        for (name, rows), colour in zip(runs.items(), COLOURS * len(runs)):
            for column, key in enumerate(("step", clock)):
                _panel(axes[0, column], rows, key, name, colour)
                tested = [row for row in rows if row.get("test_accuracy") is not None]
                axes[1, column].plot(
                    [row[key] for row in tested],
                    [row["test_accuracy"] for row in tested],
                    ".-",
                    color=colour,
                    label=name,
                )
        for column, text in enumerate(("step", label)):
            axes[1, column].set_xlabel(text)
        axes[0, 0].set_ylabel("mean loss")
        axes[1, 0].set_ylabel("test accuracy")
        axes[0, 0].legend()
        if not axes[1, 0].lines or not any(len(line.get_xdata()) for line in axes[1, 0].lines):
            axes[1, 0].text(0.5, 0.5, "regression: no accuracy", ha="center", transform=axes[1, 0].transAxes)
        return result


def _panel(axes, rows, key, name, colour):
    """Training loss as a line, test loss dashed, on a logarithmic axis."""
    rows = [row for row in rows if row.get("train_loss") is not None]
    axes.plot(
        [row[key] for row in rows], [row["train_loss"] for row in rows], ".-", color=colour, label=f"{name}, training"
    )
    tested = [row for row in rows if row.get("test_loss") is not None]
    axes.plot(
        [row[key] for row in tested], [row["test_loss"] for row in tested], ".--", color=colour, label=f"{name}, test"
    )
    axes.set_yscale("log")


def draw(folders, output):
    """Write the figure of some run folders to `output`, a .png, .svg or .pdf."""
    runs = {}
    for folder in map(Path, folders):
        summary = folder / SUMMARY
        try:
            name = json.loads(summary.read_text())["algorithm"]
        except (OSError, ValueError, KeyError):  # a run that is not over yet
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
    except OSError as error:
        parser.exit(2, f"dsgd: {error.filename}: {error.strerror}; a run's folder holds a metrics.jsonl\n")


if __name__ == "__main__":
    main()
