"""What a check finds, and how a check asks another program."""

import os
import signal
import subprocess
from contextlib import suppress
from typing import NamedTuple

# What a launcher tells its processes: a child that inherits it takes itself for one of them.
FROM_LAUNCHER = ("PMI_", "PMIX_", "HYD", "MPI_LOCAL", "OMPI_COMM_WORLD_", "PALS_", "PRTE_LAUNCHED")
GRACE = 2.0  # s that a program has to end its own children, before it is killed


class Finding(NamedTuple):
    """level: ok, note or wrong.  about: what was looked at.  mend: the command, or what else to do, if it is wrong."""

    level: str
    about: str
    text: str
    mend: str = ""

    def __str__(self):
        return f"{self.level:5}  {self.about:12}  {self.text}"


def ok(about, text):
    return Finding("ok", about, text)


def note(about, text):
    return Finding("note", about, text)


def wrong(about, text, mend):
    return Finding("wrong", about, text, mend)


def examine(checks, *arguments):
    """The findings of all checks.  A check that fails is a finding: the others go on."""
    for check in checks:
        try:
            yield from check(*arguments)
        except Exception as error:
            name = check.__name__.replace("_", " ")
            yield wrong(name, f"the check itself failed: {type(error).__name__}: {one_line(error)}", "report this line")


def one_line(text):
    return " ".join(str(text).split())


class Answer(NamedTuple):
    """What a program said.  code: None if it did not end in time."""

    code: int | None
    out: str
    err: str

    @property
    def complaint(self):
        """The first line that says what is wrong, or that nothing was said."""
        lines = [line.strip(" -*") for line in (self.err + "\n" + self.out).splitlines()]
        said = next(filter(None, lines), "it said nothing")
        return f"no answer in time: {said}" if self.code is None else f"exit code {self.code}: {said}"


def ask(command, limit=5.0, **env):
    """The Answer of a program, which belongs to no MPI job; it and its children are ended after `limit` seconds.

    Raises:
        OSError: it cannot be started.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FROM_LAUNCHER)}
    process = subprocess.Popen(
        command,
        env=inherited | env,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
        return Answer(process.returncode, out, err)
    except subprocess.TimeoutExpired:
        process.terminate()  # a launcher ends its ranks, which are in sessions of their own
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return Answer(None, out, err)
    except BaseException:  # Ctrl-C
        process.terminate()
        raise
