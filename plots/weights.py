"""First-layer weights as images, and the digits that the network gets wrong.   python -m dsgd.plots.weights RUN

A unit of the first layer is an image of its weights: red where a bright pixel drives it, blue where one stops it.
"""

from math import ceil, isqrt

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dsgd.errors import UsageError
from dsgd.plots.command import draw_runs
from dsgd.plots.runs import check_folder
from dsgd.plots.style import STYLE
from dsgd.study import first_weights, mistakes, study

UNITS, WRONG, ACROSS = 64, 64, 8  # images that are shown at most; in a row


def figure(weights, shape=None, wrong=None):
    """A matplotlib Figure: the first 64 units on the left, on the right the first 64 samples that were misread.

    Args:
        weights: (features, units).  shape: (height, width) of an image; a square by default.
        wrong: (images (k, features), k labels, k predictions).
    Raises:
        UsageError: the features are no image.
    """
    shape = shape or square(len(weights))
    units, count = weights.T[:UNITS], min(WRONG, len(wrong[0])) if wrong else 0
    rows = max(ceil(len(units) / ACROSS), ceil(count / ACROSS))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        result = Figure(figsize=(11 if wrong else 6, 0.62 * max(rows, 3) + 1.6), layout="constrained")
        left, *right = result.subfigures(1, 2, width_ratios=(6, 5)) if wrong else [result]
        _units(left, units, shape, rows, weights.shape[1])
        if wrong:
            _wrong(right[0], [part[:count] for part in wrong], shape, rows, len(wrong[0]))
        return result


def square(features):
    """(side, side) of an image of so many pixels."""
    side = isqrt(features)
    if side * side != features:
        raise UsageError(f"{features} features are no square image, and only images can be shown")
    return side, side


def _units(part, units, shape, rows, whole):
    limit = float(np.abs(units).max()) or 1.0
    panels = part.subplots(rows, ACROSS, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for axes, unit in zip(panels.flat, units):
        drawn = axes.imshow(unit.reshape(shape), cmap="RdBu_r", vmin=-limit, vmax=limit)
    part.colorbar(drawn, ax=panels, shrink=0.8, label="weight")
    shown = f"the first {len(units)} of {whole} units" if len(units) < whole else f"all {whole} units"
    part.suptitle(f"first layer: {shown}", fontsize=10)


def _wrong(part, wrong, shape, rows, whole):
    images, labels, predictions = wrong
    shown = f"{len(images)} of {whole}" if len(images) < whole else f"{whole}"
    part.suptitle(f"misread test samples: {shown} (label → prediction)", fontsize=10)
    panels = part.subplots(rows, ACROSS, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for axes, image, label, prediction in zip(panels.flat, images, labels, predictions):
        axes.imshow(image.reshape(shape), cmap="gray_r")
        axes.set_title(f"{label} → {prediction}", fontsize=8, pad=2)


def read(folder):
    """(weights, wrong) of a run; wrong is None for a regression."""
    found = study(check_folder(folder))
    square(len(first_weights(found)))
    return first_weights(found), mistakes(found) if found.objective.data.classes else None


def figure_of(runs):
    """The figure of the one run in {label: (weights, wrong)}."""
    if len(runs) > 1:
        raise UsageError(f"one run at a time, not {len(runs)}: {', '.join(runs)}")
    ((weights, wrong),) = runs.values()
    return figure(weights, wrong=wrong)


if __name__ == "__main__":
    draw_runs("weights", __doc__, figure_of, read=read)
