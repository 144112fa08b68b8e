"""The pictures of the pages, from runs whose hashes docs/figures.json keeps.   python docs/figures.py writes both.

tests/test_figures.py makes the runs again: the hashes have to be those, where NumPy, its BLAS and the machine are.
"""

import hashlib
import json
import shlex
import shutil
import sys
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.image import imsave  # noqa: E402

import dsgd  # noqa: E402
from benchmarks import consistency  # noqa: E402
from dsgd.arguments import read_arguments  # noqa: E402
from dsgd.config import Config  # noqa: E402
from dsgd.plots import animation, messages  # noqa: E402
from dsgd.plots.runs import read_run  # noqa: E402
from dsgd.plots.style import COLOURS, STYLE, points  # noqa: E402
from dsgd.plots.timeline import read as read_events  # noqa: E402

RUNS = ROOT / "runs" / "figures"
KEPT = ROOT / "docs" / "figures.json"
FACTS = ("dsgd", "numpy", "blas", "machine")  # what bits depend on, beside the configuration
LEFT_OUT = ("output", "quiet", "no_plot")  # no bit depends on these
FIRST = {"one worker": "", "four workers": "--simulate 4 --trace"}
COMMON = "--dtype float64 --epochs 8 --log-every 15"


def train(flags, folder):
    """The Run of a command line, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    config, _ = read_arguments([*shlex.split(flags), "--quiet", "--no-plot", "--output", str(folder)])
    dsgd.run(config)
    return read_run(folder)


def first(picture):
    """The README's first picture: what the project promises, and one step of it."""
    runs = {label: train(f"{COMMON} {flags}", RUNS / label.replace(" ", "-")) for label, flags in FIRST.items()}
    left = one_curve({label: run.records for label, run in runs.items()})
    beside(picture, left, messages.figure(read_events(runs["four workers"].folder)[1]))
    return list(runs.values())


def beside(picture, *figures):
    """Write Figures of one height as one .png."""
    with matplotlib.rc_context(STYLE):
        canvases = [FigureCanvasAgg(figure) for figure in figures]
        for canvas in canvases:
            canvas.figure.set_dpi(120)
            canvas.draw()
        gap = (0, 0), (0, 24), (0, 0)  # white pixels to the right of each
        imsave(picture, np.hstack([np.pad(canvas.buffer_rgba(), gap, constant_values=255) for canvas in canvases]))


def one_curve(runs):
    """A Figure of two runs on the same batches: their losses, one on the other, and how far apart these are.

    Args:
        runs: {label: [record]}, two.
    """
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(5.4, 5), layout="constrained")
        above, below = result.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        styles = {"linewidth": 6, "alpha": 0.45}, {"marker": "o", "markersize": 4, "linewidth": 1}
        for (label, rows), style, colour in zip(runs.items(), styles, COLOURS):
            above.plot(*points(rows, "step", "train_loss"), label=label, color=colour, **style)
        (steps, one), (_, other) = (points(rows, "step", "train_loss") for rows in runs.values())
        apart = [abs(a - b) for a, b in zip(one, other)]
        below.plot(steps, apart, ".", color=COLOURS[6])
        above.set(yscale="log", ylabel="mean training loss")
        below.set(ylim=(0, 1.2 * max(apart) or 1), xlabel="step", ylabel="difference")
        result.legend(loc="outside upper center", ncols=2)
        return result


def who_is_first(picture):
    """Loss against virtual time of four consistency models, with and without a straggler."""
    consistency.main()
    shutil.copy(consistency.FOLDER / "consistency.png", picture)
    return [read_run(path.parent) for path in sorted(consistency.FOLDER.glob("*/summary.json"))]


def all_reduce(picture):
    """A ring all-reduce as an animation."""
    return animated(picture, "--simulate 4 --reduction ring", "ring all-reduce on 4 workers")


def server(picture):
    """A step of the parameter server as an animation."""
    return animated(picture, "--simulate 5 --algorithm parameter-server", "parameter server: pull, compute, push")


def animated(picture, flags, title):
    run = train(f"--steps 4 --trace {flags}", RUNS / picture.stem)
    picture.write_text(animation.draw(read_events(run.folder)[1], step=2, title=title), encoding="utf-8")
    return [run]


PICTURES = {
    "docs/first.png": first,
    "docs/consistency.png": who_is_first,
    "docs/allreduce.svg": all_reduce,
    "docs/parameter-server.svg": server,
}


def command(config):
    """The command line of a run, without what no bit depends on.   config: of config.json"""
    defaults = {field.name: field.default for field in fields(Config)}
    given = {key: value for key, value in config.items() if value != defaults[key] and key not in LEFT_OUT}
    words = [[f"--{key.replace('_', '-')}"] + [str(value)] * (value is not True) for key, value in given.items()]
    return shlex.join(["python", "-m", "dsgd.train", *(word for flag in words for word in flag)])


def described(run):
    """What is kept of a run that a picture was made of."""
    return {
        "command": command(run.config),
        "params_sha256": run.summary["params_sha256"],
        "train_loss": run.summary["train_loss"],
        **{fact: run.manifest[fact] for fact in FACTS},
    }


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(names):
    """Draw all pictures, or those that are named."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    for name in names or PICTURES:
        runs = PICTURES[name](ROOT / name)
        described_runs = {run.folder.name: described(run) for run in runs}
        kept[name] = {"sha256": sha256(ROOT / name), "runs": described_runs}
        print(name, flush=True)
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
