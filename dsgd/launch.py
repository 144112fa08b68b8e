"""python -m dsgd.launch: trains under mpirun, and starts again from the last checkpoint when the job lost a rank.

    python -m dsgd.launch -n 4 --max-restarts 3 -- --epochs 5 --algorithm parameter-server

Neither NumPy nor MPI is imported here: who starts others again should not fail as they do.  A SIGKILL to this process
leaves the job as it is: it goes on to its end, and nobody starts it again.
"""

import argparse
import fcntl
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
import zipfile
from contextlib import suppress
from pathlib import Path

from dsgd.command import run_command, say
from dsgd.errors import PeerError, UsageError
from dsgd.mpi.launch import two_runtimes
from dsgd.mpi.segments import sweep
from dsgd.records import CHECKPOINTS, holds_one_already, holds_run, numbered

PASSED_ON = {  # and what the job then ends with
    signal.SIGINT: 130,
    signal.SIGTERM: 143,
    signal.SIGUSR1: 143,
    signal.SIGHUP: 129,
    signal.SIGQUIT: 131,
}
AS_SIGTERM = (signal.SIGHUP, signal.SIGQUIT)  # mpirun dies of the one, Open MPI's does not hear the other
DEADLY = (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV)
FINAL = {  # exit codes after which the same command would end in the same way, or somebody wanted it to end
    2: "a flag or a combination that cannot be meant",
    65: "data or a checkpoint are damaged",
    70: "a failure inside, which would come again",
    74: "the disk",
    129: "its terminal was closed",
    130: "it was interrupted",
    131: "it was asked to quit",
    143: "it was asked to stop",
}
LONGEST = 60.0  # s between two attempts, unless --backoff says more
PATIENCE = 15.0  # s that the processes of a job may take to end after its launcher has


def lost_a_rank(code):
    """Whether a job with this exit code lost a rank.

    75 is ours.  A signal s that kills a rank becomes s under MPICH, or SIGTERM, which the others then get; 128 + s under
    Open MPI; 255 under Intel MPI.  −s has killed the launcher itself.
    """
    return code in (PeerError.code, 255, signal.SIGTERM) or any(code in (s, 128 + s, -s) for s in DEADLY)


def main(argv):
    """Run the job to its end; returns the exit code.

    Raises:
        UsageError: no mpirun, no mpi4py, or a flag that cannot be meant.  PeerError: the last restart lost a rank too.
    """
    options, flags = read(argv)
    launcher = options.mpirun or ["mpirun"]
    missing = "mpi4py here" if shutil.which(launcher[0]) else f"{launcher[0]} on the PATH"
    if not shutil.which(launcher[0]) or not importlib.util.find_spec("mpi4py"):
        raise UsageError(
            f"no {missing}; pip install 'dsgd[mpich]', or train without it: python -m dsgd.train --simulate {options.n}"
        )
    if two_runtimes():
        say(two_runtimes())
    resume, folder, flags = take_out(flags)
    if holds_run(folder) and not resume:  # a restart would go on with it
        raise UsageError(holds_one_already(folder))
    command = [*launcher, "-n", str(options.n), sys.executable, "-m", "dsgd.train", *flags, "--output", str(folder)]
    try:
        return supervise(command, folder, resume, options, Stop())
    finally:
        with suppress(OSError):  # of a folder that is not empty
            folder.rmdir()


# --- the command line


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message}; see --help")


def read(argv):
    """(options of the launcher, flags of dsgd.train) of a command line."""
    parser = Parser(
        prog="python -m dsgd.launch",
        usage="%(prog)s -n RANKS [--max-restarts 3] [--backoff 1] [--mpirun COMMAND] -- FLAGS OF dsgd.train",
        description="Train under mpirun, and start again from the last checkpoint when the job lost a rank.",
        allow_abbrev=False,
    )
    parser.add_argument("-n", type=int, required=True, metavar="RANKS", help="how many ranks mpirun starts")
    parser.add_argument("--max-restarts", type=int, default=3, metavar="N", help="then give up (default: %(default)s)")
    parser.add_argument(
        "--backoff",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="before the first restart, then twice as long each, but at most a minute (default: %(default)g)",
    )
    parser.add_argument(
        "--mpirun", type=shlex.split, default="mpirun", metavar="COMMAND", help='such as "mpirun -f HOSTS" or "srun"'
    )
    end = argv.index("--") if "--" in argv else len(argv)
    options = parser.parse_args(argv[:end])
    if options.n < 1 or options.max_restarts < 0 or not 0 <= options.backoff < 1e6:
        raise UsageError("-n is at least 1, --max-restarts and --backoff are at least 0")
    return options, argv[end + 1 :]


def take_out(flags):
    """(whether to resume, the folder of the run, the other flags) of flags of dsgd.train."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output", default="")
    parser.add_argument("--config")
    parser.add_argument("--resume", action="store_true")
    known, others = parser.parse_known_args(flags)
    output = known.output
    if known.config:
        others += ["--config", known.config]
        with suppress(OSError, ValueError):  # dsgd.train says what is wrong with the file
            output = output or tomllib.loads(Path(known.config).read_text(encoding="utf-8")).get("output", "")
    if known.resume and not output:
        raise UsageError("--resume needs the run's folder: --resume --output FOLDER")
    return known.resume, numbered(output or "runs/*-launch"), others


# --- the attempts


class Stop:
    """What the signals of PASSED_ON do to the launcher: mpirun gets them, and the job is not started again."""

    def __init__(self):
        self.number, self._pending, self._process, self._asked = 0, [], None, threading.Event()
        for number in PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self._handle)

    def _handle(self, number, frame):
        self.number = self.number or signal.Signals(number)
        self._pending.append(number)
        self._asked.set()
        self._pass_on()

    def _pass_on(self):
        while self._process and self._pending:
            number = self._pending.pop(0)
            self._process.send_signal(signal.SIGTERM if number in AS_SIGTERM else number)

    def run(self, command, environment):
        """The exit code of the command.  Its process group is its own: a terminal's Ctrl-C reaches it once, from here."""
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0)
        self._pass_on()
        code = self._process.wait()
        self._process = None  # a signal from now on is for the next one, if there is one
        return code

    def wait(self, seconds):
        """Whether a signal came within this time."""
        return self._asked.wait(seconds)


def supervise(command, folder, resume, options, stop):
    """Run the command until it ends otherwise than by losing a rank, or the restarts are used up; returns its exit code."""
    history, pause = [], options.backoff
    for attempt in range(options.max_restarts + 1):
        sweep()
        began, moment = time.monotonic(), time.strftime("%H:%M:%S")
        code = stop.run(command + ["--resume"] * resume, os.environ | {"DSGD_RESTARTS": str(attempt)})
        if lost_a_rank(code) or stop.number:
            wait_until_free(folder)
        sweep()
        step = saved_step(folder)
        history.append(f"{moment} exit code {code} after {time.monotonic() - began:.1f} s, {saved(step)}")
        if code and stop.number:
            say(f"not started again: {stop.number.name} was passed on; {saved(step)}")
            return code if code in FINAL.keys() - PASSED_ON.values() else PASSED_ON[stop.number]
        if not code or not lost_a_rank(code):
            if code:
                say(f"not started again: exit code {code} means {FINAL.get(code, 'something else than a lost rank')}")
            return code if code >= 0 else 128 - code
        if attempt < options.max_restarts:
            say(
                f"a rank was lost (exit code {code}): restart {attempt + 1} of {options.max_restarts} in {pause:g} s; {saved(step)}"
            )
            if stop.wait(pause):
                say(f"not started again: {stop.number.name}")
                return PASSED_ON[stop.number]
            pause = max(pause, min(2 * pause, LONGEST))
            resume = holds_run(folder)
    if step is not None:
        history.append(f"the same command with --resume --output {folder} goes on")
    raise PeerError("\n  ".join([f"gave up after {attempt} restarts; each attempt lost a rank:", *history]))


def saved_step(folder):
    """The step of the newest checkpoint that can be read; None without one."""
    for name in CHECKPOINTS:
        path = folder / name
        # Damaged bytes make zipfile, zlib and JSON raise almost anything.
        with suppress(Exception), zipfile.ZipFile(path) as archive:
            data = archive.open("manifest.npy").read(path.stat().st_size)  # no more than the file is long
            # A .npy file: 8 bytes, the length of its header in 2, the header, the array, here the bytes of a JSON text.
            return int(json.loads(data[10 + int.from_bytes(data[8:10], "little") :])["step"])
    return None


def saved(step):
    return "no checkpoint yet" if step is None else f"the last checkpoint is of step {step}"


def wait_until_free(folder):
    """Wait until no process of the job that ended writes to the folder: mpirun may be gone before its ranks are."""
    end = time.monotonic() + PATIENCE
    with suppress(FileNotFoundError), open(folder / ".lock") as lock:
        while time.monotonic() < end:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(run_command(main))
