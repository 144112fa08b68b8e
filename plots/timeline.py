"""Who did what, when: a run with --trace as a Gantt chart.   python -m dsgd.plots.timeline RUN [--output FILE]

It also prints where the time of each rank went, whom it waited for, and the rank that sets the critical path.
`--from` and `--to` show a part of the run, in seconds.
"""

import argparse
import sys
from pathlib import Path

import matplotlib
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator

from dsgd import timeline
from dsgd.command import run_command
from dsgd.errors import UsageError
from dsgd.order import read_order, staleness
from dsgd.plots.command import check_output
from dsgd.plots.runs import check_folder, read_json
from dsgd.plots.style import COLOURS, STYLE, save
from dsgd.records import ORDER, TRACE, DataError, check_format

PICTURE = "timeline.png"
KINDS = {"compute": COLOURS[0], "wait": "#dddddd", "send": COLOURS[4], "receive": COLOURS[2], "collective": COLOURS[3]}
ARROWS = 150  # messages; more would hide what they connect
NANO = 1e9


def figure(events, start=0.0, stop=None):
    """A matplotlib Figure: a row for each rank, a bar for each thing it did, the critical path over them.

    Args:
        events: of a trace.json.  start, stop: s; to the end by default.
    """
    spans, names = timeline.read_spans(events), timeline.read_names(events)
    first, last = _window(spans, start, stop)
    ranks, few = sorted(spans), len(spans) <= 32
    with matplotlib.rc_context(STYLE):
        height = min(14, (0.42 if few else 0.18) * len(ranks))  # inches
        result = Figure(figsize=(11, height + 1.6), layout="constrained")
        axes = result.subplots()
        for rank in ranks:
            for kind, colour in KINDS.items():
                bars = [span for span in spans[rank] if span.kind == kind and first <= span.stop and span.start <= last]
                bars = [(span.start / NANO, (span.stop - span.start) / NANO) for span in bars if span.stop > span.start]
                axes.broken_barh(bars, (rank - 0.4, 0.8), color=colour, linewidth=0)
        _path(axes, timeline.critical_path(spans), first, last)
        _arrows(axes, spans, first, last)
        axes.set_xlim(first / NANO, last / NANO)
        axes.set_ylim(len(ranks) - 0.4, -0.6)  # rank 0 on top
        shown = ranks[:: 1 + len(ranks) // 80]
        axes.set_yticks(shown, [names[rank] for rank in shown], fontsize=9 if few else 7)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(8))
        axes.xaxis.set_major_formatter(EngFormatter("s"))
        axes.set_xlabel("time since the run began")
        handles = [Patch(color=colour, label=kind) for kind, colour in KINDS.items()]
        path = axes.plot([], [], color="black", lw=2, label="critical path")
        result.legend(handles=[*handles, *path], loc="outside upper center", ncols=6)
        return result


def _window(spans, start, stop):
    """(first, last) in ns."""
    end = timeline.length(spans)
    return round(start * NANO), end if stop is None else min(end, round(stop * NANO))


def _path(axes, legs, first, last):
    """A black line along the ranks that were busy, from one to the next where something had to wait for it.

    Where it would go from one to the next too often to be followed, only what is along a rank is drawn.
    """
    ends = [[(leg.start, leg.rank if leg.peer is None else leg.peer), (leg.stop, leg.rank)] for leg in legs]
    jumps = [[before[1], after[0]] for before, after in zip(ends, ends[1:])]
    shown = [line for line in ends + jumps if line[1][0] >= first and line[0][0] <= last]
    if len(shown) > 2 * ARROWS:
        shown = [line for line in shown if line[0][1] == line[1][1]]
    lines = [[(time / NANO, rank) for time, rank in line] for line in shown]
    axes.add_collection(LineCollection(lines, colors="black", linewidths=2, capstyle="butt", label="_path", zorder=3))


def _arrows(axes, spans, first, last):
    """Messages from sender to receiver, if they are few enough to be told apart."""
    got = [(span, rank) for rank, mine in spans.items() for span in mine if span.sent is not None]
    got = [(span, rank) for span, rank in got if span.stop >= first and span.sent <= last]
    if len(got) <= ARROWS:
        for span, rank in got:
            line = {"arrowstyle": "->", "color": "0.25", "lw": 0.8, "shrinkA": 0, "shrinkB": 0}
            ends = (span.stop / NANO, rank), (span.sent / NANO, span.peer)
            arrow = axes.annotate("", *ends, arrowprops=line, annotation_clip=False).arrow_patch
            arrow.set_clip_box(axes.bbox)  # its ends may lie outside the part that is shown


def table(events, start=0.0, stop=None, applied=None):
    """[line]: where the time of each rank went, gradients a second, and who sets the critical path.

    Args:
        applied: how many gradients were, where that was logged; else it is all of them.
    """
    spans, names = timeline.read_spans(events), timeline.read_names(events)
    first, last = _window(spans, start, stop)
    whole, blocked = last - first, timeline.find_blockers(spans, first, last)
    width = max(map(len, names.values()))
    lines = [f"{'':{width}}  compute     wait  communicate    other  waits longest for"]
    for rank, time in timeline.split_time(spans, first, last).items():
        parts = "  ".join(f"{time[kind] / whole:{size}.1%}" for kind, size in zip(timeline.SHARES, (7, 7, 11, 7)))
        waits = {peer: wait for (waiting, peer), wait in blocked.items() if waiting == rank and wait}
        longest = max(waits, key=waits.get, default=None)
        peer = "" if longest is None else f"rank {longest} ({waits[longest] / whole:.1%})"
        lines.append(f"{names[rank]:{width}}  {parts}  {peer}".rstrip())
    gradients, seconds = timeline.count_gradients(spans, first, last), EngFormatter("s", places=2)(whole / NANO)
    counted = {"computed": gradients} if applied is None else {"computed": gradients, "applied": applied}
    lines.append(f"gradients in {seconds}: " + _rates(counted, whole))
    return [*lines, _pace(spans, names, first, last)]


def _rates(counted, whole):
    return ", ".join(f"{count} {what}, {count / whole * NANO:.4g} a second" for what, count in counted.items())


def _pace(spans, names, first, last):
    """Whether a rank or the network sets the critical path."""
    busy, messages = timeline.share_path(timeline.critical_path(spans), first, last)
    rank, ranks = max(busy, key=busy.get, default=0), sum(busy.values())
    alone, others, sent = (part / (last - first) for part in (busy[rank], ranks - busy[rank], last - first - ranks))
    who, whose = (names[rank], "its share") if alone >= sent else ("the network", names[rank])
    ends = max(messages, key=messages.get, default=None)
    where = "" if ends is None else f" (most to or from {names[ends]})"
    return f"critical path: set by {who}; {whose} {alone:.1%}, other ranks {others:.1%}, messages {sent:.1%}{where}"


def read(folder):
    """(facts of the run, [event]) of its folder.

    Raises:
        UsageError: there is no folder, or no trace in it.  DataError: it is damaged, or of a newer version.
    """
    path = check_folder(folder) / TRACE
    if not path.exists():
        raise UsageError(f"{folder} has no {TRACE}; python -m dsgd.train --trace makes one")
    trace = read_json(path, "otherData", "traceEvents")
    try:
        check_format(path, trace["otherData"])
        if not timeline.length(timeline.read_spans(trace["traceEvents"])):
            raise ValueError("nothing happened")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(path, f"is damaged ({error})", "python -m dsgd.train --trace makes one") from None
    return trace["otherData"], trace["traceEvents"]


def count_applied(folder, facts):
    """Pushes that were applied, by the log of their order; None without one, or if it tells more than the trace."""
    if not (Path(folder) / ORDER).exists() or facts.get("first step") != 1:
        return None
    return len(staleness(read_order(folder, whole=False)[1]))


def main(argv):
    parser = argparse.ArgumentParser(prog="python -m dsgd.plots.timeline", description=__doc__.partition("   ")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help=f"folder of a run with --trace, or its {TRACE}")
    parser.add_argument("--output", metavar="FILE", help=f"default: {PICTURE} in the folder")
    parser.add_argument("--from", dest="start", type=float, default=0.0, metavar="S", help="default: the start")
    parser.add_argument("--to", dest="stop", type=float, metavar="S", help="seconds; default: the end")
    arguments = parser.parse_args(argv)
    folder = arguments.run.parent if arguments.run.name == TRACE else arguments.run
    (facts, events), part = read(folder), (arguments.start, arguments.stop)
    output = check_output(arguments.output or folder / PICTURE)
    end = timeline.length(timeline.read_spans(events)) / NANO
    stop = end if arguments.stop is None else arguments.stop
    if not 0 <= arguments.start < min(stop, end):  # not for NaN either
        raise UsageError(f"--from and --to: there is no such part of a run of {end:.6g} s")
    print("\n".join(table(events, *part, count_applied(folder, facts) if part == (0, None) else None)))
    save(figure(events, *part), output)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
