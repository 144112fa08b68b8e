"""How much the ranks sent: bytes and messages.   python -m dsgd.plots.volume RUN... [--output FILE]

If p workers are all to know the sum of their gradients of n bytes, p − 1 messages must go in and p − 1 come back, of n
each: 2(p − 1)n bytes a step at least.  The line on a bar is there.  A tree, a star and a ring all send that much
together, and a parameter server a gradient and the parameters for each worker, 2pn; who exchanges at every step with a
server may send more, and who does it more rarely sends less.
"""

import textwrap

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator

from dsgd.plots.command import draw_runs
from dsgd.plots.runs import read_json, read_run, read_summary
from dsgd.plots.style import COLOURS, STYLE, legend
from dsgd.records import MODEL

PANELS = {"bytes": "bytes sent", "bytes_a_step": "bytes sent, a step", "messages_a_step": "messages sent, a step"}


def figure(runs):
    """A matplotlib Figure: bars of the bytes in total, and of bytes and messages a step.

    Args:
        runs: {label: volume}, as volume_of makes them.
    """
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(10, 1.2 + 0.5 * len(runs)), layout="constrained")
        panels = result.subplots(1, len(PANELS), sharey=True)
        for axes, (key, name) in zip(panels, PANELS.items()):
            _bars(axes, list(runs.values()), key)
            axes.set_xlabel(name)
        panels[0].set_yticks(range(len(runs)), [textwrap.fill(name, 30) for name in runs])
        panels[0].invert_yaxis()  # the first run on top
        handles = [Patch(color=COLOURS[0]), Patch(facecolor=COLOURS[4], hatch="//", edgecolor="white")]
        handles.append(Line2D([], [], color="black", marker="|", markersize=14, markeredgewidth=2, ls="none"))
        legend(result, handles, ["by workers", "by servers", "2(p − 1)n: one sum for all p workers"])
        return result


def _bars(axes, volumes, key):
    """One quantity of all runs, its value at the end of each bar."""
    served = [volume["served"].get(key, 0) for volume in volumes]
    rest = [volume[key] - part for volume, part in zip(volumes, served)]
    unit = EngFormatter("B" if "bytes" in key else "")
    axes.barh(range(len(volumes)), rest, color=COLOURS[0])
    bars = axes.barh(range(len(volumes)), served, left=rest, color=COLOURS[4], hatch="//", edgecolor="white", lw=0)
    axes.bar_label(bars, [EngFormatter(unit.unit, places=1)(volume[key]) for volume in volumes], padding=4, fontsize=9)
    bounds = [volume["bound"] if key == "bytes_a_step" else None for volume in volumes]
    for i, bound in enumerate(bounds):
        if bound:
            axes.plot([bound], [i], color="black", marker="|", markersize=14, markeredgewidth=2)
    high = max(1, *(volume[key] for volume in volumes), *(bound or 0 for bound in bounds))
    axes.set_xlim(0, 1.5 * high)  # room for the writing
    axes.set_xticks([tick for tick in MaxNLocator(2).tick_values(0, high) if tick <= high])
    axes.xaxis.set_major_formatter(unit)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)


def volume_of(run):
    """{"bytes", "bytes_a_step", "messages_a_step", "served", "bound"} of a plots.runs.Run.

    served: the same of its servers alone, where there are any.  bound: 2(p − 1)n in bytes; None without a model.json, or where
    no gradients are summed.

    Raises:
        UsageError: the run is not over.  DataError: its summary is damaged.
    """
    summary = read_summary(run, "bytes_sent", "messages_sent", "steps", "workers")
    servers = summary.get("servers", [])
    alone = run.config["algorithm"].partition(":")[0] == "model-parallel"  # no rank has another's layers to sum
    sent = _a_step(summary["bytes_sent"], summary["messages_sent"], summary["steps"])
    served = _a_step(sum(s["bytes"] for s in servers), sum(s["messages"] for s in servers), summary["steps"])
    path, bound = run.folder / MODEL, None
    if path.exists() and not alone:
        widths = read_json(path, "widths")["widths"]
        n = sum((one + 1) * other for one, other in zip(widths, widths[1:]))  # weights and biases
        bound = 2 * (summary["workers"] - 1) * n * (8 if run.config.get("dtype") == "float64" else 4)
    return sent | {"served": served if servers else {}, "bound": bound}


def _a_step(nbytes, messages, steps):
    steps = max(1, steps)
    return {"bytes": nbytes, "bytes_a_step": nbytes / steps, "messages_a_step": messages / steps}


def read(folder):
    """The volume of a folder's run; the errors are those of read_run and volume_of."""
    return volume_of(read_run(folder))


if __name__ == "__main__":
    draw_runs("volume", __doc__, figure, read)
