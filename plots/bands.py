"""Several seeds as one line: the median, in a band from the least to the largest."""

from bisect import bisect_left
from math import isfinite
from statistics import median


def draw_band(axes, curves, **style):
    """Draw some curves [(x, y)] as one, where all of them are; one alone is a plain line.

    Curves that have no x in common, as those of one record each, are points without a line.
    """
    curves = [curve for curve in map(align, curves) if curve[0]]
    if not curves:
        return
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if first > last:
        axes.plot(*zip(*sorted(point for curve in curves for point in zip(*curve))), **style | {"linestyle": "none"})
        return
    grid = sorted({at for x, _ in curves for at in x if first <= at <= last})
    values = [[value(x, y, at) for x, y in curves] for at in grid]
    if len(curves) > 1:
        low, high = ([end(v) for v in values] for end in (min, max))
        axes.fill_between(grid, low, high, color=style.get("color"), alpha=0.2, linewidth=0)
    axes.plot(grid, [median(v) for v in values], markevery=max(1, len(grid) // 12), **style)


def align(curve):
    """(x, y) without what is not finite, and without what came before at the same x."""
    kept = {x: y for x, y in zip(*curve) if isfinite(x) and isfinite(y)}
    return list(kept), list(kept.values())


def value(xs, ys, x):
    """The value at x on the line through the points."""
    if len(xs) == 1:
        return ys[0]
    i = min(max(bisect_left(xs, x), 1), len(xs) - 1)
    part = (x - xs[i - 1]) / (xs[i] - xs[i - 1])
    return ys[i - 1] + min(max(part, 0), 1) * (ys[i] - ys[i - 1])
