"""Gradients by layer: do they vanish, or explode?   python -m dsgd.plots.gradients RUN... [--output FILE]

Over 20 hidden layers (`--hidden 16,16,...`) they vanish with `--activation sigmoid --init glorot`, do not with
`--activation relu --init he`, and explode with `--init he:gain=3`: that run ends in its second step.
"""

import math

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dsgd.errors import UsageError
from dsgd.plots.command import draw_runs
from dsgd.plots.runs import read_run
from dsgd.plots.style import STYLE, legend, look

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
        for i, (name, rows) in enumerate(runs.items()):
            _layers(layers, rows, **look(i))
            _ratio(ratios, rows, label=name, **look(i))
        layers.set(yscale="log", xlabel="layer, from the input", ylabel="root mean square of the gradient")
        layers.xaxis.set_major_locator(MaxNLocator(integer=True))
        ratios.axhline(VANISHING, color="black", lw=1, ls="--")
        at = dict(xycoords=("axes fraction", "data"), xytext=(0, -3), textcoords="offset points", ha="right", va="top")
        ratios.annotate(f"vanishing: under {VANISHING:g}", (1, VANISHING), **at)
        ratios.set(yscale="log", xlabel="step", ylabel="first layer's gradient / last layer's")
        ratios.xaxis.set_major_locator(MaxNLocator(integer=True))
        ratios.margins(0.1)  # a verdict on the first or the last record is written inside
        moments = [Line2D([], [], color="0.3", ls=line) for line in MOMENTS.values()]
        handles, labels = ratios.get_legend_handles_labels()
        legend(result, [*handles, *moments], [*labels, *(f"{moment} record" for moment in MOMENTS)])
        return result


def _layers(axes, rows, **style):
    """The root mean square in each layer, in the first, the middle and the last record; one is the last."""
    rows = [row for row in rows if row["gradient_rms"]]
    shown = dict(zip((0, len(rows) // 2, len(rows) - 1), MOMENTS)) if rows else {}
    for i, moment in shown.items():
        rms = [_finite(value) for value in rows[i]["gradient_rms"]]
        axes.plot(range(len(rms)), rms, linestyle=MOMENTS[moment], **style)


def _ratio(axes, rows, **style):
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
    axes.plot(steps, ratio, **style)
    for verdict, sign in SIGNS.items():
        found = [(step, mark) for row, step, mark in zip(rows, steps, marks) if row.get("verdict") == verdict]
        if found:
            axes.plot(*zip(*found), sign, color=style["color"], markersize=9, label=f"_{verdict}")
            axes.annotate(verdict, found[0], (0, 10), textcoords="offset points", ha="center")


def _finite(value):
    """A number that can be drawn: NaN where there is none, or an infinite one."""
    return value if value is not None and math.isfinite(value) else math.nan


def read(folder):
    """The Run of a folder, of whose records those with a gradient are kept.

    Raises:
        UsageError: there are none, or there is no run.  DataError: it is damaged.
    """
    run = read_run(folder)
    rows = [row for row in run.records if row.get("gradient_rms") or row.get("verdict")]
    if not rows:
        raise UsageError(f"{folder} has no records of gradients; --log-every 1 makes one in every step")
    return run._replace(records=rows)


def figure_of(runs):
    """The figure of {label: plots.runs.Run}; one that is not over says so."""
    return figure({label if run.summary else f"{label} (broken off)": run.records for label, run in runs.items()})


if __name__ == "__main__":
    draw_runs("gradients", __doc__, figure_of, read)
