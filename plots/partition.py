"""Which labels each worker sees in an epoch.   python -m dsgd.plots.partition RUN... [--output FILE]"""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dsgd.plots.command import draw_runs
from dsgd.plots.runs import check_folder
from dsgd.plots.style import STYLE
from dsgd.study import count_labels, study


def figure(runs):
    """A matplotlib Figure: a row of circles for each class, a column for each worker, areas in proportion to the samples.

    Args:
        runs: {label: (workers, classes) of whole numbers}.
    """
    with matplotlib.rc_context(STYLE):
        tall = max(counts.shape[1] for counts in runs.values())
        lanes = [max(4, len(counts)) for counts in runs.values()]
        size = min(18, 1.5 * len(runs) + 0.32 * sum(lanes)), min(12, 1.6 + 0.32 * tall)  # inches
        result = Figure(figsize=(max(5, size[0]), max(3, size[1])), layout="constrained")
        panels = result.subplots(1, len(runs), squeeze=False, width_ratios=lanes)[0]
        largest = max(int(counts.max(initial=1)) for counts in runs.values())
        room = 72 * min(
            0.8 * result.get_figwidth() / sum(lanes), 0.7 * result.get_figheight() / tall
        )  # points a circle
        for axes, (name, counts) in zip(panels, runs.items()):
            worker, label = np.nonzero(counts)
            held = counts[worker, label]
            axes.scatter(worker, label, s=held / largest * room**2 * 0.8, color="#0072b2", linewidths=0)
            axes.set_xlim(-0.6, len(counts) - 0.4)
            axes.set_ylim(counts.shape[1] - 0.4, -0.6)
            axes.set(xlabel="worker", ylabel="class")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(min(10, max(counts.shape)), integer=True))
            share = counts.sum(axis=1)
            spread = f"{share.min():,} to {share.max():,}" if share.min() != share.max() else f"{share[0]:,}"
            axes.set_title(f"{name}\n{spread} samples a worker", fontsize=10, loc="left")
        result.supxlabel(f"largest circle: {largest:,} samples of one class", fontsize=9)
        return result


if __name__ == "__main__":
    draw_runs("partition", __doc__, figure, read=lambda folder: count_labels(study(check_folder(folder))))
