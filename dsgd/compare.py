"""python -m dsgd.compare: the same task by several algorithms, in the simulator: one table, one picture.

Centralised, by distributed SGD, by data parallelism, with a parameter server, with both combined.  The runs share data,
seed and, unless data stay on shards, the global batches; hashes tell which of them end in the same bits.
"""

import sys
import time
from argparse import SUPPRESS
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace

from dsgd.algorithms import ALGORITHMS
from dsgd.arguments import configure, parse_words, parser, to_toml
from dsgd.checkpoint import KEEP
from dsgd.command import run_command
from dsgd.errors import DsgdError, NonFiniteGradient, UsageError
from dsgd.folder import describe, numbered
from dsgd.layout import BLOCK
from dsgd.network import read_network
from dsgd.prepare import prepare
from dsgd.records import COMPARISON, METRICS, SCORES, write_json
from dsgd.runner import open_backend, run
from dsgd.specs import convert
from dsgd.timing import parse_compute

CENTRALISED = "sgd"  # what the others are compared with: on one rank, whatever --workers says
USUAL = (CENTRALISED, "dsgd", "data-parallel", "parameter-server", "parameter-server:consistency=asp", "grouped")
WORKERS = 4
DIVERGED = "not finite"  # what ended a run whose gradient was
REFUSED = {
    "simulate": "all runs are simulated; --workers N says how many workers each has",
    "algorithm": "name the algorithms without a flag, as in python -m dsgd.compare sgd dsgd",
    "resume": "a comparison starts anew; python -m dsgd.train --resume --output FOLDER continues one run",
    "replay": "the order of one run is not that of others; python -m dsgd.train --replay RUN follows it",
    "trace": "a timeline is of one run; python -m dsgd.train --trace makes it",
}
COUNTED = ("workers", "ranks", "steps", "samples", "messages", "bytes")
MEASURED = ("virtual_seconds", "train_loss")


def main(argv):
    """Compare as the command line says, print the table, write the files; returns the exit code."""
    from threadpoolctl import threadpool_limits

    from dsgd.mpi.launch import launched

    if launched()[0]:
        raise UsageError("a comparison simulates its ranks in one process; start it without mpirun")
    algorithms, workers, config, shown = read(argv)
    if shown:
        print(to_toml(config))
        return 0
    algorithms = algorithms or usual(config)
    with threadpool_limits(limits=config.threads, user_api="blas"):  # made data are products of matrices too
        comparison, folder = compare(algorithms, workers, config)
    print("\n".join(table(comparison["runs"])), flush=True)
    save(comparison, folder, plot=not config.no_plot)
    if not config.quiet:
        print("\n".join([*explain(comparison), str(folder)]))
    return 0


# --- the command line


def command_line():
    """The flags of dsgd.train without those that a comparison decides, and two of its own."""
    known = parser()
    known.prog = "python -m dsgd.compare"
    known.usage = "%(prog)s [ALGORITHM ...] [--workers N] [flags of dsgd.train]"
    known.description = "Train on the same task by several algorithms, in the simulator, and compare them."
    known.add_argument("algorithms", nargs="*", metavar="ALGORITHM", help=f"default: {' '.join(USUAL)}")
    known.add_argument("--workers", metavar="N", help=f"of every run but {CENTRALISED}'s (default: {WORKERS})")
    for action in known._actions:
        if action.dest in REFUSED:
            action.help = SUPPRESS
    return known


def read(argv):
    """(algorithms named, workers, Config, whether to print it and stop) of a command line."""
    values = parse_words(command_line(), argv)
    algorithms, workers = values.pop("algorithms"), values.pop("workers")
    refuse([key for key in REFUSED if values[key] is not None])
    workers = WORKERS if workers is None else convert("--workers", workers, int)
    if workers < 1:
        raise UsageError(f"--workers {workers} must be at least 1")
    config, shown = configure(values)
    refuse([key for key in REFUSED if getattr(config, key)])  # in a --config file
    return algorithms, workers, config, shown


def refuse(keys):
    """Refuse the first of the flags that a comparison decides, if any of them is given."""
    if keys:
        raise UsageError(f"--{keys[0]} is not for a comparison: {REFUSED[keys[0]]}")


def usual(config):
    """The algorithms of a comparison that names none: those of USUAL that the configuration fits; the others are named."""
    algorithms = []
    for spec in USUAL:
        try:
            algorithms.append(replace(config, algorithm=spec).algorithm)
        except UsageError as error:
            if not config.quiet:
                print(f"without {spec}: {str(error).partition(';')[0]}", flush=True)
    return algorithms


# --- the runs


def compare(algorithms, workers, config):
    """({what comparison.json holds}, its folder) of a run of each algorithm.

    Args:
        algorithms: their specs.  workers: of each run.  config: of all of them, whatever its algorithm and ranks.
    Raises:
        UsageError, DataError: before the first run.  NonFiniteGradient: every run diverged.
    """
    base = replace(config, algorithm="data-parallel", simulate=workers, output="")
    backend = open_backend(None, base, None)
    task = prepare(base, backend)  # its objective serves all runs: the data are read once
    jobs = [choose(spec, workers, task) for spec in algorithms]
    manifest, folder, runs = describe(task, backend), make_folder(config.output), []
    try:
        for job in jobs:
            backend = open_backend(None, job.config, None)
            runs.append(train(job, backend))
        if all(row["ended_by"] == DIVERGED for row in runs):
            raise NonFiniteGradient("all runs diverged, and nothing is left to compare; use a smaller --lr")
    except BaseException:
        with suppress(OSError):  # of a folder that is not empty
            folder.rmdir()
        raise
    shared = {key: value for key, value in asdict(task.config).items() if key not in (*REFUSED, "output")}
    return {"config": shared, "manifest": manifest, "runs": runs}, folder


def choose(spec, workers, task):
    """The Job of an algorithm, on as many ranks as it takes for `workers` of them to work."""
    with naming(spec):
        config = replace(task.config, algorithm=spec)
        name, options = config.parse_algorithm()
        ranks = 1 if name == CENTRALISED else staff(ALGORITHMS[name].roles, workers, task.objective, options)
        config = replace(config, simulate=ranks)
        return prepare(config, open_backend(None, config, None), task.objective)


def staff(roles, workers, objective, options):
    """The number of ranks of which `workers` work, the others serve; `workers` if there is none: prepare says why."""
    most = -(-objective.layout.size // BLOCK)  # servers: each has a block of x
    for ranks in range(workers, workers + most + 1):
        with suppress(ValueError):  # this many will not do
            if len(roles(ranks, objective, **options).workers) == workers:
                return ranks
    return workers


@contextmanager
def naming(spec):
    """Errors say which algorithm they are about."""
    try:
        yield
    except DsgdError as error:
        raise type(error).from_text(f"{spec}: {str(error).removeprefix(f'--algorithm {spec}: ')}") from None


def train(job, backend):
    """A row of the comparison; a run that diverges has one too, with what was recorded until then."""
    spec, began, started = job.config.algorithm, time.perf_counter(), []
    with naming(spec):
        try:
            result = run(
                job.config, backend=backend, objective=job.objective, announce=lambda its, _: started.append(its)
            )
            row, how = summarise(job, result.summary, result.records), f"{time.perf_counter() - began:.2f} s"
        except NonFiniteGradient as error:
            row, how = summarise(job, {"ended_by": DIVERGED}, started[0].recorder.records.rows), str(error)
    if not job.config.quiet:
        print(f"{spec} on {backend.size} rank{'s' * (backend.size > 1)}: {how}", flush=True)
    return row


def summarise(job, summary, records):
    """What the table and the picture show of a run, for JSON.   summary: without numbers if the run diverged"""
    last = records[-1] if "steps" in summary else {}
    return {
        "algorithm": job.config.algorithm,
        "workers": len(job.roles.workers),
        "ranks": job.config.simulate,
        **{key: summary.get(key) for key in ("steps", *MEASURED, *SCORES, "ended_by", "params_sha256")},
        "samples": last.get("samples"),
        "messages": summary.get("messages_sent"),
        "bytes": summary.get("bytes_sent"),
        "synchronous": job.roles.synchronous,
        "records": records,
    }


# --- what is shown and kept


def table(runs):
    """The lines of the table: a header, and one for each run, without numbers where it diverged."""
    score = next(key for key in SCORES if any(row[key] is not None for row in runs))
    lines = [["algorithm", *COUNTED, "virtual s", "train loss", SCORES[score], "parameters"]]
    for row in runs:
        cells = [cell(row[key], "{:,}") for key in COUNTED]
        cells += [cell(row[key], "{:.4g}") for key in (*MEASURED, score)]
        lines.append([row["algorithm"], *cells, (row["params_sha256"] or row["ended_by"])[:16]])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ["  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]) for name, *cells in lines]


def cell(value, how):
    """A number, or the sign that there is none."""
    return "–" if value is None else how.format(value)


def explain(comparison):
    """Lines that say what the virtual time means, and the steps of an asynchronous run."""
    config = comparison["config"]
    network, (name, compute, _) = read_network(config["network"]), parse_compute(config["compute"])
    gradient = f"its operations at {compute['speed'] * 1e-9:g} Gflop/s" if name == "flops" else config["compute"]
    others = ", but for links and cards of their own" if network.links or network.cards else ""
    yield (
        f"virtual time: a message takes {network.latency * 1e6:g} µs and its bytes at {network.bandwidth * 8e-9:g} Gbit/s"
        f"{others}, a gradient {gradient}; nothing else takes any"
    )
    if not all(row["synchronous"] for row in comparison["runs"]):
        yield "consistency=asp: in a step every worker makes an update of its own, with the whole step size"


def make_folder(output):
    """The folder of a comparison, made if need be; it holds no comparison yet, and no run."""
    folder = numbered(output or "runs/*-compare")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {folder}: {error.strerror}") from None
    for name in (COMPARISON, METRICS, *KEEP):
        if (folder / name).exists():
            raise UsageError(f"{folder} holds a comparison or a run already ({name}); choose another --output")
    return folder


def save(comparison, folder, plot):
    """Write comparison.json, and comparison.png if `plot`."""
    try:
        write_json(folder / COMPARISON, comparison)
        if plot:
            from dsgd.plots.comparison import PICTURE, draw

            draw(comparison["runs"], folder / PICTURE)
    except OSError as error:
        raise UsageError(f"--output {folder}: {error.strerror or error}") from None


if __name__ == "__main__":
    sys.exit(run_command(main, "interrupted; nothing was written"))
