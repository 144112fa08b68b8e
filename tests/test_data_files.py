"""Files of arrays, .npz and .npy: what is read, and that what is missing, damaged or too large is refused by name."""

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data import refused

from dsgd.data import files, load, load_raw
from dsgd.errors import DataError, UsageError

X = np.random.default_rng(0).standard_normal((40, 3))
Y = np.arange(40) % 4


@pytest.fixture
def file(tmp_path):
    """A function that writes an .npz and returns its path."""

    def write(save=np.savez, **arrays):
        save(tmp_path / "own.npz", **arrays)
        return tmp_path / "own.npz"

    return write


def test_images_are_flattened(file):
    assert load(str(file(X=np.ones((40, 2, 3), np.uint8), y=Y > 1)), seed=0, dtype="float32").X.shape == (32, 6)


def bad(value):
    """An array with one bad value at [7, 1]."""
    array = np.ones((40, 3))
    array[7, 1] = value
    return array


@pytest.mark.fault("D6")
@pytest.mark.fault(
    "N2", "a NaN or an infinity in the data", "refused when it is read, with its place and how many there are"
)
@pytest.mark.parametrize(
    "arrays, message",
    [
        (dict(X=X), "there are features and no labels; X goes with y"),
        (dict(y=Y), "has no array 'X' (it has: y); np.savez(path, X=..., y=...)"),
        (dict(X=X, y=Y[:-1]), "X has shape (40, 3) and y (39,): they need values, and the same number of rows"),
        (dict(X=X[:0], y=Y[:0]), "they need values"),
        (dict(X=np.float64(1), y=Y), "X has shape ()"),
        (dict(X=X, y=np.float64(1)), "y ()"),
        (dict(X=X[:, :0], y=Y), "X has shape (40, 0)"),
        (dict(X=X, y=X[:, :0]), "y (40, 0)"),
        (
            dict(X=bad(np.nan), y=Y),
            "X[7, 1] is nan, and 1 values in all are not finite in float32; clean the file first",
        ),
        (dict(X=bad(-np.inf), y=Y), "X[7, 1] is -inf"),
        (dict(X=bad(1e300), y=Y), "X[7, 1] is 1e+300, and 1 values in all are not finite in float32"),
        (dict(X=X, y=bad(np.nan)), "y[7, 1] is nan"),
        (dict(X=X.astype(complex), y=Y), "X has dtype complex128, not numbers"),
        (dict(X=X.astype(str), y=Y), "X has dtype <U32, not numbers"),
        (dict(X=X, y=Y.astype("datetime64[s]")), "y has dtype datetime64[s], not numbers"),
        (dict(X=X, y=np.array([b"\xff", b"a"] * 20)), "y holds labels that are no text"),
        (dict(X=X.astype(object), y=Y), "holds Python objects, which are never unpacked"),
        (dict(X=X, y=np.array([{}] * 40)), "holds Python objects, which are never unpacked"),
    ],
)
def test_an_unfit_file_is_refused(file, arrays, message):
    path = file(**arrays)
    text = refused(path)
    assert text.startswith(f"{path}: ") and message in text


@pytest.mark.parametrize("name", ["none.npz", "none.csv", "FILE.npz", "a:b=c/none.NPZ"])
def test_a_missing_file_is_refused(tmp_path, name):
    assert refused(tmp_path / name) == f"{tmp_path / name}: no such file"
    assert refused(name) == f"{name}: no such file"


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    for content in (b"", b"PK", b"X,y\n1,2\n", bytes(1000)):
        path.write_bytes(content)
        assert refused(path).startswith(f"{path}: not a readable .npz")
    path.unlink()
    path.mkdir()
    assert refused(path).startswith(f"{path}: not a readable .npz")


def test_a_file_that_would_unpack_to_too_much_is_refused_unread(file, monkeypatch):
    path = file(np.savez_compressed, X=np.zeros((40, 1000)), y=Y)
    claimed = sum(member.file_size for member in zipfile.ZipFile(path).infolist())
    monkeypatch.setattr(files, "MAX_BYTES", claimed)
    load(str(path), seed=0, dtype="float32")
    monkeypatch.setattr(files, "MAX_BYTES", claimed - 1)
    assert f"claims to hold {claimed} bytes, over the limit of {claimed - 1}" in refused(path)


def same_or_refused(path, content, expected):
    """Write it; loading it must give the expected data or a DataError, never other data and no other error."""
    path.write_bytes(content)
    try:
        assert load(str(path), seed=0, dtype="float64").digest() == expected
        return False
    except DataError as error:
        assert str(path) in str(error)
        return True


@pytest.mark.fault("D5")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_file_is_refused(file, save):
    path = file(save, X=X, y=Y)
    whole, expected = path.read_bytes(), load(str(path), seed=0, dtype="float64").digest()
    for length in range(0, len(whole), 17):
        assert same_or_refused(path, whole[:length], expected), f"{length} bytes"


@pytest.mark.fault("D5")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_is_refused_or_harmless(file, save):
    """Some bits say nothing (dates, padding); none may change the data."""
    path = file(save, X=X, y=Y)
    whole, expected = path.read_bytes(), load(str(path), seed=0, dtype="float64").digest()
    for bit in range(0, 8 * len(whole), 13):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        same_or_refused(path, damaged, expected)


def test_a_damaged_shape_in_a_large_file_is_refused(file):
    path = file(X=np.random.default_rng(0).standard_normal((800, 60)), y=np.arange(800) % 4)
    assert same_or_refused(path, path.read_bytes().replace(b"(800, 60)", b"(800, 20)"), None)


def test_a_damaged_byte_that_no_shape_shows_is_refused(file):
    """The checksum of a member does."""
    path = file(X=X, y=Y)
    whole = bytearray(path.read_bytes())
    whole[whole.index(X.tobytes()[:8]) + 2] ^= 1
    assert same_or_refused(path, whole, None)


# --- .npy


def pair(tmp_path, **arrays):
    """The spec of .npy files."""
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return "npy:" + ",".join(f"{name}={tmp_path / name}.npy" for name in arrays)


def test_npy_files_hold_what_an_npz_of_the_same_arrays_holds(tmp_path, file):
    arrays = dict(
        X=np.asfortranarray(X), y=np.array(list("abcd"))[Y], X_test=X[:4].astype(">f4"), y_test=np.array(["a"] * 4)
    )
    one, other = (
        load(pair(tmp_path, **arrays), seed=0, dtype="float64"),
        load(str(file(**arrays)), seed=0, dtype="float64"),
    )
    assert one.digest() == other.digest() and one.labels == tuple("abcd")
    spec = pair(tmp_path, X=X, y=Y)
    assert len(load(spec + ",test=0.5,scale=range", seed=0, dtype="float32").X) == 20
    assert (load_raw(pair(tmp_path, X=np.asfortranarray(X))).X == X).all()
    assert (load_raw(spec).X == X).all() and load_raw(spec.partition(",")[0]).y is None


def test_npy_files_that_do_not_go_together_are_refused(tmp_path):
    assert "there are features and no labels" in refused(pair(tmp_path, X=X))
    assert "has features or labels only" in refused(pair(tmp_path, X=X, y=Y, X_test=X))
    assert refused(f"npy:X={tmp_path}/X.npy,y={tmp_path}/none.npy") == f"{tmp_path}/none.npy: no such file"
    assert "there is a test part already" in refused(
        pair(tmp_path, X=X, y=Y, X_test=X, y_test=Y) + ",test=0.2", UsageError
    )


def npy(header, content=b"", version=b"\1\0"):
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content


@pytest.mark.parametrize(
    "content, message",
    [
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3)}"), "promises float64 of shape"),
        (
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 3)}", bytes(99)),
            "24000000 bytes, and holds 99",
        ),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4, 3)}", bytes(97)), "96 bytes, and holds 97"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-4, -3)}", bytes(96)), "it is damaged"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (4,)}", bytes(96)), "holds Python objects"),
        (npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (4,)}", bytes(96)), "holds Python objects"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4, 3)}", version=b"\3\0"), "is of version 3.0"),
        (npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}"), "not a readable .npy"),
        (npy("nonsense"), "not a readable .npy"),
        (b"", "not a readable .npy"),
    ],
)
def test_an_npy_file_that_promises_what_it_does_not_hold_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(files, "MAX_BYTES", 1 << 60)
    (tmp_path / "X.npy").write_bytes(content)
    text = refused(f"npy:X={tmp_path}/X.npy,y={tmp_path}/X.npy")
    assert text.startswith(f"{tmp_path}/X.npy: ") and message in text


def whole_npy():
    buffer = io.BytesIO()
    np.save(buffer, np.array(["ab", "c"] * 20))
    return buffer.getvalue()


FUZZ = dict(deadline=None, max_examples=60, derandomize=True)


def damaged(whole):
    """Strategy: the bytes with up to three of them changed, and the end cut off."""
    changes = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=3)

    def change(changes, length):
        content = bytearray(whole)
        for at, value in changes:
            content[at] = value
        return bytes(content[:length])

    return st.builds(change, changes, st.one_of(st.just(len(whole)), st.integers(0, len(whole)))) | st.binary(
        max_size=64
    )


@pytest.mark.fault("D5")
@settings(**FUZZ)
@given(content=damaged(whole_npy()))
def test_any_bytes_as_labels_are_read_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "fuzz.npy").write_bytes(content)
    spec = pair(folder, X=X) + f",y={folder}/fuzz.npy"
    try:
        assert len(load(spec, seed=0, dtype="float32").y) == 32
    except DataError as error:
        assert "\n" not in str(error)
