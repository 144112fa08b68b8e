"""Starts real processes for tests: bounded in time, and none of them may be left when the command has ended."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).parent.parent
TRAIN = ["-m", "dsgd.train"]
# Tests run on few cores, in containers: Open MPI wants to be told that more ranks than cores, and root, are meant.
OPEN_MPI = {
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


class Ended(NamedTuple):
    """How a command ended.  lines: of stderr, without what the launcher says for itself, and what earlier jobs left."""

    code: int
    out: str
    err: str

    @property
    def lines(self):
        said = [line for line in self.err.splitlines() if line.startswith(("dsgd:", "[rank "))]
        return [line for line in said if "that dead jobs left in" not in line]


class Job:
    """A command under way, in a session of its own.

    A launcher puts its ranks into sessions of their own too, so the processes of a job are known by a mark in their
    environment, which they all inherit.
    """

    def __init__(self, *command, cwd=None, env=None):
        self.mark = uuid.uuid4().hex
        env = os.environ | OPEN_MPI | {"PYTHONPATH": str(ROOT), "DSGD_TEST_JOB": self.mark} | (env or {})
        command = [str(word) for word in command]
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def processes(self):
        """The living processes of this job, the launcher included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DSGD_TEST_JOB") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                pass  # another user's, or gone by now
        return found

    def ranks(self):
        """The Python processes among them, in the order in which they were started: that of the ranks."""
        return sorted((p for p in self.processes() if "python" in p.name()), key=lambda p: p.pid)

    def wait_for(self, condition, timeout=60):
        """Wait until condition() holds."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end or self.process.poll() is not None:
                self.kill()
                out, err = self.process.communicate()
                raise AssertionError(
                    f"ended with {self.process.returncode}, or not ready after {timeout} s:\n{out}\n{err}"
                )
            time.sleep(0.005)

    def wait(self, timeout=60, grace=5):
        """Ended, once it has; an error if it takes longer, or leaves a process behind.

        grace: a launcher may return a moment (s) before the ranks that it has killed are gone.
        """
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"still running after {timeout} s:\n{out}\n{err}") from None
        end = time.monotonic() + grace
        while left := self.processes():
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"left behind: {left}\n{out}\n{err}")
            time.sleep(0.01)
        return Ended(self.process.returncode, out, err)

    def kill(self):
        for process in self.processes():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.Error:
                pass


def python(*args, timeout=60, **options):
    """Run Python on its own, to its end."""
    return Job(sys.executable, *args, **options).wait(timeout)


def mpirun(size, *args, timeout=60, **options):
    """Run Python as `size` MPI ranks, to their end."""
    return start(size, *args, **options).wait(timeout)


def start(size, *args, **options):
    """Start Python as `size` MPI ranks; returns the Job."""
    return Job("mpirun", "-n", size, sys.executable, *args, **options)


def each(*commands, timeout=60, **options):
    """Run one rank with each of these Python argument lists, as one MPI job (MPMD), to their end."""
    words = ["mpirun"]
    for command in commands:
        words += ([":"] if len(words) > 1 else []) + ["-n", 1, sys.executable, *command]
    return Job(*words, **options).wait(timeout)


def table(size, rows, timeout=120):
    """[outcome of each row] of a table of configurations, from one mpirun (see table.py)."""
    ended = mpirun(size, ROOT / "tests" / "table.py", json.dumps(rows), timeout=timeout)
    assert ended.code == 0, ended
    return json.loads(ended.out)


def script(folder, body):
    """A Python file that runs `body`, then the command line, like `python -m dsgd.train`; returns its path.

    Under mpirun the body runs once MPI is up, as one guarded rank.
    """
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    text = f"""import sys
from dsgd.command import run_command
from dsgd.mpi.launch import guard, launched

def main():
{lines}
    from dsgd.train import main, mpi_main
    return mpi_main() if launched()[0] else main(sys.argv[1:])

sys.exit(guard(main) if launched()[0] else run_command(lambda argv: main()))
"""
    path = Path(folder) / "script.py"
    path.write_text(text)
    return path


# Every gradient takes 5 ms more: long enough to be in the middle of a run when a signal is sent.
SLOW = """
import time
from dsgd.local import Local
gradient = Local.gradient
def slow(*args, **options):
    time.sleep(0.005)
    return gradient(*args, **options)
Local.gradient = slow
"""
