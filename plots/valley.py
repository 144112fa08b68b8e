"""The loss along the straight line between two networks.   python -m dsgd.plots.valley RUN RUN [--output FILE]

θ(α) = (1 − α) θ_1 + α θ_2: a hill between α = 0 and 1 says that the runs ended in two valleys.
"""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dsgd.errors import UsageError
from dsgd.plots.command import draw_runs
from dsgd.plots.runs import check_folder
from dsgd.plots.style import COLOURS, STYLE, points
from dsgd.study import losses_between, study

ALPHAS = np.linspace(-0.25, 1.25, 31)  # 0 and 1 are among them


def figure(curves):
    """A matplotlib Figure: training and test loss against α.

    Args:
        curves: {label: [{"alpha", "train_loss", "test_loss"}]}.
    """
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(7, 4.5), layout="constrained")
        axes = result.subplots()
        for (name, rows), colour in zip(curves.items(), COLOURS * len(curves)):
            axes.plot(*points(rows, "alpha", "train_loss"), color=colour, label=f"{name}, training")
            axes.plot(*points(rows, "alpha", "test_loss"), color=colour, ls="--", label=f"{name}, test")
            ends = [row for row in rows if row["alpha"] in (0, 1)]
            axes.plot(*points(ends, "alpha", "train_loss"), "o", color=colour, label="_ends")
        axes.set(xlabel="α, from the first network (0) to the second (1)", ylabel="mean loss", yscale="log")
        result.legend(loc="outside upper center", ncols=2)
        return result


def figure_of(studies):
    """The figure of the lines from the first network in {label: study.Study} to each of the others."""
    if len(studies) < 2:
        raise UsageError("a line has two ends: name two runs")
    (first, one), *others = studies.items()
    return figure({f"{first} to {name}": losses_between(one, other, ALPHAS) for name, other in others})


if __name__ == "__main__":
    draw_runs("valley", __doc__, figure_of, read=lambda folder: study(check_folder(folder)))
