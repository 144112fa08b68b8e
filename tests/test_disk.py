"""A disk that fails: the run goes on, says so once, and leaves whole files; a folder that cannot be used is refused first."""

import errno
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

import dsgd
from dsgd.checkpoint import KEEP, load
from dsgd.disk import Disk
from dsgd.errors import DiskError, UsageError
from dsgd.folder import claim
from dsgd.records import METRICS, read_records
from launching import TRAIN, Job, mpirun, python, script
from table import timeless

TINY = dict(data="teacher:samples=120,features=6,hidden=4,classes=3", hidden="8", log_every=1, no_plot=True)
RUN = TINY | dict(steps=20, checkpoint_every=5, optimizer="adam")
FLAGS = ["--data", TINY["data"], "--hidden", "8", "--log-every", "1", "--no-plot", "--quiet", "--steps", "20"]
FLAGS += ["--checkpoint-every", "5", "--optimizer", "adam", "--output", "run"]

# No file may grow beyond 1,000 bytes while the gradient of these steps is computed, and until that of a later one.
SMALL = """
import resource
from dsgd.local import Local
gradient = Local.gradient
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
def limited(self, x, t, scale):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if t + 1 in STEPS else hard, hard))
    return gradient(self, x, t, scale)
if "--resume" not in sys.argv:
    Local.gradient = limited
"""
WORLDS = {
    "simulator": lambda *words, **options: python(*words, "--simulate", 3, **options),
    "mpirun": lambda *words, **options: mpirun(3, *words, **options),
}


def unbroken(**changes):
    return dsgd.run(**RUN | changes, simulate=3)


def is_unbroken(folder):
    """The files in the folder are those of a run that nothing disturbed."""
    whole = unbroken()
    assert json.loads((folder / "summary.json").read_text())["params_sha256"] == whole.summary["params_sha256"]
    assert timeless(read_records(folder)) == timeless(whole.records)
    assert load(folder)[1]["step"] == 20
    return True


def stale(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".tmp")]


# --- K3: while it runs


@pytest.mark.fault(
    "K3",
    "the disk is full, a file would be too large, or a write fails",
    "one line with the file, the reason and the newest whole checkpoint; the run goes on and tries again; if it was in "
    "vain to the end, code 74 and the command that goes on; no whole file is lost",
)
@pytest.mark.parametrize("world", WORLDS)
def test_files_are_made_whole_once_there_is_room_again(world, tmp_path):
    body = SMALL.replace("STEPS", "range(8, 13)")
    ended = WORLDS[world](script(tmp_path, body), *FLAGS, cwd=tmp_path)
    assert ended.code == 0, ended
    metrics, checkpoint, again, saved = ended.lines
    assert metrics == (
        "dsgd: step 8: run/metrics.jsonl could not be written (File too large); the newest whole checkpoint is of step 5; "
        "the run goes on, and it is tried again"
    )
    assert "step 10: run/checkpoint.npz could not be written (File too large); the newest whole" in checkpoint
    assert again == "dsgd: step 13: run/metrics.jsonl is written again"
    assert saved == "dsgd: step 15: run/checkpoint.npz is written again"
    assert is_unbroken(tmp_path / "run") and not stale(tmp_path / "run")


@pytest.mark.fault("K3")
@pytest.mark.parametrize("world", WORLDS)
def test_a_last_checkpoint_that_cannot_be_written_is_code_74(world, tmp_path):
    body = SMALL.replace("STEPS", "range(18, 21)")
    ended = WORLDS[world](script(tmp_path, body), *FLAGS, cwd=tmp_path)
    assert ended.code == 74, ended
    first, last = ended.lines
    assert "step 18: run/metrics.jsonl could not be written" in first
    assert last == (
        "dsgd: run: metrics.jsonl, checkpoint.npz, summary.json could not be written (File too large); the newest whole "
        "checkpoint is of step 15; make room, then python -m dsgd.train --resume --output run"
    )
    assert "parameters sha256" in ended.out  # what was computed is told all the same
    assert not stale(tmp_path / "run") and len(read_records(tmp_path / "run")) == 17
    assert WORLDS[world](*TRAIN, "--resume", "--output", "run", "--quiet", cwd=tmp_path).code == 0
    assert is_unbroken(tmp_path / "run")


@contextmanager
def tmpfs(folder, options):
    """A file system of its own at the folder; only root can make one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.fault("K3")
@pytest.mark.parametrize("pages, step", [(10, 10), (4, None)])
def test_a_disk_that_is_full(pages, step, tmp_path):
    """Room for some checkpoints, or for none; with more room, the run goes on as it was told to, or starts anew."""
    with tmpfs(tmp_path / "disk", f"size={pages * os.sysconf('SC_PAGE_SIZE')}") as disk:
        ended = python(*TRAIN, *FLAGS, "--simulate", 3, cwd=disk)
        assert ended.code == 74, ended
        said = "there is no whole checkpoint" if step is None else f"the newest whole checkpoint is of step {step}"
        assert "(No space left on device)" in ended.lines[-1] and said in ended.lines[-1], ended
        assert not stale(disk / "run")
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        if step is None:
            ended = python(*TRAIN, *FLAGS, "--simulate", 3, cwd=disk)
        else:
            assert load(disk / "run")[1]["step"] == step
            ended = python(*TRAIN, "--resume", "--output", "run", "--quiet", cwd=disk)
        assert ended.code == 0, ended
        assert is_unbroken(disk / "run")


@pytest.mark.fault("K3")
def test_a_disk_that_is_full_before_the_first_step(tmp_path):
    with tmpfs(tmp_path / "disk", f"size={os.sysconf('SC_PAGE_SIZE')}") as disk:
        ended = mpirun(2, *TRAIN, *FLAGS, cwd=disk)
        assert ended.code == 74 and len(ended.lines) == 1, ended
        assert ended.lines[0].startswith("dsgd: --output run: No space left on device"), ended


@pytest.mark.fault("K3")
@pytest.mark.parametrize("name", ["fsync", "replace", "link", "write"])
def test_whichever_call_fails_nothing_is_lost(name, tmp_path, monkeypatch, capsys):
    """The n-th call fails, n = 1, 2, ... until no call is left to fail: before the first step, or the run goes on."""
    whole, outcomes = unbroken().params, set()
    for n in range(1, 200):
        calls, folder = [], tmp_path / f"{name}-{n}"

        def fails(*arguments, real=open if name == "write" else getattr(os, name), calls=calls, n=n, **options):
            calls.append(1)
            if len(calls) == n:
                raise OSError(5, "Input/output error")
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            if name == "write":
                patch.setattr("dsgd.records.open", fails, raising=False)
            else:
                patch.setattr(os, name, fails)
            try:
                result = dsgd.run(**RUN, simulate=3, output=str(folder))
            except DiskError as error:
                assert "Input/output error" in str(error) and not any((folder / kept).exists() for kept in KEEP)
                outcomes.add("refused")
                continue
        assert (result.params == whole).all() and not stale(folder)
        assert load(folder)[1]["step"] in (15, 20) and len(read_records(folder)) == 20
        outcomes.add("unsaved" if result.unsaved else "told" if capsys.readouterr().err else "saved")
        if len(calls) < n:
            break
    assert len(calls) < n and outcomes >= {"unsaved", "saved", "told"}
    assert ("refused" in outcomes) == (name != "link")


def test_a_file_that_stays_unwritten_is_told_once(tmp_path, capsys):
    disk = Disk(tmp_path)

    def full():
        raise OSError(28, "No space left on device")

    for step in range(3):
        disk.attempt("a.txt", full, step)
    disk.attempt("a.txt", lambda: None, 3)
    disk.attempt("a.txt", lambda: None, 4)
    assert [line.partition(":")[2][:9] for line in capsys.readouterr().err.splitlines()] == [" step 0: ", " step 3: "]
    assert disk.verdict() is None
    disk.attempt("a.txt", full, 5, last=True)
    assert capsys.readouterr().err == "" and "a.txt could not be written (No space left on device)" in disk.verdict()


@pytest.mark.fault("K3")
@pytest.mark.parametrize(
    "number, mend",
    [
        ("ENOSPC", "make room"),
        ("EDQUOT", "make room"),
        ("EFBIG", "make room"),
        ("EIO", "mend that"),
        ("EPERM", "mend that"),
    ],
)
def test_room_is_asked_for_where_it_helps(number, mend, tmp_path, monkeypatch):
    code = getattr(errno, number)

    def fails(*arguments):
        raise OSError(code, os.strerror(code))

    disk = Disk(tmp_path)
    disk.attempt("a.txt", fails, 1, last=True)
    assert disk.verdict().endswith(f"({os.strerror(code)}); there is no whole checkpoint; {mend}, then start anew")
    monkeypatch.setattr("dsgd.folder.write_json", fails)
    with pytest.raises((DiskError, UsageError)) as error:
        dsgd.run(**RUN, output=str(tmp_path / "run"))
    assert ("make room, or choose" in str(error.value)) == (mend == "make room"), error.value
    assert str(error.value).endswith("choose another folder")


def test_a_picture_that_cannot_be_drawn_is_told_beside_the_result(tmp_path, capsys):
    (tmp_path / "run" / "convergence.png").mkdir(parents=True)
    assert dsgd.run(**RUN | dict(no_plot=False, quiet=True), output=str(tmp_path / "run")).unsaved is None
    out, err = capsys.readouterr()
    assert out == "" and err == f"dsgd: {tmp_path}/run/convergence.png was not drawn: Is a directory\n"


def test_a_half_written_record_is_taken_back(tmp_path):
    """A device without room: nothing of the line stays, and nothing is believed to have been written."""
    from dsgd.records import Records

    os.symlink("/dev/full", tmp_path / METRICS)
    records = Records(tmp_path)
    records.add(step=1)
    for _ in range(2):
        with pytest.raises(OSError):
            records.write()
    records.close()


# --- K4: before it runs


def refused(ended, *parts):
    assert ended.code == 2 and len(ended.lines) == 1, ended
    assert all(part in ended.lines[0] for part in parts), ended


@pytest.mark.fault(
    "K4",
    "the folder is read-only, is a file, or cannot be made",
    "refused before the first step, in one line, with code 2",
)
def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(mpirun(3, *TRAIN, *FLAGS[:-1], "/proc/run", cwd=tmp_path), "--output /proc/run: ")
    for output in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match=f"--output {output}: "):
            dsgd.run(**RUN, output=str(output))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.fault("K4")
def test_a_read_only_folder_is_refused(tmp_path):
    """For a new run, for a run that is to go on, and for one whose number is still to be found."""
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        assert python(*TRAIN, *FLAGS, "--simulate", 2, cwd=disk).code == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for flags in (["--output", "new"], ["--resume", "--output", "run", "--steps", "30"], []):
            refused(python(*TRAIN, *flags, "--data", TINY["data"], cwd=disk), "Read-only file system")


# --- K7: two jobs, one folder

WAITS = """
import os, time
from dsgd.local import Local
gradient = Local.gradient
def waits(*args, **options):
    while not os.path.exists("go"):
        time.sleep(0.005)
    return gradient(*args, **options)
Local.gradient = waits
"""


@pytest.mark.fault("K7", "two jobs write into one folder", "exactly one goes on; the other is refused before it reads")
def test_of_two_that_resume_one_goes_on(tmp_path):
    dsgd.run(**RUN | dict(steps=10), simulate=2, output=str(tmp_path / "run"))
    path = script(tmp_path, WAITS)
    jobs = [Job(sys.executable, path, "--resume", "--output", "run", "--steps", 20, cwd=tmp_path) for _ in range(2)]
    end = time.monotonic() + 30
    while all(job.process.poll() is None for job in jobs) and time.monotonic() < end:
        time.sleep(0.005)
    (tmp_path / "go").touch()
    loser, winner = sorted((job.wait() for job in jobs), key=lambda ended: -ended.code)
    refused(loser, "another process is training into this folder")
    assert winner.code == 0 and load(tmp_path / "run")[1]["step"] == 20


@pytest.mark.fault("K7")
def test_the_lock_is_held_while_the_checkpoint_is_read(tmp_path, monkeypatch):
    run = RUN | dict(simulate=2, output=str(tmp_path / "run"))
    dsgd.run(**run | dict(steps=10))
    seen = []

    def reading(folder):
        with pytest.raises(UsageError, match="another process"):
            claim(tmp_path / "run")
        seen.append(folder)
        return load(folder)

    monkeypatch.setattr("dsgd.folder.load", reading)
    dsgd.run(**run, resume=True)
    with pytest.raises(UsageError, match="trained with seed"):
        dsgd.run(**run, resume=True, seed=1)
    assert len(seen) == 2
    claim(tmp_path / "run").close()  # given up after the run, and by the run that was refused


@pytest.mark.fault("K7")
def test_a_run_that_has_not_saved_yet_is_not_resumed_by_another(tmp_path):
    with claim(tmp_path), pytest.raises(UsageError, match="another process is training into this folder"):
        dsgd.run(data="moons", steps=1, resume=True, output=str(tmp_path))
