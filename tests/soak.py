"""The soak: processes killed at random moments, many times; what is lost or left behind is counted.

    python tests/soak.py                        # every part, as often as PARTS says (make soak)
    python tests/soak.py saves=20 ranks=5       # some of them
    python tests/soak.py chaos=100 fuzz=5000    # seeds, and inputs for each reader
    python tests/soak.py ranks-openmpi=10       # DSGD_OPENMPI names an environment with Open MPI

saves: a run that saves after every step is killed (SIGKILL) and resumed; it must reach the unbroken bits.
ranks: one rank of an MPI job is killed; no process may be left after 5 s, no shared memory after one more run.
chaos, fuzz: python -m dsgd.chaos and python -m tests.fuzz.
processes: the whole table of test_worlds, its ranks simulated on p processes; all that one process finds must be there.
The exit code is 0 if nothing was lost and nothing left.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import psutil

import dsgd
from dsgd.mpi import segments
from launching import ROOT, TRAIN, Job

PARTS = {"saves": 80, "saves-mpirun": 20, "ranks": 50, "ranks-openmpi": 10, "chaos": 1000, "fuzz": 100_000}
PARTS["processes"] = 12  # tables: 4, 5 and 7 ranks on 1 to 4 processes
WHAT = {
    "saves": "kills lost a run",
    "ranks": "kills left something",
    "chaos": "seeds broke a promise",
    "fuzz": "inputs for each reader were not survived",
    "processes": "tables were not those of one process",
}
SYNCHRONOUS = (
    ("sgd", 1),
    ("data-parallel", 3),
    ("dsgd", 3),
    ("parameter-server:servers=2", 4),
    ("grouped", 5),
    ("model-parallel", 2),
)
GRACE = 5.0  # s in which the processes of a job must be gone
TASK = dict(data="teacher:samples=300,features=12,hidden=8,classes=4", hidden="16,8", batch_size=30, optimizer="adam")


def row(number, steps, mpi=False):
    """(fields of Config, number of ranks) of the number-th run: the algorithms in turn."""
    able = [(algorithm, size) for algorithm, size in SYNCHRONOUS if size in (2, 3)] if mpi else SYNCHRONOUS
    algorithm, size = able[number % len(able)]
    return TASK | dict(algorithm=algorithm, steps=steps, checkpoint_every=1, quiet=True, no_plot=True), size


def flags(fields):
    words = {f"--{key.replace('_', '-')}": value for key, value in fields.items()}
    return [str(word) for key, value in words.items() for word in ([key] if value is True else [key, value])]


def reached(folder):
    """The hash of the parameters that a run ended with; None if it has not ended."""
    path = folder / "summary.json"
    return json.loads(path.read_text())["params_sha256"] if path.exists() else None


def saved(folder):
    return any(folder.glob("checkpoint*.npz"))


# --- a run that saves every step


def forked(**fields):
    """The pid of a child that runs this: with everything imported, so that a kill meets the run and not its start."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.alarm(60)  # no child lives longer
        dsgd.run(**fields)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def killed(moment, **fields):
    """Whether a run was killed this many seconds after its start, before its end."""
    child = forked(**fields)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def saves(count, chance, folder):
    """Simulated, and on one worker."""
    lost, expected, seconds = [], {}, {}
    number = tries = writing = 0
    while number < count and tries < 3 * count:
        tries += 1
        fields, size = row(number, steps=40)
        fields["simulate"] = size if size > 1 else 0
        algorithm, run = fields["algorithm"], folder / str(tries)
        if algorithm not in expected:
            expected[algorithm] = dsgd.run(**fields).summary["params_sha256"]
            began = time.monotonic()
            os.waitpid(forked(**fields, output=str(folder / algorithm)), 0)
            seconds[algorithm] = time.monotonic() - began
        if not killed(chance.uniform(0, seconds[algorithm]), **fields, output=str(run)):
            continue
        number += 1
        writing += any(run.glob(".tmp-*"))
        code = os.waitpid(forked(**fields, output=str(run), resume=saved(run)), 0)[1]
        if code or reached(run) != expected[algorithm]:
            lost.append(f"{algorithm} in {run}")
    print(f"  {writing} kills came while a file was being written")
    return number, lost


def saves_mpirun(count, chance, folder):
    """All processes of an MPI job are killed at once, as when the machine fails."""
    lost, number, tries = [], 0, 0
    while number < count and tries < 3 * count:
        tries += 1
        fields, size = row(tries, steps=60, mpi=True)
        run = folder / str(tries)
        words = ["mpirun", "-n", size, sys.executable, *TRAIN, *flags(fields), "--output", run]
        job = Job(*words)
        job.wait_for((run / ".lock").exists)
        time.sleep(chance.uniform(0, 0.4))
        job.kill()
        job.process.communicate()
        if reached(run):
            continue
        number += 1
        ended = Job(*words, *["--resume"] * saved(run)).wait()
        expected = dsgd.run(**fields, simulate=size).summary["params_sha256"]
        if ended.code or reached(run) != expected:
            lost.append(f"{fields['algorithm']} in {run}: {ended}")
    return number, lost


# --- one rank of a job


def ranks(count, chance, folder, place=""):
    """place: an environment with another MPI library than the first on the PATH."""
    mpirun, python = (f"{place}/bin/mpirun", f"{place}/bin/python") if place else ("mpirun", sys.executable)
    bad, seen, slowest = [], set(), 0.0
    number = tries = 0
    while number < count and tries < 3 * count:
        tries += 1
        fields, size = row(number, steps=300, mpi=True)
        words = [mpirun, "-n", size, python, *TRAIN, *flags(fields), "--output", folder / str(tries)]
        job = Job(*words)
        job.wait_for(lambda: len(job.ranks()) == size)
        victim = chance.choice(job.ranks())
        time.sleep(chance.uniform(0, 2.5 if place else 1.0))
        began = time.monotonic()
        try:
            victim.kill()
            ended = job.wait(timeout=GRACE, grace=GRACE)
        except psutil.NoSuchProcess:
            job.wait()
            continue
        except AssertionError as error:
            bad.append(f"{fields['algorithm']} in {folder / str(tries)}: {error}")
            continue
        if ended.code == 0:  # the rank had done its work
            continue
        number += 1
        seconds = time.monotonic() - began
        slowest = max(slowest, seconds)
        if seconds > GRACE:
            bad.append(f"{fields['algorithm']}: gone after {seconds:.1f} s")
        seen |= set(segments.dead())
    ended = Job(mpirun, "-n", 2, python, *TRAIN, *flags(row(0, 2, mpi=True)[0]), "--output", folder / "last").wait()
    left = seen & set(os.listdir(segments.FOLDER))
    if ended.code or left:
        bad.append(f"after one more run: exit code {ended.code}, {len(left)} segments left")
    print(
        f"  the slowest job was gone after {slowest:.2f} s; {len(seen)} segments were left by the dead, {len(left)} at the end"
    )
    return number, bad


def ranks_openmpi(count, chance, folder):
    return ranks(count, chance, folder, os.environ["DSGD_OPENMPI"])


# --- without kills


def said(count, complaint, *words):
    """(count, its lines with the complaint) of a module that ends with 0 if it has none to make."""
    ended = subprocess.run([sys.executable, "-m", *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    found = [line for line in ended.stdout.splitlines() if complaint in line]
    return count, found or [str(ended)] * (ended.returncode != 0)


def chaos(count, chance, folder):
    return said(count, " failed: ", "dsgd.chaos", "--seeds", f"0:{count}")


def fuzz(count, chance, folder):
    return said(count, ": input ", "tests.fuzz", "--inputs", count)


def processes(count, chance, folder):
    """Virtual seconds belong to what is compared."""
    import test_worlds
    from launching import table
    from table import run_row

    X, curve = np.random.default_rng(0).standard_normal((100, 3)), folder / "curve.npz"
    np.savez(curve, X=X, y=np.sin(X[:, 0]) + X[:, 1] * X[:, 2])
    sides, bad = list(itertools.product((4, 5, 7), (1, 2, 3, 4)))[:count], []
    for size, some in itertools.groupby(sides, key=lambda side: side[0]):
        rows = [row | dict(simulate=size, timed=True) for row in test_worlds.rows(size, f"{curve}:test=0.3")]
        alone = [run_row(row) | {"pids": None} for row in rows]
        for _, p in some:
            shared = [outcome | {"pids": None} for outcome in table(p, rows)]
            odd = [row["algorithm"] for row, one, many in zip(rows, alone, shared) if one != many]
            bad += [f"{size} ranks on {p}: {', '.join(odd)}"] * bool(odd)
    return len(sides), bad


RUN = {
    "saves": saves,
    "saves-mpirun": saves_mpirun,
    "ranks": ranks,
    "ranks-openmpi": ranks_openmpi,
    "chaos": chaos,
    "fuzz": fuzz,
    "processes": processes,
}


def main(words):
    """Run these parts, NAME or NAME=COUNT, or all; returns the exit code."""
    asked = dict(word.partition("=")[::2] for word in words) or dict.fromkeys(PARTS, "")
    seed, failed, without = int(asked.pop("seed", 0)), False, ""
    for name, count in (asked or dict.fromkeys(PARTS, "")).items():
        if name not in PARTS:
            sys.exit(f"unknown part {name!r}; choices: {', '.join(PARTS)}, seed")
        if name == "ranks-openmpi" and not os.environ.get("DSGD_OPENMPI"):
            without = ", without Open MPI: DSGD_OPENMPI names no environment with it"
            continue
        began, count, folder = time.monotonic(), int(count or PARTS[name]), Path(tempfile.mkdtemp(prefix="soak-"))
        kills, bad = RUN[name](count, random.Random(f"{seed}/{name}"), folder)
        what = WHAT[name.partition("-")[0]]
        print(f"{name}: {len(bad)} of {kills} {what} ({time.monotonic() - began:.0f} s, seed {seed})", flush=True)
        print("".join(f"  {text}\n" for text in bad), end="")
        if bad or kills < count:
            failed = True
            print(f"  FAILED; {count} were asked for, see {folder}")
        else:
            shutil.rmtree(folder)
    print(f"soak: {'FAILED' if failed else 'nothing was lost, nothing left'}{without}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
