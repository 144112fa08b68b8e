"""python -m tests.fuzz --inputs 100000 [--seed 0] [--cap 256] [TARGET ...]: counts, and the first input that is not survived."""

import argparse
import resource
import sys
import time
import traceback
from pathlib import Path

from .mutate import inputs
from .targets import LONGEST, TARGETS, check


def cap(megabytes):
    """Let this process have so much more memory than it has taken already."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = taken + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"(default: all) {', '.join(TARGETS)}")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cap", type=int, default=256, help="MB of memory beyond what Python and NumPy take")
    given = parser.parse_args()
    for target in given.targets or TARGETS:
        for data in TARGETS[target].valid:
            check(TARGETS[target], data)  # so that what is loaded once is not counted
    cap(given.cap)
    failed = 0
    for name in given.targets or TARGETS:
        began, taken = time.perf_counter(), 0
        for number, data in enumerate(inputs(TARGETS[name].valid, given.inputs, given.seed, LONGEST)):
            try:
                taken += check(TARGETS[name], data)
            except BaseException:
                failed += 1
                print(f"{name}: input {number} of seed {given.seed}: {data[:300]!r}", flush=True)
                traceback.print_exc(limit=-3)
                break
        else:
            seconds = time.perf_counter() - began
            print(
                f"{name}: {given.inputs} inputs, {taken} taken, {given.inputs - taken} refused, {seconds:.0f} s",
                flush=True,
            )
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
