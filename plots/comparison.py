"""What the algorithms cost, and what for, side by side.   python -m dsgd.plots.comparison FOLDER [--output FILE]"""

import argparse
import math
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from dsgd.command import run_command
from dsgd.errors import UsageError
from dsgd.plots.command import check_output
from dsgd.plots.runs import check_folder, read_json
from dsgd.plots.style import COLOURS, MARKERS, STYLE, points, save, score
from dsgd.records import COMPARISON, SCORES, DataError

PICTURE = "comparison.png"
WORST = -1.0  # R² that is shown: on the way to infinity it would make all others one line
UNITS = {"virtual_seconds": "s", "bytes": "B"}


def figure(rows):
    """A matplotlib Figure: bars of virtual time, messages, bytes and accuracy (or R², or loss), and its curves in time.

    Args:
        rows: [run], as comparison.json has them under "runs"; a run without numbers has diverged.
    """
    with matplotlib.rc_context(STYLE):
        height = 0.45 * len(rows) + 1  # inches, of the bars
        result = Figure(figsize=(10, height + 4), layout="constrained")
        bars, curves = result.subfigures(2, 1, height_ratios=(height, 4))
        axes = bars.subplots(1, 4, sharey=True)
        colours = [COLOURS[i % len(COLOURS)] for i in range(len(rows))]
        key = score(rows)
        _bars(axes[0], rows, "virtual_seconds", "virtual time", colours)
        _bars(axes[1], rows, "messages", "messages sent", colours)
        _bars(axes[2], rows, "bytes", "bytes sent", colours)
        _bars(axes[3], rows, key, SCORES[key], colours)
        axes[0].set_yticks(range(len(rows)), [_name(row) for row in rows])
        axes[0].invert_yaxis()  # the first run on top
        _curves(curves.subplots(), rows, key, colours)
        return result


def _name(row):
    return row["algorithm"].replace(":", ":\n")


def _bars(axes, rows, key, name, colours):
    """One quantity of all runs, each value written at the end of its bar."""
    plain = "{:,}" if key == "messages" else "{:.4g}"
    write = EngFormatter(UNITS[key], places=1) if key in UNITS else plain.format
    known = [row[key] for row in rows]
    values = [_length(key, value) for value in known]
    written = [row["ended_by"] if value is None else write(value) if value else "0" for row, value in zip(rows, known)]
    axes.bar_label(axes.barh(range(len(rows)), values, color=colours), written, padding=3, fontsize=9)
    low, high = min(0, *values), max(0, *values)
    room = 0.6 * (high - low or 1)  # for the writing
    axes.set_xlim(low - room * (low < 0), high + room)
    axes.set_xticks([tick for tick in MaxNLocator(2).tick_values(low, high) if low <= tick <= high])
    if key not in SCORES:
        axes.xaxis.set_major_formatter(EngFormatter(UNITS.get(key, "")))
    axes.set_xlabel(name)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)


def _length(key, value):
    """Of the bar of a value, which may be None or not finite."""
    if value is None or not math.isfinite(value):
        return 0
    return max(value, WORST) if key == "test_r2" else value


def _curves(axes, rows, key, colours):
    """How far each run has come, when.  Every other line is dashed and on top: where two agree, both show."""
    for i, (row, colour) in enumerate(zip(rows, colours)):
        name = _name(row) if row[key] is not None else f"{_name(row)}\n({row['ended_by']})"
        times, values = points(row["records"], "virtual_time", key)
        line = {"marker": MARKERS[i % len(MARKERS)], "color": colour, "label": name}
        axes.plot(times, values, linestyle=("-", (0, (3, 3)))[i % 2], linewidth=2, zorder=2 + i % 2, **line)
    axes.xaxis.set_major_formatter(EngFormatter("s"))
    axes.set_xlabel("virtual time")
    axes.set_ylabel(SCORES[key])
    if key == "test_r2":
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, WORST), min(max(high, 0), 1.02))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3)


def read(folder):
    """[run] of a comparison's folder.

    Raises:
        UsageError: there is none.  DataError: it is damaged.
    """
    path = check_folder(folder) / COMPARISON
    if not path.exists():
        raise UsageError(f"{folder} has no {COMPARISON}; python -m dsgd.compare makes one")
    rows = read_json(path, "runs")["runs"]
    known = {"algorithm", "ended_by", "virtual_seconds", "messages", "bytes", "records", *SCORES}
    try:
        if not all(row.keys() >= known for row in rows) or not score(rows):
            raise ValueError("no runs")
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(path, f"is damaged ({error})", "python -m dsgd.compare makes one") from None
    return rows


def draw(rows, output):
    """Write the figure of some runs to `output`, a .png, .svg or .pdf."""
    save(figure(rows), Path(output))


def main(argv):
    parser = argparse.ArgumentParser(prog="python -m dsgd.plots.comparison", description=__doc__.partition("   ")[0])
    parser.add_argument("folder", metavar="FOLDER", help="of a comparison")
    parser.add_argument("--output", metavar="FILE", help=f"default: {PICTURE} in the folder")
    arguments = parser.parse_args(argv)
    rows = read(arguments.folder)
    draw(rows, check_output(arguments.output or Path(arguments.folder) / PICTURE))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
