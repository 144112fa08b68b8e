"""Loss and accuracy (or R²) on the way.   python -m dsgd.plots.convergence RUN... [--x bytes] [--output FILE]

Against steps and time, or against what `--x` names.  Runs that differ in nothing but their seed are one line, the
median, in a band from the least to the largest.
"""

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from dsgd.command import say
from dsgd.errors import UsageError
from dsgd.plots.bands import draw_band
from dsgd.plots.command import draw_runs
from dsgd.plots.runs import read_run
from dsgd.plots.style import SCORES, STYLE, legend, look, points, save, score
from dsgd.records import SUMMARY

AXES = {
    "step": "step",
    "samples": "samples",
    "epoch": "epoch",
    "bytes": "bytes sent, in proportion to the samples",
    "time": "time (s)",
}
IDLE = {
    "seed",
    "output",
    "resume",
    "quiet",
    "no_plot",
    "trace",
    "checkpoint_every",
    "timeout",
    "threads",
}  # no result's


def figure(runs, x=None):
    """A matplotlib Figure: the losses above, the accuracy or R² below.

    Args:
        runs: {label: [record]}, as records.read_records gives them, or {label: [[record], ...]}: of one run for each seed.
        x: one of AXES; None for steps and time side by side.  Time is virtual if all runs have that; "bytes" needs
            records that with_bytes has made.
    """
    runs = {name: [rows] if not rows or isinstance(rows[0], dict) else rows for name, rows in runs.items()}
    every = [row for seeds in runs.values() for rows in seeds for row in rows]
    columns = ("step", "time") if x is None else (x,)
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(9, 6) if x is None else (6.5, 6), layout="constrained")
        axes = result.subplots(2, len(columns), sharex="col", sharey="row", squeeze=False)
        for column, panels in zip(columns, axes.T):
            _column(panels, runs, every, column)
        key = score(every, ("test_accuracy", "test_r2"))
        axes[0, 0].set_ylabel("mean loss")
        axes[1, 0].set_ylabel(SCORES.get(key, "test accuracy"))
        if key is None:
            why = "neither accuracy nor R²" if score(every, ("test_loss",)) else "no epoch was completed"
            axes[1, 0].text(0.5, 0.5, why, ha="center", transform=axes[1, 0].transAxes)
        kinds = {"training": {"ls": "-"}, "test": {"ls": "--", "marker": "o", "markerfacecolor": "white"}}
        lines = [Line2D([], [], **look(i)) for i in range(len(runs))]
        lines += [Line2D([], [], color="0.3", **kind) for kind in kinds.values()]
        legend(result, lines, [*runs, *(f"{kind} loss" for kind in kinds)])
        return result


def _column(panels, runs, every, column):
    """The two panels against one quantity."""
    virtual = column == "time" and all(row.get("virtual_time") is not None for row in every)
    x = "virtual_time" if virtual else column
    key = score(every, ("test_accuracy", "test_r2"))
    for i, (name, seeds) in enumerate(runs.items()):
        lines = {"train_loss": {}, "test_loss": {"linestyle": "--", "markerfacecolor": "white"}}
        for loss, line in lines.items():
            draw_band(panels[0], [points(rows, x, loss) for rows in seeds], **look(i) | line)
        draw_band(panels[1], [points(rows, x, key) for rows in seeds], label=name, **look(i))
    panels[0].set_yscale("log")
    if column == "bytes":
        panels[1].xaxis.set_major_formatter(EngFormatter("B"))
    panels[1].set_xlabel(f"virtual {AXES[column]}" if virtual else AXES[column])


def with_bytes(run):
    """[record] of a Run with "bytes": what all ranks together had sent by then.

    The run's sum in proportion to the samples: exact where every step sends the same, as in synchronous runs.
    """
    sent, epochs = ((run.summary or {}).get(key) for key in ("bytes_sent", "epochs"))
    if not epochs or sent is None:
        return run.records
    return [row | {"bytes": sent * row["epoch"] / epochs} if "epoch" in row else row for row in run.records]


def finished(runs):
    """Those of {label: Run} that are over: what the others sent was not summed up.  They are named."""
    done = {label: run for label, run in runs.items() if run.summary}
    if not done:
        raise UsageError(f"{', '.join(runs)} is not over: only a {SUMMARY} counts the bytes")
    for label in (label for label in runs if label not in done):
        say(f"{label} is not over: it has no {SUMMARY}, which counts the bytes; it is left out")
    return done


def draw(run, output):
    """Write the figure of one run's folder to `output`."""
    save(figure_of({run.name: read_run(run)}), output)


def figure_of(runs, x=None):
    """The figure of {label: plots.runs.Run}; those that differ in their seed alone are one line.

    Raises:
        UsageError: bytes of runs none of which is over.
    """
    if x == "bytes":
        runs = finished(runs)
    alike = {}
    for label, run in runs.items():
        config = {key: value for key, value in run.config.items() if key not in IDLE}
        facts = (config, *(run.manifest.get(key) for key in ("backend", "ranks")))
        alike.setdefault(repr(facts), {})[label] = run
    lines = {}
    for group in alike.values():
        seeds = {run.config["seed"] for run in group.values()}
        if 1 < len(group) == len(seeds):
            first, *_, last = group
            name = name_of(group[last], f"{first} to {last}", runs)
            lines[f"{name}, {len(seeds)} seeds"] = [with_bytes(run) for run in group.values()]
        else:  # one; or the same run again, as resumed
            lines |= {name_of(run, label, runs): with_bytes(run) for label, run in group.items()}
    return figure(lines, x)


def name_of(run, label, runs):
    """The algorithm of a run, with its label if that says more, or if another of the runs has the same."""
    algorithm = run.config["algorithm"]
    alone = [other.config["algorithm"] for other in runs.values()].count(algorithm) == 1
    return algorithm if alone and label.endswith(algorithm.partition(":")[0]) else f"{label}: {algorithm}"


if __name__ == "__main__":
    draw_runs("convergence", __doc__, figure_of, options={"--x": {"choices": tuple(AXES)}})
