"""Loss and accuracy (or R²) against steps and against time.   python -m dsgd.plots.convergence RUN... [--output FILE]"""

import matplotlib
from matplotlib.figure import Figure

from dsgd.plots.command import draw_runs
from dsgd.plots.runs import read_run
from dsgd.plots.style import COLOURS, MARKERS, SCORES, STYLE, points, save, score


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


def draw(run, output):
    """Write the figure of one run's folder to `output`."""
    save(figure_of({run.name: read_run(run)}), output)


def figure_of(runs):
    """The figure of {label: plots.runs.Run}."""
    return figure({name_of(run, label): run.records for label, run in runs.items()})


def name_of(run, label):
    """The algorithm of a run, with its label if that says more."""
    algorithm = run.config["algorithm"]
    return algorithm if label.endswith(algorithm.partition(":")[0]) else f"{label}: {algorithm}"


if __name__ == "__main__":
    draw_runs("convergence", __doc__, figure_of)
