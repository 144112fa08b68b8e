"""The messages of one step, drawn between ranks.   python -m dsgd.plots.messages RUN... [--step T] [--output FILE]

Time runs down the lifeline of each rank.  A collective of the backend is one call in a trace: the messages of its written
tree are drawn dashed, and share its time evenly, as they do on the virtual clock.  The run needs --trace.
"""

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from dsgd.plots.command import draw_runs
from dsgd.plots.steps import TREES, read_steps
from dsgd.plots.style import COLOURS, STYLE
from dsgd.plots.timeline import read

KINDS = {"compute": COLOURS[0], "wait": "#dddddd", "collective": "#efd6e4"}  # pale: arrows end on it
MICRO = 1e-6
SIZE = EngFormatter("B", places=1)


def figure(events, step=1, stop=None):
    """A matplotlib Figure of the steps `step` to `stop`, of one alone without `stop`.

    Args:
        events: of a trace, as Result.events has them.
    Raises:
        UsageError: the trace does not reach so far.
    """
    return figure_of({"": events}, step, stop)


def figure_of(runs, step=1, stop=None):
    """The figure of {label: events}, side by side."""
    parts = {label: read_steps(events, step, stop) for label, events in runs.items()}
    lanes = [len(part.names) for part in parts.values()]
    with matplotlib.rc_context(STYLE):
        width = min(16, max(6, 1.4 * sum(lanes) + 1.2 * len(lanes)))  # inches
        height = min(20, max(5, 2 + 0.3 * max(map(_deepest, parts.values()))))
        result = Figure(figsize=(width, height), layout="constrained")
        panels = result.subplots(1, len(parts), squeeze=False, width_ratios=lanes)[0]
        for axes, (label, part) in zip(panels, parts.items()):
            _draw(axes, part)
            axes.set_title("\n".join(filter(None, [label, _say(part)])), fontsize=10, loc="left")
        which = f"step {step}" if stop in (None, step) else f"steps {step} to {stop}"
        panels[0].set_ylabel(f"time since {which} began")
        result.legend(handles=_handles(parts.values()), loc="outside lower center", ncols=4)
        return result


def _say(part):
    """What was sent; the collectives that are no trees are named, since their messages are not drawn."""
    names = [bar.name for bar in part.bars if bar.name and bar.name not in TREES]
    drawn = f"{len(part.arrows)} messages, {SIZE(sum(arrow.nbytes for arrow in part.arrows))}"
    return ", ".join([drawn] * bool(part.arrows or not names) + list(dict.fromkeys(names)))


def _deepest(part):
    """How many messages the busiest rank receives."""
    receivers = [arrow.receiver for arrow in part.arrows]
    return max(map(receivers.count, receivers), default=0)


def _draw(axes, part):
    place = {rank: i for i, rank in enumerate(sorted(part.names))}
    length = (part.stop - part.start) * MICRO
    for x in place.values():
        axes.axvline(x, color="0.6", lw=1, zorder=1)
    for bar in part.bars:
        top, bottom = ((time - part.start) * MICRO for time in (bar.start, bar.stop))
        axes.broken_barh([(place[bar.rank] - 0.08, 0.16)], (top, bottom - top), color=KINDS[bar.kind], lw=0, zorder=2)
    taken = []  # (receiver, side, time) of what is written
    for arrow in part.arrows:
        ends = [(place[arrow.sender], (arrow.sent - part.start) * MICRO)]
        ends += [(place[arrow.receiver], (arrow.arrived - part.start) * MICRO)]
        _arrow(axes, arrow, *ends)
        here = arrow.receiver, ends[0][0] < ends[1][0], ends[1][1]
        if arrow.nbytes and len(place) <= 10 and not any(_near(here, other, length / 40) for other in taken):
            taken.append(here)
            _write(axes, arrow.nbytes, *ends)
    axes.set_xticks(list(place.values()), [part.names[rank].replace(", ", "\n") for rank in place])
    axes.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.set_xlim(-0.5, len(place) - 0.5)
    axes.set_ylim(length, 0)  # time runs down
    axes.yaxis.set_major_formatter(EngFormatter("s"))
    axes.grid(axis="x", visible=False)


def _near(here, other, least):
    return here[:2] == other[:2] and abs(here[2] - other[2]) < least


def _arrow(axes, arrow, start, end):
    style = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 1, "mutation_scale": 9, "lw": 1.2 if arrow.nbytes else 0.7}
    style |= {"color": COLOURS[3], "ls": "--"} if arrow.tree else {"color": "0.15" if arrow.nbytes else "0.55"}
    drawn = axes.annotate("", end, start, arrowprops=style, zorder=3)
    drawn.set_gid(f"message {arrow.sender} {arrow.receiver}")


def _write(axes, nbytes, start, end):
    """How long a message is, on its arrow, close to its head: there no two of one rank are at one time."""
    part = 0.36 / abs(end[0] - start[0])
    at = [b + (a - b) * part for a, b in zip(start, end)]
    box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    axes.text(*at, SIZE(nbytes), fontsize=7, ha="center", va="center", bbox=box, zorder=4)


def _handles(parts):
    """What the legend explains: what there is."""
    kinds = {bar.kind for part in parts for bar in part.bars}
    arrows = [arrow for part in parts for arrow in part.arrows]
    handles = [Patch(color=colour, label=kind) for kind, colour in KINDS.items() if kind in kinds]
    if any(not arrow.tree and arrow.nbytes for arrow in arrows):
        handles.append(Line2D([], [], color="0.15", label="message"))
    if any(not arrow.nbytes for arrow in arrows):
        handles.append(Line2D([], [], color="0.55", lw=0.7, label="message without data"))
    if any(arrow.tree for arrow in arrows):
        handles.append(Line2D([], [], color=COLOURS[3], ls="--", label="message of the written tree"))
    return handles


if __name__ == "__main__":
    number = {"type": int, "metavar": "T"}
    options = {
        "--step": number | {"default": 1, "help": "the step, from 1 (default: 1)"},
        "--stop": number | {"help": "the last of several steps"},
    }
    draw_runs("messages", __doc__, figure_of, read=lambda folder: read(folder)[1], options=options)
