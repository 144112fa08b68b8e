"""Asynchronous runs of real ranks, disturbed, each replayed in the simulator and forced back onto real ranks.

    python -m benchmarks replay           20 runs
    python -m benchmarks.replay 5         5 of them

Four ranks by mpirun: a server and three workers, the last of which is slowed 3 times; processes that come and go at
random moments (seeded) take their part of the cores.  The bars: every replay ends in the bits of its run; three logs of
four differ from all others; in each run some push is 3 updates stale or more, and the slow worker makes less than half as
many pushes as a fast one.
"""

import json
import random
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

TRAIN = [sys.executable, "-m", "dsgd.train", "--no-plot", "--quiet"]
RUN = ["--data", "digits", "--hidden", "1024,512", "--batch-size", "1400", "--steps", "30", "--lr", "0.02"]
RUN += ["--algorithm", "parameter-server:consistency=asp", "--faults", "slow:rank=3,x=3"]
BUSY = "import time\nend = time.perf_counter() + {}\nwhile time.perf_counter() < end: pass"
STALE, DIFFERENT = 3, 0.75


@contextmanager
def noise(seed):
    """Processes that work for nothing come and go meanwhile, one or two at a time."""
    rng, over = random.Random(seed), threading.Event()

    def disturb():
        while not over.wait(rng.uniform(0, 0.2)):
            words = [sys.executable, "-Sc", BUSY.format(rng.uniform(0.02, 0.3))]
            for process in [subprocess.Popen(words) for _ in range(rng.choice((1, 2)))]:
                process.wait()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def train(folder, *flags, ranks=None):
    """The summary of a run by the command line, under mpirun if there are `ranks`."""
    launcher = ["mpirun", "-n", str(ranks)] if ranks else []
    done = subprocess.run([*launcher, *TRAIN, *flags, "--output", folder], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"  {' '.join(flags)}: {done.stderr}")
    return json.loads((folder / "summary.json").read_text())


def main(runs=20):
    logs, met, same = set(), 0, {"simulator": 0, "mpirun": 0}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            run = Path(folder) / str(number)
            with noise(number):
                summary = train(run, *RUN, ranks=4)
            again = {
                "simulator": train(run / "simulator", "--replay", run),
                "mpirun": train(run / "mpirun", "--replay", run, ranks=4),
            }
            equal = [world for world in again if again[world]["params_sha256"] == summary["params_sha256"]]
            for world in equal:
                same[world] += 1
            stale, (one, two, slow) = summary["max_staleness"], summary["pushes_per_worker"]
            logs.add((run / "order.jsonl").read_bytes())
            met += stale >= STALE and 2 * slow < min(one, two)
            print(
                f"  run {number}: sha256 {summary['params_sha256'][:16]}, pushes {one} {two} and {slow} of the slow worker, "
                f"staleness {summary['mean_staleness']:.1f}, at most {stale}; the same in {' and '.join(equal) or 'neither'}",
                flush=True,
            )
    print(f"  {len(logs)} different logs of {runs} (bar {DIFFERENT * runs:g})")
    print(f"  {met} of {runs} with a staleness of {STALE} and a slow worker of less than half the pushes (bar {runs})")
    print(
        f"  replayed to the same bits in the simulator: {same['simulator']} of {runs}, under mpirun: {same['mpirun']}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
