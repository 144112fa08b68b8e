"""Records: lines on the disk as soon as they are made, cut back for a resumed run, a half line left out."""

import io
import json
import os

import pytest

from dsgd.records import METRICS, Records, cut_records, read_records, write_json, write_text

ROWS = [{"step": step, "train_loss": 1 / step, "virtual_time": None} for step in (10, 20, 30)]


@pytest.fixture
def folder(tmp_path):
    """A folder with three records."""
    records = Records(tmp_path)
    for row in ROWS:
        records.add(**row)
    records.write()
    records.close()
    return tmp_path


def test_records_are_read_back(folder):
    assert read_records(folder) == ROWS


def test_a_record_that_was_written_is_on_the_disk(tmp_path):
    records = Records(tmp_path)
    for i, row in enumerate(ROWS):
        records.add(**row)
        records.write()
        assert read_records(tmp_path) == ROWS[: i + 1]
    records.close()


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = Records()
    records.add(step=1)
    records.write()
    records.close()
    assert records.rows == [{"step": 1}] and not os.listdir(tmp_path)


def test_a_line_cut_off_anywhere_is_left_out(folder):
    whole = (folder / METRICS).read_text()
    complete = whole.rindex("\n", 0, -1) + 1  # the end of the second line
    for end in range(complete, len(whole) - 1):
        (folder / METRICS).write_text(whole[:end])
        assert read_records(folder) == ROWS[:2]


@pytest.mark.parametrize("count", [0, 2, 3, 4])
def test_records_after_the_checkpoint_are_dropped(folder, count):
    assert cut_records(folder, count) == read_records(folder) == ROWS[:count]


def test_a_resumed_run_goes_on_after_a_line_that_was_cut_off(folder):
    with open(folder / METRICS, "a") as file:
        file.write('{"step": 40, "train')
    records = Records(folder, cut_records(folder, 2))
    records.add(**ROWS[2])
    records.write()
    records.close()
    assert read_records(folder) == ROWS


@pytest.mark.fault("K3")
def test_a_line_of_which_a_part_was_written_is_taken_back(tmp_path, monkeypatch):
    """A disk that is nearly full takes a part of the line; what is missing is written when there is room."""

    class NearlyFull(io.FileIO):
        room = 70  # the first line, and the beginning of the second

        def write(self, data):
            taken = min(len(data), self.room)
            if not taken:
                raise OSError(28, "No space left on device")
            self.room -= taken
            return super().write(data[:taken])

    with monkeypatch.context() as patch:
        patch.setattr("dsgd.records.open", lambda path, mode, buffering: NearlyFull(path, "ab"), raising=False)
        records = Records(tmp_path)
    for row in ROWS[:2]:
        records.add(**row)
    for _ in range(2):
        with pytest.raises(OSError):
            records.write()
        assert (tmp_path / METRICS).read_text() == json.dumps(ROWS[0]) + "\n"
    records._file.room = 1000
    records.add(**ROWS[2])
    records.write()
    records.close()
    assert read_records(tmp_path) == ROWS


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, call):
    write_json(tmp_path / "summary.json", {"a": 1})

    def fail(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError):
        write_text(tmp_path / "summary.json", "half")
    assert json.loads((tmp_path / "summary.json").read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["summary.json"]
