"""Speed-up and efficiency with more workers.   python -m dsgd.plots.speedup RUN... [--output FILE]

    speed-up of p workers   S(p) = R(p) / R(p₀)        R: samples a second, p₀: the least number of workers of the line
    efficiency              E(p) = S(p) p₀ / p          1 is ideal

Strong scaling is one batch cut into more parts; weak scaling is a batch that grows with the workers.
A line needs two numbers of workers.  Runs of no line, and of another task than the first one's, are named and left out.
"""

from statistics import median

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from dsgd.command import say
from dsgd.errors import UsageError
from dsgd.plots.command import draw_runs
from dsgd.plots.runs import read_run, read_summary
from dsgd.plots.style import STYLE, legend, look

TASK = ("data", "partition", "hidden", "activation", "loss", "dtype", "compute", "network", "faults", "device")


def figure(lines):
    """A matplotlib Figure: speed-up and efficiency against the workers, with the ideal line.

    Args:
        lines: {label: {workers: samples a second}}.
    """
    with matplotlib.rc_context(STYLE):
        result = Figure(figsize=(9, 4), layout="constrained")
        speed, efficiency = result.subplots(1, 2, sharex=True)
        counts = sorted({p for line in lines.values() for p in line})
        for i, line in enumerate(lines.values()):
            base, workers = min(line), sorted(line)
            ratios = [line[p] / line[base] for p in workers]
            speed.plot(workers, ratios, **look(i))
            efficiency.plot(workers, [ratio * base / p for ratio, p in zip(ratios, workers)], **look(i))
            (ideal,) = speed.plot(workers, [p / base for p in workers], color="0.5", ls="--", zorder=1)
        efficiency.axhline(1, color="0.5", ls="--", zorder=1)
        efficiency.set_ylim(0, max(1.05, efficiency.get_ylim()[1]))
        speed.set(xscale="log", yscale="log", ylabel="speed-up, over the fewest workers")
        efficiency.set(xscale="log", ylabel="efficiency")
        for axis in (speed.xaxis, efficiency.xaxis, speed.yaxis):
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
        for axes in (speed, efficiency):
            axes.set_xticks(_apart(counts), [str(p) for p in _apart(counts)])
            axes.set_xlabel("workers")
        low, high = speed.get_ylim()
        speed.set_yticks([2.0**k for k in range(-9, 12) if low <= 2.0**k <= high])
        legend(result, [*speed.lines[::2], ideal], [*lines, "ideal"])
        return result


def _apart(counts):
    """Those of some numbers that can be written side by side on a logarithmic axis."""
    shown = counts[:1]
    for p in counts[1:]:
        if p >= shown[-1] * (counts[-1] / counts[0]) ** 0.1:
            shown.append(p)
    return shown


def lines_of(runs):
    """({label: {workers: samples a second}}, [label of a run in no line]) of {label: plots.runs.Run}.

    A line is an algorithm with its options, on one batch or on one batch for each worker; a run may be on both.  Of several
    runs of one number of workers it has the median.  An algorithm that ran on one number alone has points and no line.
    """
    found, lines, used = {}, {}, set()
    for label, run in runs.items():
        found.setdefault(run.config["algorithm"], []).append((label, run.summary["workers"], run.config["batch_size"]))
    for algorithm, measured in found.items():
        groups = {}
        for label, workers, batch in measured:
            for kind in (f"batch of {batch}", f"weak scaling, {batch / workers:g} a worker"):
                groups.setdefault(kind, {}).setdefault(workers, []).append(label)
        alone = len({workers for _, workers, _ in measured}) == 1
        for kind, line in groups.items():
            if len(line) > 1 or alone and not kind.startswith("weak"):
                lines[f"{algorithm}, {kind}"] = {p: median(map(_rate, map(runs.get, line[p]))) for p in line}
                used.update(*line.values())
    return lines, [label for label in runs if label not in used]


def _rate(run):
    """Samples a second, of virtual time where there is one."""
    last = run.records[-1]
    return last["samples"] / (last["time"] if last["virtual_time"] is None else last["virtual_time"])


def reader():
    """A read(folder) that takes the runs of one task only: that of the first run it is given."""
    first = []

    def read(folder):
        run = read_run(folder)
        read_summary(run, "workers")
        task = {key: run.config.get(key) for key in TASK} | {"backend": run.manifest.get("backend")}
        for key, value in first[0].items() if first else ():
            if task[key] != value:
                raise UsageError(f"{folder} is left out: its {key} is {task[key]!r}, that of the first run {value!r}")
        if not run.records[-1].get("samples"):
            raise UsageError(f"{folder} is left out: it made no step")
        first.append(task)
        return run

    return read


def figure_of(runs):
    """The figure of {label: plots.runs.Run}."""
    lines, left = lines_of(runs)
    for label in left:
        say(
            f"{label} is left out: no run of its algorithm on other workers has its batch, or its batch for each worker"
        )
    return figure(lines)


if __name__ == "__main__":
    draw_runs("speedup", __doc__, figure_of, reader())
