"""The folder of a run: whose it is, what may stand in it, and what is said when it cannot be used."""

import signal

import pytest

import dsgd
from dsgd.checkpoint import NAME
from dsgd.errors import DataError, NonFiniteGradient, PeerError, UsageError
from dsgd.folder import claim, numbered
from dsgd.records import METRICS
from launching import python, script

TINY = dict(data="teacher:samples=100,features=5", hidden="4", no_plot=True)


def test_a_folder_that_another_run_writes_to_is_refused(tmp_path):
    dsgd.run(steps=4, output=str(tmp_path), **TINY)
    with claim(tmp_path), pytest.raises(UsageError, match="another process is training into this folder"):
        dsgd.run(steps=8, output=str(tmp_path), resume=True, **TINY)
    assert dsgd.run(steps=8, output=str(tmp_path), resume=True, **TINY).summary["steps"] == 8


def test_a_number_is_taken_once(tmp_path):
    """The folder is made when its number is given out, so two runs that start together get two."""
    pattern = str(tmp_path / "runs" / "*-sgd")
    assert [numbered(pattern).name for _ in range(3)] == ["1-sgd", "2-sgd", "3-sgd"]
    (tmp_path / "runs" / "17-dsgd").mkdir()
    assert numbered(pattern).name == "18-sgd"


def test_a_run_that_failed_before_its_first_checkpoint_may_start_again(tmp_path):
    with pytest.raises(NonFiniteGradient):
        dsgd.run(steps=5, lr=1e30, output=str(tmp_path), **TINY)
    assert dsgd.run(steps=5, output=str(tmp_path), **TINY).summary["steps"] == 5
    with pytest.raises(UsageError, match="holds a run already"):
        dsgd.run(steps=5, output=str(tmp_path), **TINY)


CUT = """
import os, signal
import dsgd.folder
cut = dsgd.folder.cut_records
def dies(*arguments):
    if AFTER:
        cut(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
dsgd.folder.cut_records = dies
"""


@pytest.mark.fault("K1")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("damaged", [False, True])
def test_samples_lost_are_counted_once_whenever_the_process_that_resumes_is_killed(after, damaged, tmp_path):
    """Before it cuts the records and after; also where the checkpoint that it went on from is damaged since."""
    folder = tmp_path / "run"
    row = TINY | dict(steps=12, batch_size=10, checkpoint_every=3, log_every=1, output=str(folder))
    with pytest.raises(PeerError):
        dsgd.run(**row, faults="kill:rank=0,step=9")  # steps 7 and 8 are lost
    path = script(tmp_path, CUT.replace("AFTER", str(after)))
    for _ in range(2):
        assert python(path, "--resume", "--output", folder, "--quiet").code == -signal.SIGKILL
    if damaged:
        (folder / NAME).write_bytes(b"")  # steps 4 to 6 are lost too
    with pytest.raises(PeerError):
        dsgd.run(**row, resume=True, faults="kill:rank=0,step=9")  # and 7 and 8 again
    assert dsgd.run(**row, resume=True).summary["samples_lost"] == (2 + 3 * damaged + 2) * 10


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"5", b'{"a": 1}', b'{"step": 1,'])
def test_damaged_records_are_refused_with_their_line(damage, tmp_path):
    dsgd.run(steps=30, log_every=10, output=str(tmp_path), **TINY)
    lines = (tmp_path / METRICS).read_bytes().splitlines()
    (tmp_path / METRICS).write_bytes(b"\n".join([lines[0], damage, *lines[2:]]))
    with pytest.raises(DataError, match="line 2 is damaged"):
        dsgd.run(steps=40, log_every=10, output=str(tmp_path), resume=True, **TINY)


def test_files_that_no_run_wrote_are_not_written_over(tmp_path):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(UsageError, match="config.json is not from a run, and would be written over"):
        dsgd.run(data="moons", steps=1, output=str(tmp_path))
    assert (tmp_path / "config.json").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
