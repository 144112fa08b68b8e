"""Gradients by layer: do they vanish, or explode?   python -m dsgd.plots.gradients RUN... [--output FILE]

Over 20 hidden layers (`--hidden 16,16,...`) they vanish with `--activation sigmoid --init glorot`, do not with
`--activation relu --init he`, and explode with `--init he:gain=3`: that run ends in its second step.
"""

import argparse
import math
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dsgd.plots.style import COLOURS, STYLE
from dsgd.records import SUMMARY, DataError, read_records

VANISHING = 1e-4  # under this ratio of the first layer's gradient to the last's; dsgd.watch has the rule
MOMENTS = {"first": ":", "middle": "--", "last": "-"}  # record: line
SIGNS = {"vanishing": "v", "exploding": "^"}


def figure(runs):
    """A matplotlib Figure: the root-mean-square gradient by layer, and the first layer's over the last's by step.

    Args:
        runs: {label: [record]}, each record with "step", "verdict" and "gradient_rms", one of each layer; the last record
            of a run that exploded may have None in its place, or within.
    """
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(11, 4.5), layout="constrained")
        layers, ratios = result.subplots(1, 2)
        for (name, rows), colour in zip(runs.items(), COLOURS * len(runs)):
            _layers(layers, rows, colour)
            _ratio(ratios, rows, name, colour)
        layers.set(yscale="log", xlabel="layer, from the input", ylabel="root mean square of the gradient")
        layers.xaxis.set_major_locator(MaxNLocator(integer=True))
        layers.legend(
            handles=[Line2D([], [], color="0.3", ls=line, label=f"{m} record") for m, line in MOMENTS.items()]
        )
        ratios.axhline(VANISHING, color="black", lw=1, ls="--")
        at = dict(xycoords=("axes fraction", "data"), xytext=(0, -3), textcoords="offset points", ha="right", va="top")
        ratios.annotate(f"vanishing: under {VANISHING:g}", (1, VANISHING), **at)
        ratios.set(yscale="log", xlabel="step", ylabel="first layer's gradient / last layer's")
        ratios.xaxis.set_major_locator(MaxNLocator(integer=True))
        ratios.margins(0.1)  # a verdict on the first or the last record is written inside
        result.legend(*ratios.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(runs)))
        return result


def _layers(axes, rows, colour):
    """The root mean square in each layer, in the first, the middle and the last record; one is the last."""
    rows = [row for row in rows if row["gradient_rms"]]
    shown = dict(zip((0, len(rows) // 2, len(rows) - 1), MOMENTS)) if rows else {}
    for i, moment in shown.items():
        rms = [_finite(value) for value in rows[i]["gradient_rms"]]
        axes.plot(range(len(rms)), rms, color=colour, ls=MOMENTS[moment], marker=".")


def _ratio(axes, rows, name, colour):
    """How much of the last layer's gradient reaches the first, and the verdicts; the first of each is named.

    A gradient that is not finite has no ratio; its verdict is marked at the last one there was, at 1 without any.
    """
    ratio, marks, last = [], [], 1.0
    for row in rows:
        rms = row["gradient_rms"] or [None]
        ratio.append(_finite(rms[0]) / (_finite(rms[-1]) or math.nan))
        last = ratio[-1] if ratio[-1] > 0 else last
        marks.append(last)
    steps = [row["step"] for row in rows]
    axes.plot(steps, ratio, "o-", markersize=4, color=colour, label=name)
    for verdict, sign in SIGNS.items():
        found = [(step, mark) for row, step, mark in zip(rows, steps, marks) if row.get("verdict") == verdict]
        if found:
            axes.plot(*zip(*found), sign, color=colour, markersize=7, label=f"_{verdict}")
            axes.annotate(verdict, found[0], (0, 10), textcoords="offset points", ha="center")


def _finite(value):
    """A number that can be drawn: NaN where there is none, or an infinite one."""
    return value if value is not None and math.isfinite(value) else math.nan


def read(folders):
    """({label: [record with a gradient]}, [why a folder was left out])."""
    runs, problems = {}, []
    for folder in map(Path, folders):
        try:
            rows = [row for row in read_records(folder) if row.get("gradient_rms") or row.get("verdict")]
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}; a run's folder holds a metrics.jsonl")
            continue
        except DataError as error:
            problems.append(str(error))
            continue
        name = folder.name if folder.name not in runs else str(folder)
        if rows:
            runs[name if (folder / SUMMARY).exists() else f"{name} (broken off)"] = rows
        else:
            problems.append(f"{folder} has no records of gradients; --log-every 1 makes one in every step")
    return runs, problems


def main():
    parser = argparse.ArgumentParser(prog="python -m dsgd.plots.gradients", description=__doc__.partition("   ")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--output", default="gradients.png", metavar="FILE")
    arguments = parser.parse_args()
    runs, problems = read(arguments.runs)
    for problem in problems:
        print(f"dsgd: {problem}", file=sys.stderr)
    if not runs:
        sys.exit(2)
    try:
        figure(runs).savefig(arguments.output, dpi=120)
    except (OSError, ValueError) as error:
        parser.exit(2, f"dsgd: {arguments.output}: {getattr(error, 'strerror', error)}\n")


if __name__ == "__main__":
    main()
