"""How old the applied gradients were, and whose.   python -m dsgd.plots.staleness RUN... [--output FILE]

A push that was computed on version v of x and went into version w is w − 1 − v updates old.
"""

from collections import Counter

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from dsgd.errors import UsageError
from dsgd.order import is_push, read_order, staleness
from dsgd.plots.command import draw_runs
from dsgd.plots.runs import check_folder
from dsgd.plots.style import COLOURS, STYLE, legend
from dsgd.records import ORDER, DataError

HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++")  # tell the bars apart in print


def figure(runs):
    """A matplotlib Figure: how many applied pushes were how old, and how many pushes of each worker were applied.

    Args:
        runs: {label: [(worker, staleness)] of its applied pushes}.
    """
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(10, 4), layout="constrained")
        ages, workers = result.subplots(1, 2)
        for i, (name, pushes) in enumerate(runs.items()):
            colour, hatch, place = COLOURS[i % len(COLOURS)], HATCHES[i % len(HATCHES)], (i, len(runs))
            stale = [age for _, age in pushes]
            mean = sum(stale) / len(stale)
            _bars(ages, Counter(stale), len(stale), place, color=colour, hatch=hatch, label=f"{name}: mean {mean:.2f}")
            outline = [withStroke(linewidth=4, foreground="white")]  # it crosses bars of its own colour
            ages.axvline(mean, color=colour, ls="--", lw=1.5, zorder=3, path_effects=outline)
            _bars(workers, Counter(worker for worker, _ in pushes), 1, place, color=colour, hatch=hatch)
        ages.set(xlabel="staleness (updates)", ylabel="share of the applied pushes")
        workers.set(xlabel="worker", ylabel="applied pushes")
        for axes in (ages, workers):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(axis="x", visible=False)
        legend(result, *ages.get_legend_handles_labels())
        return result


def _bars(axes, counts, whole, place, **style):
    """The bars of one run, beside those of the others.   place: (which, of how many)"""
    i, runs = place
    width = 0.8 / runs
    axes.bar(
        [x + (i - (runs - 1) / 2) * width for x in counts],
        [n / whole for n in counts.values()],
        width,
        edgecolor="white",
        lw=0,
        **style,
    )


def read(folder):
    """[(worker, staleness)] of the pushes that were applied.

    Raises:
        UsageError: there is no folder, or no log in it.  DataError: nothing was applied, or the log is damaged.
    """
    path = check_folder(folder) / ORDER
    if not path.exists():
        raise UsageError(f"{folder} has no {ORDER}; runs of a parameter server leave one")
    applied = [entry for entry in read_order(path, whole=False)[1] if is_push(entry) and entry[3] > 0]
    pushes = list(zip((entry[0] for entry in applied), staleness(applied)))
    if not pushes:
        raise DataError(path, "holds no push that was applied", "runs of a parameter server leave some")
    return pushes


if __name__ == "__main__":
    draw_runs("staleness", __doc__, figure, read)
