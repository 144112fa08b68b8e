"""What noise cannot change: memory that a step allocates, and instructions of a step."""

import json
import shutil
import subprocess
import sys
import tracemalloc

from benchmarks.launching import LeftOut
from benchmarks.measure import NETWORKS, Figure
from benchmarks.step import dsgd_steps
from benchmarks.worker import REPEATS, WARM, steps_of

CHUNK = 3  # steps
PROGRAMS = ("sgd", "NumPy", "eager PyTorch")


def allocated(steps):
    """Bytes that are allocated at once, at most, beyond what stays, while steps() runs for the second time."""
    steps()
    tracemalloc.start()
    try:
        steps()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        steps()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def instructions(program, case):
    """Instructions of one step in user space: a process that times a case twice beside one that times it once."""
    made = WARM + REPEATS * steps_of(*case)
    return (counted(program, [case, case]) - counted(program, [case])) / made


def counted(program, cases):
    """Instructions of a whole process of worker.py."""
    if not shutil.which("perf"):
        raise LeftOut("there is no perf")
    perf = ["perf", "stat", "--field-separator", ",", "--event", "instructions:u"]
    words = [*perf, sys.executable, "-m", "benchmarks.worker", program, json.dumps(cases)]
    done = subprocess.run(words, capture_output=True, text=True)
    found = next((line.split(",")[0] for line in done.stderr.splitlines() if "instructions" in line), "")
    if not found.isdigit():
        raise LeftOut("perf cannot count instructions here")
    return int(found)


def main():
    for network, (widths, batch) in NETWORKS.items():
        yield Figure("allocated within a hot step", network, allocated(dsgd_steps(widths, batch, CHUNK)) / 1e3, "kB")
    for program in PROGRAMS:
        what = f"instructions of a step of {program}"
        try:
            for network, case in NETWORKS.items():
                yield Figure(what, network, instructions(program, case) / 1e6, "million")
        except LeftOut as why:
            yield Figure(what, "", None, "million", note=str(why))
