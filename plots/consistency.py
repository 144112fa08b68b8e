"""Loss against virtual time for several consistency models.   python -m dsgd.plots.consistency RUN... [--output FILE]

Runs of one algorithm that differ only in their seed are one line, the median, in a band from the least to the largest.
Runs under other `--faults` are a panel of their own.
"""

import argparse
import json
from bisect import bisect_left
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib.figure import Figure

from dsgd.plots.style import COLOURS, MARKERS, STYLE, points
from dsgd.records import DataError, read_records

GRID = 200  # times at which seeds are compared


def figure(runs):
    """A matplotlib Figure, one panel for each kind of faults.

    Args:
        runs: [(algorithm, faults, [record])], with virtual times.
    """
    common = "parameter-server:consistency="
    runs = [(name.removeprefix(common), faults, rows) for name, faults, rows in runs]
    kinds = list(dict.fromkeys(faults for _, faults, _ in runs))
    names = list(dict.fromkeys(name for name, _, _ in runs))
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(1 + 4.2 * len(kinds), 4.6), layout="constrained")
        panels = result.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, kind in zip(panels, kinds):
            for i, name in enumerate(names):
                curves = [points(rows, "virtual_time", "train_loss") for n, f, rows in runs if (n, f) == (name, kind)]
                if curves:
                    draw_band(axes, curves, name, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
            axes.set(xscale="log", yscale="log", xlabel="virtual time (s)", title=kind or "no straggler")
        panels[0].set_ylabel("mean training loss")
        handles = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels())}
        result.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
        return result


def draw_band(axes, curves, name, colour, marker):
    """The median of some curves [(times, losses)] where all of them are, in the band from the least to the largest."""
    times, losses = zip(*(align(curve) for curve in curves))
    first, last = max(t[0] for t in times), min(t[-1] for t in times)
    grid = [first * (last / first) ** (i / (GRID - 1)) for i in range(GRID)]
    at = [[value(t, y, x) for t, y in zip(times, losses)] for x in grid]
    axes.fill_between(grid, [min(v) for v in at], [max(v) for v in at], color=colour, alpha=0.2, linewidth=0)
    middle = [median(v) for v in at]
    axes.plot(grid, middle, label=name, color=colour, marker=marker, markevery=GRID // 8, markersize=5)


def align(curve):
    """(times, losses) without what was measured at one time twice, or was not finite."""
    kept = {t: y for t, y in zip(*curve) if t > 0 and 0 < y < float("inf")}
    if not kept:
        raise ValueError("a run has no loss after its start")
    return list(kept), list(kept.values())


def value(times, values, x):
    """The value at x on the line through the points."""
    i = min(max(bisect_left(times, x), 1), len(times) - 1)
    if len(times) == 1:
        return values[0]
    part = (x - times[i - 1]) / (times[i] - times[i - 1])
    return values[i - 1] + min(max(part, 0), 1) * (values[i] - values[i - 1])


def read(folder):
    """(algorithm, faults, [record]) of a run's folder."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name, faults = config["algorithm"], config["faults"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, getattr(error, "strerror", None) or f"is damaged ({error})") from None
    rows = read_records(folder)
    if not points(rows, "virtual_time", "train_loss")[0]:
        raise DataError(folder, "has no virtual times: it is no run of the simulator, or made no record")
    return name, faults, rows


def draw(folders, output):
    """Write the figure of some run folders to `output`, a .png, .svg or .pdf."""
    figure([read(folder) for folder in folders]).savefig(output, dpi=120)


def main():
    parser = argparse.ArgumentParser(prog="python -m dsgd.plots.consistency", description=__doc__.partition(".")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a simulated run")
    parser.add_argument("--output", default="consistency.png", metavar="FILE")
    arguments = parser.parse_args()
    try:
        draw(arguments.runs, arguments.output)
    except DataError as error:
        parser.exit(65, f"dsgd: {error}\n")
    except ValueError as error:
        parser.exit(2, f"dsgd: {arguments.output}: {error}\n")
    except OSError as error:
        parser.exit(2, f"dsgd: {error.filename or arguments.output}: {error.strerror}\n")


if __name__ == "__main__":
    main()
