"""The folder of a run: whose it is, what may stand in it, and what is said when it cannot be used."""

import pytest

import dsgd
from dsgd.errors import DataError, NonFiniteGradient, UsageError
from dsgd.folder import claim, numbered
from dsgd.records import METRICS

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
