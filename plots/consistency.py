"""Loss against virtual time for several consistency models.   python -m dsgd.plots.consistency RUN... [--output FILE]

Runs of one algorithm that differ only in their seed are one line, the median, in a band from the least to the largest.
Runs under other `--faults` are a panel of their own.
"""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from dsgd.errors import UsageError
from dsgd.plots.bands import draw_band
from dsgd.plots.command import draw_runs
from dsgd.plots.runs import read_run
from dsgd.plots.style import STYLE, legend, look, points, save


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
                draw_band(axes, curves, label=name, **look(i))
            axes.set(xscale="log", yscale="log", xlabel="virtual time", title=kind or "no straggler")
            axes.xaxis.set_major_formatter(EngFormatter("s"))
            axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            low, high = axes.get_xlim()
            axes.xaxis.set_minor_formatter(EngFormatter("s") if high < 100 * low else NullFormatter())  # there is room
        panels[0].set_ylabel("mean training loss")
        handles = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels())}
        legend(result, list(handles.values()), list(handles))
        return result


def read(folder):
    """(algorithm, faults, [record]) of a run's folder.

    Raises:
        UsageError: there is no run, or it has no virtual times.  DataError: it is damaged.
    """
    run = read_run(folder)
    if not points(run.records, "virtual_time", "train_loss")[0]:
        raise UsageError(f"{folder} has no virtual times: it is no run of the simulator, or made no record")
    return run.config["algorithm"], run.config.get("faults", ""), run.records


def draw(folders, output):
    """Write the figure of some run folders to `output`, a .png, .svg or .pdf."""
    save(figure([read(folder) for folder in folders]), Path(output))


if __name__ == "__main__":
    draw_runs("consistency", __doc__, lambda runs: figure(list(runs.values())), read)
