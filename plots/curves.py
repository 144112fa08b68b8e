"""Curves of anything against anything, for notebooks: it reads no run."""

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

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
        for name in log:
            getattr(axes, f"set_{name}scale")("log")
            axis = {"x": axes.xaxis, "y": axes.yaxis}[name]
            low, high = axis.get_view_interval()
            if high < 1000 * low:  # powers of ten would be too few ticks
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter("{x:g}")
                axis.set_minor_locator(NullLocator())
        if len(curves) + len(lines or {}) > 1:
            result.legend(loc="outside lower center", ncols=3)
        return result
