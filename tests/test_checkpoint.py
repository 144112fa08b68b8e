"""Checkpoints: the same bits back; whole or not at all; a damaged one is refused or passed over, never believed."""

import errno
import io
import json
import os
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsgd.checkpoint import FORMAT, KEEP, NAME, load, pack, save, unpack
from dsgd.errors import CheckpointError
from launching import python

ARRAYS = {
    "x": np.random.default_rng(0).standard_normal(300).astype("float32"),
    "optimizer/steps": np.array([7]),
    "2/own/residual": np.array([np.nan, -0.0, np.inf, 5e-324]),
    "0/counters": np.zeros((0, 3), np.uint8),
}
MANIFEST = {"step": 7, "clock": 0.1, "config": {"data": "digits", "lr": 1e-5}, "recorder": {"train_loss": None}}


def bits(arrays):
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def saved(folder, *steps):
    """Save one checkpoint for each step, with x full of it."""
    for step in steps:
        save(folder, {"x": np.full(300, step, np.float32)}, {"step": step})


def step_of(folder):
    """The step of the checkpoint that load finds, its array checked to be of that step."""
    arrays, manifest = load(folder)
    assert (arrays["x"] == manifest["step"]).all() and arrays["x"].shape == (300,)
    return manifest["step"]


def test_what_is_saved_is_loaded_to_the_bit(tmp_path):
    save(tmp_path, ARRAYS, MANIFEST)
    arrays, manifest = load(tmp_path)
    assert bits(arrays) == bits(ARRAYS)
    assert {key: manifest[key] for key in MANIFEST} == MANIFEST and manifest["format"] == FORMAT


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(), max_size=20), st.sampled_from(["float32", "float64", "int64", "uint8"]), st.integers(1, 3))
def test_any_array_makes_the_round_trip(values, dtype, columns):
    with np.errstate(all="ignore"):
        array = np.array(values * columns).reshape(-1, columns).astype(dtype)
    arrays, _ = unpack(pack({"a/b": array, "transposed": array.T}, {}))
    assert bits(arrays) == bits({"a/b": array, "transposed": array.T})


def test_three_are_kept(tmp_path):
    saved(tmp_path, 1, 2, 3, 4, 5)
    assert sorted(os.listdir(tmp_path)) == sorted(KEEP)
    assert [unpack((tmp_path / name).read_bytes())[1]["step"] for name in KEEP] == [5, 4, 3]


# --- a write that fails


class HalfWritten(io.FileIO):
    """A file on a full disk: half of the data is written, then it fails."""

    def write(self, data):
        super().write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")


def fail_at(monkeypatch, name, n):
    """Let the n-th call of os.NAME, or of the write of an opened file, fail."""
    calls = iter(range(1, 100))
    real = open if name == "write" else getattr(os, name)

    def call(*arguments, **options):
        if next(calls) != n:
            return real(*arguments, **options)
        if name == "write":
            return HalfWritten(arguments[0], "w")
        raise OSError(5, f"{name} number {n} fails")

    if name == "write":
        monkeypatch.setattr("dsgd.records.open", call, raising=False)
    else:
        monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("name, calls", [("write", 1), ("fsync", 2), ("replace", 1), ("link", 2), ("unlink", 2)])
def test_a_save_that_fails_leaves_the_previous_checkpoint(tmp_path, monkeypatch, name, calls):
    saved(tmp_path, 1, 2, 3)
    newest = 3
    for n in range(1, calls + 1):
        with monkeypatch.context() as patch, pytest.raises(OSError):
            fail_at(patch, name, n)
            saved(tmp_path, 4)
        newest = 4 if (name, n) == ("fsync", 2) else newest  # of the folder: the file is there already
        assert step_of(tmp_path) == newest
        assert set(os.listdir(tmp_path)) <= set(KEEP)
    saved(tmp_path, 5)
    assert step_of(tmp_path) == 5


@pytest.mark.parametrize("number", ["EPERM", "ENOTSUP", "EOPNOTSUPP", "EMLINK", "ENOSYS"])
def test_three_are_kept_where_there_are_no_hard_links(tmp_path, monkeypatch, number):
    def refuses(path, other):
        raise OSError(getattr(errno, number), "no links here")

    monkeypatch.setattr(os, "link", refuses)
    for call, calls in (("write", 3), ("fsync", 5), ("replace", 3)):  # for two copies and the new one
        for n in range(1, calls + 1):
            saved(tmp_path, 1, 2, 3, 4)
            assert sorted(os.listdir(tmp_path)) == sorted(KEEP)
            assert [unpack((tmp_path / name).read_bytes())[1]["step"] for name in KEEP] == [4, 3, 2]
            with monkeypatch.context() as patch, pytest.raises(OSError):
                fail_at(patch, call, n)
                saved(tmp_path, 5)
            assert step_of(tmp_path) == 4 and set(os.listdir(tmp_path)) <= set(KEEP)


@pytest.mark.fault("K3")
def test_a_disk_that_stays_full_costs_no_older_checkpoint(tmp_path, monkeypatch):
    saved(tmp_path, 1, 2, 3)
    for _ in range(4):
        with monkeypatch.context() as patch, pytest.raises(OSError):
            fail_at(patch, "write", 1)
            saved(tmp_path, 4)
    assert [unpack((tmp_path / name).read_bytes())[1]["step"] for name in KEEP] == [3, 2, 1]


def test_the_calls_that_can_fail_are_those_of_the_test_above(tmp_path, monkeypatch):
    """A save makes no more calls of each kind than are made to fail there."""
    saved(tmp_path, 1, 2, 3)
    for name, calls in (("write", 1), ("fsync", 2), ("replace", 1), ("link", 2)):
        with monkeypatch.context() as patch:
            fail_at(patch, name, calls + 1)
            saved(tmp_path, 4)


# Saves steps 1, 2 and 3 in this folder, and is killed while it saves step 4: in its n-th call of os.NAME, or when half
# of the n-th file that it opens is written.  copy-: where there are no hard links.
KINDS = ("open", "fsync", "replace", "link", "unlink", "copy-open", "copy-fsync", "copy-replace")
KILLED = """
import io, os, signal
import numpy as np
import dsgd.records
from dsgd.checkpoint import load, save

class Half(io.FileIO):
    def write(self, data):
        super().write(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

def dies(name, n):
    calls, real = [], open if name == "open" else getattr(os, name)
    def call(*arguments, **options):
        calls.append(1)
        if len(calls) == n and name == "open":
            return Half(arguments[0], "w")
        if len(calls) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(dsgd.records if name == "open" else os, name, call)

def no_link(path, other):
    raise OSError(1, "Operation not permitted")

for kind in KINDS:
    name = kind.removeprefix("copy-")
    os.link = os.link if name == kind else no_link
    for n in range(1, 10):
        for step in (1, 2, 3):
            save(".", {"x": np.full(300, step)}, {"step": step})
        child = os.fork()
        if not child:
            dies(name, n)
            save(".", {"x": np.full(300, 4)}, {"step": 4})
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        arrays, manifest = load(".")
        assert (arrays["x"] == manifest["step"]).all()
        print(kind, n, killed, manifest["step"])
        if not killed:
            break
"""


@pytest.mark.fault(
    "K1",
    "the process is killed while it saves",
    "whenever that is, the newest whole checkpoint loads: the new one or the one before it",
)
def test_a_save_that_is_killed_in_any_of_its_calls_leaves_a_whole_checkpoint(tmp_path):
    ended = python("-W", "error", "-c", f"KINDS = {KINDS}\n{KILLED}", cwd=tmp_path)
    assert ended.code == 0 and ended.err == "", ended
    rows = [line.split() for line in ended.out.splitlines()]
    assert len(rows) >= 12 and {step for *_, step in rows} == {"3", "4"}
    assert {name: step for name, _, killed, step in rows if killed == "False"} == dict.fromkeys(KINDS, "4")


# --- damage


def outcome(data):
    """Whether the bytes are refused; if not, they must give exactly what was packed."""
    try:
        arrays, manifest = unpack(data, "here")
    except CheckpointError as error:
        assert str(error).startswith("here: ") and "\n" not in str(error)
        return "refused"
    assert bits(arrays) == bits(ARRAYS) and {key: manifest[key] for key in MANIFEST} == MANIFEST
    return "whole"


@pytest.mark.fault(
    "K2",
    "a checkpoint is cut off, or a bit of it is flipped",
    "never believed: it is named and the one before it is used; code 65 if none is whole",
)
def test_a_truncated_checkpoint_is_refused():
    data = pack(ARRAYS, MANIFEST)
    assert {outcome(data[:length]) for length in range(len(data))} == {"refused"}


def test_a_flipped_bit_is_refused_or_harmless():
    """Every third byte of every region: headers, names, shapes, values, manifest, directory."""
    data, found = pack(ARRAYS, MANIFEST), []
    for place in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        found.append(outcome(bytes(damaged)))
    assert found.count("refused") > len(found) / 2


@pytest.mark.fault("K2")
def test_a_flipped_bit_in_the_values_of_any_array_and_in_the_manifest_is_refused():
    data = pack(ARRAYS, MANIFEST)
    manifest = json.dumps(MANIFEST)[:-1].encode()
    for values in (manifest, *(array.tobytes() for array in ARRAYS.values() if array.size)):
        start = data.index(values)
        for place in range(start, start + len(values), 5):
            damaged = bytearray(data)
            damaged[place] ^= 0x10
            assert outcome(bytes(damaged)) == "refused"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused(data):
    assert outcome(data) == outcome(b"PK\x03\x04" + data) == "refused"


def repacked(manifest=None, **changes):
    """A whole archive whose arrays or manifest are not those that were summed."""
    with np.load(io.BytesIO(pack(ARRAYS, MANIFEST))) as archive:
        arrays = dict(archive) | changes
    if manifest is not None:
        arrays["manifest"] = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in arrays.items() if array is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data, message",
    [
        (repacked(x=ARRAYS["x"] + 1), "array 'x' is damaged"),
        (repacked(x=ARRAYS["x"].astype("float64")), "array 'x' is damaged"),
        (repacked(x=ARRAYS["x"].reshape(3, 100)), "array 'x' is damaged"),
        (repacked(x=None), "array 'x' is missing"),
        (repacked(x=np.zeros((300, 0), "float32")), "array 'x' is damaged"),
        (repacked(stray=np.zeros(1)), "not a readable checkpoint"),
        (repacked({"format": FORMAT + 1}), f"is in format {FORMAT + 1}, and dsgd .* reads format {FORMAT}; go on"),
        (repacked({}), "not a readable checkpoint"),
        (repacked([1]), "not a readable checkpoint"),
        (repacked({"format": FORMAT, "sha256": None}), "not a readable checkpoint"),
    ],
)
def test_an_archive_that_is_not_what_was_summed_is_refused(data, message):
    with pytest.raises(CheckpointError, match=message):
        unpack(data)


def test_what_claims_to_unpack_to_more_than_it_is_long_takes_no_memory():
    """A member that is compressed a thousandfold, and an array that promises what is not there."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros(10**6))
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.npy", huge.getvalue())
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="it claims to hold more than it is long"):
        unpack(buffer.getvalue())
    with pytest.raises(CheckpointError, match="x.npy: claims to hold 8000000000000 bytes"):
        unpack(archive.getvalue())
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.fault("D6", "a file holds pickled Python objects", "refused: nothing is ever unpickled")
def test_nothing_is_unpickled():
    """A pickled object can run code when it is loaded."""
    with pytest.raises(CheckpointError, match="x.npy: holds Python objects, which are never unpacked"):
        unpack(repacked(x=np.array([print], object)))


@pytest.mark.fault("K2")
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-30], lambda data: b"", lambda data: data.replace(b"\0\0\xa0\x40", b"\0\0\xa0\x41", 1)],
)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(tmp_path, damage):
    saved(tmp_path, 3, 4, 5)
    (tmp_path / NAME).write_bytes(damage((tmp_path / NAME).read_bytes()))
    with pytest.warns(UserWarning, match=rf"{NAME}: .*; going on from checkpoint-1.npz"):
        assert step_of(tmp_path) == 4
    (tmp_path / KEEP[1]).write_bytes(b"")
    with pytest.warns(UserWarning) as named:
        assert step_of(tmp_path) == 3
    assert [Path(str(warning.message).partition(":")[0]).name for warning in named] == KEEP[:2]


def test_with_no_whole_checkpoint_the_newest_damage_is_the_error(tmp_path):
    saved(tmp_path, 1, 2)
    for name in KEEP[:2]:
        (tmp_path / name).write_bytes(b"")
    with warnings.catch_warnings(), pytest.raises(CheckpointError, match=f"{NAME}: not a readable checkpoint"):
        load(tmp_path)


def test_a_folder_without_a_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(
        CheckpointError, match="no checkpoint to resume from; leave out --resume, or see --checkpoint-every"
    ):
        load(tmp_path)


def test_the_error_is_an_exit_code():
    assert CheckpointError.code == 65
