"""The export for TensorBoard: every number of the records is in the file of events, at its step, and nothing else is."""

import json
import math
import struct
import sys

import numpy as np
import pytest

import dsgd
from dsgd.command import run_command
from dsgd.errors import UsageError
from dsgd.plots.runs import read_run
from dsgd.tensorboard import NAME, main
from launching import ROOT

SMALL = dict(data="blobs:samples=100", hidden="8", batch_size=16, epochs=2, log_every=2, no_plot=True)


@pytest.fixture(scope="module", autouse=True)
def without_torch():
    """tensorboardX loads it wherever it is installed, which takes seconds, and is not needed here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        import tensorboardX  # noqa: F401


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the runs a and b."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate("ab"):
        dsgd.run(**SMALL, simulate=2, seed=seed, output=str(folder / name))
    return folder


def read(path):
    """[Event] of a file: length, checksum, bytes, checksum of each.  The checksums are TensorBoard's masked CRC-32C."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    data, events = path.read_bytes(), []
    while data:
        (n,) = struct.unpack("<Q", data[:8])
        record = data[12 : 12 + n]
        assert struct.unpack("<I", data[8:12])[0] == masked_crc32c(data[:8])
        assert struct.unpack("<I", data[12 + n : 16 + n])[0] == masked_crc32c(record)
        events.append(Event.FromString(record))
        data = data[16 + n :]
    return events


def numbers(events):
    """{(tag, step): (value, wall time)} of the curves."""
    return {
        (value.tag, event.step): (value.simple_value, event.wall_time)
        for event in events
        for value in event.summary.value
        if not value.HasField("tensor")
    }


def texts(events):
    """{tag: the text}"""
    return {
        v.tag.removesuffix("/text_summary"): v.tensor.string_val[0].decode()
        for event in events
        for v in event.summary.value
        if v.HasField("tensor")
    }


def expected(rows):
    """What the records say: the same, but for single precision."""
    flat = {}
    for row in rows:
        layers = {f"gradient_rms/layer_{i}": x for i, x in enumerate(row["gradient_rms"])}
        for key, value in (row | layers).items():
            if key not in ("step", "time", "gradient_rms", "verdict") and value is not None:
                flat[key, row["step"]] = float(np.float32(value)), row["time"]
    return flat


def test_every_number_of_the_records_comes_back(runs, tmp_path, capsys):
    assert main([str(runs / "a"), str(runs / "b"), "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"tensorboard --logdir {tmp_path}\n"
    for name in "ab":
        run, events = read_run(runs / name), read(tmp_path / name / NAME)
        assert events[0].file_version == "brain.Event:2" and len(run.records) > 2
        assert numbers(events) == expected(run.records)
        assert {"train_loss", "test_accuracy", "gradient_rms/layer_1"} <= {tag for tag, _ in numbers(events)}
        said = texts(events)
        assert "| optimizer | sgd:momentum=0.9 |" in said["configuration"].splitlines()
        assert f"| data digest | {run.manifest['data digest']} |" in said["manifest"].splitlines()


def test_once_more_is_the_same_file(runs, tmp_path):
    files = []
    for _ in range(2):
        main([str(runs / "a"), "--output", str(tmp_path)])
        files.append({path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    assert files[0] == files[1] and len(files[0]) == 1


def made(folder, runs, *rows):
    """A run in `folder` with these records."""
    folder.mkdir(parents=True)
    for name in ("config.json", "manifest.json"):
        (folder / name).write_bytes((runs / "a" / name).read_bytes())
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_what_is_not_finite_stays_so_and_what_is_none_is_left_out(runs, tmp_path):
    row = {"step": 3, "time": None, "train_loss": math.nan, "gradient_norm": 1e300, "gradient_rms": [None, 2.0]}
    main([str(made(tmp_path / "c", runs, row | {"verdict": "exploding"})), "--output", str(tmp_path / "out")])
    events = read(tmp_path / "out" / "c" / NAME)
    found = {tag: value for (tag, step), (value, _) in numbers(events).items() if step == 3}
    assert math.isnan(found.pop("train_loss")) and found == {"gradient_norm": math.inf, "gradient_rms/layer_1": 2.0}
    assert texts(events)["verdict"] == "exploding"


def test_namesakes_do_not_overwrite_one_another(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "x/a"):
        made(tmp_path / folder, runs, {"step": 1, "train_loss": len(folder)})
    assert main(["a", "x/a"]) == 0
    files = [tmp_path / "tensorboard" / str(tmp_path).lstrip("/") / folder / NAME for folder in ("a", "x/a")]
    assert [numbers(read(path))["train_loss", 1][0] for path in files] == [1, 3]


def test_a_bad_folder_is_named_and_the_others_are_exported(runs, tmp_path, capsys):
    bad = made(tmp_path / "bad", runs, {"step": 1, "train_loss": {"a": 1}})
    assert main([str(tmp_path / "none"), str(bad), str(runs / "a"), "--output", str(tmp_path / "out")]) == 2
    none, damaged = capsys.readouterr().err.splitlines()
    assert (
        "none: there is no such folder" in none
        and f"{bad}/metrics.jsonl: is damaged (of step 1, train_loss is" in damaged
    )
    assert [path.parent.name for path in (tmp_path / "out").rglob(NAME)] == ["a"]
    assert main([str(bad), "--output", str(tmp_path / "out")]) == 65


def test_without_tensorboardX_one_line_says_what_to_do(runs, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr(sys, "argv", ["", str(runs / "a")])
    assert run_command(main) == 2
    assert capsys.readouterr().err.endswith("; pip install 'dsgd[tensorboard]'\n")


def test_an_output_that_is_a_file_is_refused(runs):
    with pytest.raises(UsageError, match="--output .*setup.cfg"):
        main([str(runs / "a"), "--output", str(ROOT / "setup.cfg")])
