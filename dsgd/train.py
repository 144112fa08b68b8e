"""python -m dsgd.train: one worker, simulated ranks (--simulate N), or the ranks of mpirun, with the same flags."""

import os
import sys

from dsgd.command import run_command, say

STOPPED = 143  # exit code after a signal that another rank got


def main(argv, backend=None):
    """Train as the command line says, and print it on rank 0; returns the exit code.

    Args:
        backend: an MPIBackend under mpirun, None otherwise.
    """
    from dataclasses import replace

    from dsgd.arguments import read_arguments, to_toml
    from dsgd.runner import run
    from dsgd.watch import REMEDY

    first = backend is None or backend.main
    if not first:
        sys.stdout = open(os.devnull, "w")  # rank 0 speaks for all, --help included
    agree = backend.agree if backend else lambda action: action()
    config, shown = agree(lambda: read_arguments(argv, launched=backend is not None))
    if shown:
        if first:
            print(to_toml(config))
        return 0
    config = config.settle(config.simulate or (backend.size if backend else 1))
    if not config.output and not config.resume:
        config = replace(config, output=f"runs/*-{config.algorithm.partition(':')[0]}")  # * becomes a number
    wish, restore_signals = [], lambda: None
    if not config.replay:  # which is made in one go
        wish, restore_signals = stop_on_signal(launched=backend is not None)
    try:
        result = run(config, backend=backend, wish=wish, announce=announce if first and not config.quiet else None)
    finally:
        restore_signals()
    stopped = first and result.summary["ended_by"] == "signal"
    if stopped:
        print(
            f"stopped at step {result.summary['steps']}; the same command with --resume --output {result.folder} goes on"
        )
    if first:
        report(result)
        if result.unsaved:
            say(result.unsaved)
            return 74
        if result.summary["ended_by"] == "divergence":
            say(f"the loss has diverged; {REMEDY['exploding']}")
            return 70
    return (wish[0] if wish else STOPPED) if stopped else 0


def stop_on_signal(launched):
    """(wish, undo): the first Ctrl-C, SIGTERM, SIGUSR1 or SIGHUP is a wish to stop after the step; the second ends at once.

    The wish is the exit code: 130 or 143, 129 for SIGHUP, a closed terminal.  SIGUSR1 is what job schedulers send before
    they end a job.

    Args:
        launched: whether a launcher started this rank, which may then be waiting inside MPI.
    """
    import signal

    codes = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGHUP: 129}
    wish, before, undo_second = [], {}, lambda: None

    def undo():
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()

    def handle(number, frame):
        wish.append(codes[number])
        if not launched:
            undo()  # so that the second has the system's own effect

    def undo_all():
        undo()
        undo_second()

    heard = [number for number in codes if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, handle) for number in heard}
    if launched:
        from dsgd.mpi.launch import end_on_second_signal

        undo_second = end_on_second_signal(codes)
    return wish, undo_all


def announce(job, backend):
    """The first lines: what is trained, where, how; and what an asynchronous step size means."""
    from dsgd.follow import changes
    from dsgd.order import is_push

    config, workers = job.config, len(job.roles.workers)
    classes = job.objective.data.classes
    if job.replayed:
        changed = "; ".join(changes(job)) or "nothing changed"
        print(f"in the order of {config.replay}, {sum(map(is_push, job.replayed[1]))} pushes: {changed}", flush=True)
    if not job.roles.synchronous:
        print(f"asynchronous: {meaning(job)}", flush=True)
    if config.faults:
        print(f"faults on purpose: {config.faults}", flush=True)
    sizes = getattr(job.sampler, "sizes", None)
    if sizes:
        print(
            f"{config.partition}: the data are cut into {len(sizes)} shards of {min(sizes)} to {max(sizes)} samples, "
            "and every batch takes its part of each",
            flush=True,
        )
    going_on = f", from step {job.restored[1]['step']}" if job.restored else ""
    if job.recorder.lost:
        going_on += f" ({job.recorder.lost} samples were applied and not saved before a crash, and are done again)"
    task = f"{config.data} ({f'{classes} classes' if classes else 'regression'})"
    print(
        f"{config.algorithm} on {backend.size} rank{'s' * (backend.size > 1)} ({backend.name}), "
        f"{workers} worker{'s' * (workers > 1)}: {task}, {job.objective.layout.size:,} parameters, {config.dtype}, "
        f"batch {config.batch_size}, {config.threads} BLAS thread{'s' * (config.threads > 1)} a rank, "
        f"{job.steps} steps{going_on}",
        flush=True,
    )


def meaning(job):
    """What an asynchronous update is, in the words of the algorithm that makes it."""
    workers, together = len(job.roles.workers), job.roles.pushes
    if job.config.algorithm.partition(":")[0] != "parameter-server":
        return "servers add pushes as they arrive; the file of the algorithm says what a push is"
    if together > 1:
        return f"each update moves x by eta times the average of {together} pushes of the {workers} workers"
    return (
        f"each push moves x by eta times the average over its worker's own batch, with eta = {job.config.lr} as given, "
        f"not rescaled; the {workers} pushes of a clock move x about as far as {workers} synchronous steps"
    )


def report(result):
    """Where the time went; last of all accuracy, hash, folder, and what ended the run."""
    summary = result.summary
    if not result.config.quiet:
        print("seconds: " + ", ".join(f"{what} {seconds:.2f}" for what, seconds in result.seconds.items()))
        if len(summary.get("servers", ())) > 1:
            loads = (f"rank {s['rank']} {s['messages']} messages, {s['bytes']} bytes" for s in summary["servers"])
            print("sent by the servers: " + "; ".join(loads))
        known = [(part, c) for c, part in enumerate(summary.get("recall", ())) if part is not None]
        if len(known) > 2:
            part, c = min(known)
            print(f"class recognised worst: {summary['labels'][c]}, {part:.0%} of its samples (all in summary.json)")
    if summary["test_accuracy"] is not None:
        score = f"test accuracy {summary['test_accuracy']:.4f}"
    else:
        r2 = summary["test_r2"]
        score = f"test loss {summary['test_loss']:.6g}" if r2 is None else f"test R² {r2:.4f}"
    ended = {
        "steps": "{} steps done",
        "convergence": "converged at step {}",
        "signal": "stopped at step {}",
        "divergence": "diverged at step {}",
        "replay": "the log ends at step {}",
    }
    end = ended[summary["ended_by"]].format(summary["steps"])
    print(f"{score}, parameters sha256 {summary['params_sha256'][:16]}, {result.folder}, {end}", flush=True)


def mpi_main():
    """main() as one rank of an MPI job."""
    from dsgd.mpi.backend import MPIBackend

    return main(sys.argv[1:], MPIBackend())


def entry():
    """MPI first: under a launcher it is imported before NumPy and before anything that can fail."""
    from dsgd.mpi.launch import guard, launched

    if launched()[0]:
        return guard(mpi_main)
    return run_command(main, "interrupted; --resume goes on from the last checkpoint, if there is one")


if __name__ == "__main__":
    sys.exit(entry())
