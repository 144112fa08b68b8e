"""Curves of anything against anything, for notebooks: it reads no run."""

import matplotlib
from matplotlib.figure import Figure

from dsgd.plots.style import COLOURS, MARKERS, STYLE


def figure(curves, x, y, log="", lines=None):
    """A matplotlib Figure of one panel.

    Args:
        curves: {label: (xs, ys)}.  x, y: what the axes are called, with units.
        log: the axes that are logarithmic: "", "x", "y" or "xy".  lines: {label: x} of vertical lines.
    """
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(7, 4), layout="constrained")
        axes = result.subplots()
        for i, (label, (xs, ys)) in enumerate(curves.items()):
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            axes.plot(xs, ys, label=label, color=colour, marker=marker if len(xs) < 40 else None, markersize=4)
        for i, (label, at) in enumerate((lines or {}).items()):
            axes.axvline(at, label=label, color="black", linestyle=("--", ":", "-.")[i % 3], linewidth=1)
        axes.set(xlabel=x, ylabel=y)
        for axis in log:
            getattr(axes, f"set_{axis}scale")("log")
        if len(curves) + len(lines or {}) > 1:
            result.legend(loc="outside right upper")
        return result
