"""Shared memory that killed ranks leave is removed, and never that of a living job."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from dsgd.mpi import launch, segments
from launching import TRAIN, mpirun, start

TINY = ["--data", "teacher:samples=120,features=6,hidden=4,classes=3", "--hidden", "8", "--no-plot", "--quiet"]
NAME = "mpich_shm_1a2b3c_0"

# Makes a file of 8192 bytes, then does what it is told: open it, map it, close it again.
HOLDER = """
import mmap, sys
path = sys.argv[1]
open(path, "wb").write(bytes(range(256)) * 32)
for line in sys.stdin:
    if line == "open\\n": file = open(path, "r+b")
    if line == "map\\n": memory = mmap.mmap(file.fileno(), 0)  # has a duplicate of the descriptor, closed below
    if line == "close\\n":
        file.close()
        import os
        for fd in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{fd}") == path: os.close(int(fd))
            except OSError: pass
    print("done", flush=True)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of segments that nobody else uses."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(segments, "FOLDER", tmp_path / "shm")
    return tmp_path / "shm"


@contextlib.contextmanager
def holder(path, *orders):
    """A process that made the file and carried out these orders; yields (its pid, a function that gives it another)."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def order(word):
        process.stdin.write(word + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"

    with process:
        for word in orders or ("made",):
            order(word)
        try:
            yield process.pid, order
        finally:
            process.kill()


@pytest.mark.parametrize("orders", [["open"], ["open", "map"], ["open", "map", "close"]])
def test_what_a_living_process_holds_stays(orders, folder, capsys):
    """Open, or mapped, or both; once the process is dead it goes, with one line."""
    with holder(folder / NAME, *orders):
        segments.sweep()
        assert (folder / NAME).exists() and not capsys.readouterr().err
    segments.sweep()
    assert not (folder / NAME).exists()
    assert (
        capsys.readouterr().err == f"dsgd: removed 1 shared-memory segment (0.0 MB) that dead jobs left in {folder}\n"
    )


def test_the_line_counts_them(folder, capsys):
    for number in range(3):
        (folder / f"sm_segment.host.0.29880001.{number}").write_bytes(b"x" * 400_000)
    segments.sweep()
    assert "removed 3 shared-memory segments (1.2 MB)" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_segment_that_is_mapped_while_we_look_stays(folder, monkeypatch):
    """A library opens a segment, maps it and closes it; whoever looked for mappings first could miss both."""
    with holder(folder / NAME, "open") as (pid, order):
        listdir = os.listdir

        def look(path):
            if str(path) == f"/proc/{pid}/fd":
                order("map")
                order("close")
            return listdir(path)

        monkeypatch.setattr(segments.os, "listdir", look)
        assert NAME in segments.segments() and segments.dead() == {}


def test_a_segment_that_is_made_while_we_look_stays(folder, monkeypatch):
    """Those of a job that starts after the list was made are not in it."""
    (folder / NAME).write_bytes(b"x")
    holdings = segments.holdings

    def look(pid):
        (folder / "mpich_shm_new_0").write_bytes(b"x")
        return holdings(pid)

    monkeypatch.setattr(segments, "holdings", look)
    assert list(segments.dead()) == [NAME]


def test_other_names_and_other_things_stay(folder):
    (folder / "somebody-elses").write_bytes(b"x")
    (folder / "psm2_shm.folder").mkdir()
    (folder / "vader_segment.link").symlink_to(folder / "somebody-elses")
    kept = {"somebody-elses", "psm2_shm.folder", "vader_segment.link"}
    if os.geteuid() == 0:
        (folder / NAME).write_bytes(b"x")
        os.chown(folder / NAME, 12345, 12345)  # another user's
        kept.add(NAME)
    segments.sweep()
    assert set(os.listdir(folder)) == kept


def test_nothing_is_touched_when_a_process_cannot_be_looked_into(folder, monkeypatch, capsys):
    (folder / NAME).write_bytes(b"x")
    with holder(folder / "else") as (pid, _):
        readlink = os.readlink

        def refuse(path):
            if str(path).startswith(f"/proc/{pid}/"):
                raise PermissionError(path)
            return readlink(path)

        with monkeypatch.context() as patched:
            patched.setattr(segments.os, "readlink", refuse)
            segments.sweep()
        assert (folder / NAME).exists()
    segments.sweep()
    assert not (folder / NAME).exists()


def test_nothing_is_touched_where_processes_are_hidden(folder, monkeypatch):
    """A container with processes of its own and the host's shared memory."""
    (folder / NAME).write_bytes(b"x")
    inside = os.readlink("/proc/self/ns/ipc")
    monkeypatch.setattr(segments, "HOST", {"pid": "pid:[1]", "ipc": inside})
    segments.sweep()
    assert (folder / NAME).exists()


def test_one_sweep_at_a_time(folder):
    """Another would free a name between our look and our removal, and a new job could have taken it."""
    (folder / NAME).write_bytes(b"x")
    other = os.open(folder, os.O_RDONLY)
    segments.fcntl.flock(other, segments.fcntl.LOCK_EX)
    segments.sweep()
    assert (folder / NAME).exists()
    os.close(other)
    segments.sweep()
    assert not (folder / NAME).exists()


def test_where_there_is_no_shared_memory_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "FOLDER", tmp_path / "none")
    segments.sweep()


def test_nothing_to_do_costs_nothing(folder):
    """Under 5 ms, the best of five."""
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        segments.sweep()
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.005


# --- real jobs


def held(job):
    """The segments that the ranks of a job hold, by name."""
    texts = [segments.holdings(str(process.pid)) for process in job.ranks()]
    return {name for name in segments.segments() if any(name in text for text in texts)}


def killed_job(folder):
    """The names of the segments of a job that has lost a rank."""
    job = start(3, *TRAIN, *TINY, "--steps", "100000", "--checkpoint-every", "1", "--output", folder / "killed")
    job.wait_for((folder / "killed" / "checkpoint.npz").exists)
    names = held(job)
    job.ranks()[1].send_signal(signal.SIGKILL)
    assert job.wait(timeout=5).code != 0
    return names


@pytest.mark.fault("P1")
def test_the_next_run_removes_what_a_killed_rank_left(tmp_path):
    names = killed_job(tmp_path)
    assert names
    ended = mpirun(2, *TRAIN, *TINY, "--steps", "2", "--output", tmp_path / "next")
    assert ended.code == 0, ended
    assert not names & set(os.listdir(segments.FOLDER))


def test_a_job_that_starts_while_we_sweep_is_not_disturbed(tmp_path):
    """Over and over, through the moments in which its segments are made, found by the other ranks, and removed."""
    over, sweeps = threading.Event(), []

    def sweep():
        while not over.is_set():
            segments.sweep()
            sweeps.append(len(segments.segments()))

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        for number in range(3):
            ended = mpirun(3, *TRAIN, *TINY, "--steps", "50", "--output", tmp_path / str(number), timeout=30)
            assert ended.code == 0, ended
    finally:
        over.set()
        thread.join()
    assert max(sweeps) > 0  # there were some to be seen


@pytest.mark.parametrize("free, told", [(launch.ROOM - 1, "only 32.0 MiB are free"), (launch.ROOM, "")])
def test_little_shared_memory_is_told_of_before_mpi_starts(free, told, monkeypatch, capsys):
    monkeypatch.setattr(launch, "free_bytes", lambda: free)
    launch.warn_of_little_memory()
    err = capsys.readouterr().err
    assert told in err and ("--shm-size" in err) == bool(told)


@pytest.mark.skipif(not os.environ.get("DSGD_OPENMPI"), reason="DSGD_OPENMPI names no environment with Open MPI")
def test_segments_of_open_mpi_are_known(tmp_path):
    from launching import Job

    place = os.environ["DSGD_OPENMPI"]
    run = [f"{place}/bin/mpirun", "-n", 2, f"{place}/bin/python", *TRAIN, *TINY]
    job = Job(*run, "--steps", "100000", "--checkpoint-every", "1", "--output", tmp_path / "killed")
    job.wait_for((tmp_path / "killed" / "checkpoint.npz").exists)
    names = held(job)
    assert names and shutil.which(f"{place}/bin/mpirun")
    segments.sweep()
    assert names <= set(os.listdir(segments.FOLDER))
    job.kill()
    job.process.communicate()
    job.process.wait()
    assert Job(*run, "--steps", "2", "--output", tmp_path / "next").wait().code == 0
    assert not names & set(os.listdir(segments.FOLDER))
