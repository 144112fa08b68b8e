"""Rank programs beside each other: each round starts every program once, so that noise meets all alike."""

import json
import statistics
import subprocess
import sys


class LeftOut(Exception):
    """Why a program gave no numbers."""


def launch(program, cases, ranks=None):
    """[seconds a step] of a program of worker.py, case by case.

    Args:
        program: its name.  cases: [(widths, global batch)].  ranks: under mpirun; None for one process without.
    """
    return told("benchmarks.worker", program, json.dumps(cases), ranks=ranks)


def told(module, *arguments, ranks=None):
    """What `python -m module` prints in its last line, from JSON.   ranks: as for launch

    Raises:
        LeftOut: there is no mpirun, or it fails.
    """
    words = [*(["mpirun", "-n", str(ranks)] if ranks else []), sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        raise LeftOut("there is no mpirun; pip install 'dsgd[mpich]'") from None
    if done.returncode:
        raise LeftOut(reason(done))
    return json.loads(done.stdout.splitlines()[-1])


def reason(done):
    """Why a process gave no numbers: its own line about it, such as a package that is missing; all that a crash says is shown."""
    line = next((line for line in done.stderr.splitlines() if line.startswith("dsgd: ")), None)
    if line is None:
        sys.stderr.write(done.stderr)
    return line.removeprefix("dsgd: ") if line else f"it failed with code {done.returncode}"


def alternated(programs, rounds):
    """({name: [median seconds a step, case by case]}, {name: why it was left out}).

    programs: {name: (program, cases, ranks)}; one that fails is left out from then on.
    """
    times, missing = {name: [] for name in programs}, {}
    for _ in range(rounds):
        for name, arguments in programs.items():
            if name not in missing:
                try:
                    times[name].append(launch(*arguments))
                except LeftOut as error:
                    missing[name] = str(error)
    medians = {name: list(map(statistics.median, zip(*found))) for name, found in times.items() if name not in missing}
    return medians, missing
