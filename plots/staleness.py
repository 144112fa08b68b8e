"""How old the applied gradients were, and whose.   python -m dsgd.plots.staleness RUN... [--output FILE]

A push that was computed on version v of x and went into version w is w − 1 − v updates old.
"""

import argparse
from collections import Counter
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from dsgd.order import is_push, read_order, staleness
from dsgd.plots.style import COLOURS, STYLE
from dsgd.records import ORDER, DataError


def figure(runs):
    """A matplotlib Figure: how many applied pushes were how old, and how many pushes of each worker were applied.

    Args:
        runs: {label: [(worker, staleness)] of its applied pushes}.
    """
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(10, 4), layout="constrained")
        ages, workers = result.subplots(1, 2)
        for i, (name, pushes) in enumerate(runs.items()):
            colour, place = COLOURS[i % len(COLOURS)], (i, len(runs))
            stale = [age for _, age in pushes]
            mean = sum(stale) / len(stale)
            _bars(ages, Counter(stale), len(stale), place, color=colour, label=f"{name}: mean {mean:.2f}")
            outline = [withStroke(linewidth=4, foreground="white")]  # it crosses bars of its own colour
            ages.axvline(mean, color=colour, ls="--", lw=1.5, zorder=3, path_effects=outline)
            _bars(workers, Counter(worker for worker, _ in pushes), 1, place, color=colour)
        ages.set(xlabel="staleness (updates)", ylabel="share of the applied pushes")
        workers.set(xlabel="worker", ylabel="applied pushes")
        for axes in (ages, workers):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(axis="x", visible=False)
        result.legend(*ages.get_legend_handles_labels(), loc="outside upper center", ncols=min(3, len(runs)))
        return result


def _bars(axes, counts, whole, place, **style):
    """The bars of one run, beside those of the others.   place: (which, of how many)"""
    i, runs = place
    width = 0.8 / runs
    axes.bar([x + (i - (runs - 1) / 2) * width for x in counts], [n / whole for n in counts.values()], width, **style)


def read(folder):
    """[(worker, staleness)] of the pushes that were applied.

    Raises:
        DataError: there is no log of the order, or nothing was applied, or it is damaged.
    """
    path = Path(folder) / ORDER
    applied = [entry for entry in read_order(path, whole=False)[1] if is_push(entry) and entry[3] > 0]
    pushes = list(zip((entry[0] for entry in applied), staleness(applied)))
    if not pushes:
        raise DataError(path, "holds no push that was applied", "runs of a parameter server leave some")
    return pushes


def draw(folders, output):
    """Write the figure of some run folders to `output`, a .png, .svg or .pdf."""
    names = [Path(folder).name for folder in folders]
    labels = [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders)]
    figure({label: read(folder) for label, folder in zip(labels, folders)}).savefig(output, dpi=120)


def main():
    parser = argparse.ArgumentParser(prog="python -m dsgd.plots.staleness", description=__doc__.partition("   ")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--output", default="staleness.png", metavar="FILE")
    arguments = parser.parse_args()
    try:
        draw(arguments.runs, arguments.output)
    except DataError as error:
        parser.exit(65, f"dsgd: {error}\n")
    except (OSError, ValueError) as error:
        parser.exit(2, f"dsgd: {arguments.output}: {getattr(error, 'strerror', None) or error}\n")


if __name__ == "__main__":
    main()
