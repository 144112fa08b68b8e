"""The figure of docs/guide/speed.md: µs a step, ours and the peers.   python -m benchmarks.figure writes docs/benchmarks.png"""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.measure import NETWORKS
from benchmarks.ranks import CASES, PROGRAMS, called
from benchmarks.results import REFERENCE, read
from dsgd.plots.style import COLOURS, STYLE

PICTURE = Path(__file__).parent.parent / "docs" / "benchmarks.png"
OURS, THEIRS, PLAIN = COLOURS[0], COLOURS[4], COLOURS[7]
HATCHES = {OURS: "", THEIRS: "///", PLAIN: "..."}  # tell the bars apart in print
LABELS = {OURS: "this library", THEIRS: "PyTorch", PLAIN: "plain NumPy, MPI_Allreduce"}


def draw(figures):
    """A matplotlib Figure: one panel a network, the programs on 1 and 2 ranks as bars.   figures: those of `ranks`"""
    times = {(figure.what, figure.case): figure.value for figure in figures if figure.unit == "µs"}
    rows = [(ranks, name) for (ranks, name), cases in PROGRAMS.items() if cases[: len(CASES)] == CASES]
    rows = [row for row in rows if (called(*row), next(iter(NETWORKS))) in times]
    with matplotlib.rc_context(STYLE | {"axes.grid": False, "hatch.linewidth": 0.5}):
        result = Figure(figsize=(10, 5.4), layout="constrained")
        panels = result.subplots(2, 2, sharey=True)
        for axes, (network, (_, batch)) in zip(panels.flat, NETWORKS.items()):
            bars(axes, rows, [times[called(*row), network] for row in rows])
            axes.set_title(f"{network}, batch {batch}: µs a step", fontsize=10, loc="left")
        panels[0, 0].invert_yaxis()  # all share it: the first program on top
        patches = [Patch(fc=c, ec="white", hatch=HATCHES[c], label=LABELS[c]) for c in LABELS]
        result.legend(handles=patches, loc="outside upper center", ncols=len(patches))
        return result


def bars(axes, rows, values):
    """The times of one network, the first on top; a gap between 1 rank and 2."""
    places = [i + 0.6 * (ranks - 1) for i, (ranks, _) in enumerate(rows)]
    colours = [colour(name) for _, name in rows]
    drawn = axes.barh(places, values, color=colours, edgecolor="white", hatch=[HATCHES[c] for c in colours])
    axes.bar_label(drawn, [f"{value:,.0f}" for value in values], padding=3, fontsize=8)
    axes.set_yticks(places, [f"{name}, {ranks} rank{'s' * (ranks > 1)}" for ranks, name in rows], fontsize=8)
    axes.set_xlim(0, 1.15 * max(values))
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])


def colour(program):
    if "orch" in program:
        return THEIRS
    return PLAIN if program == "NumPy" else OURS


if __name__ == "__main__":
    draw(read(REFERENCE)["ranks"][1]).savefig(PICTURE, dpi=120)
