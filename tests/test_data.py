"""Data sets: shapes, scale, seeded splits; every file that is missing, damaged or unfit is refused with its path and why."""

import gzip
import zipfile

import numpy as np
import pytest

from dsgd import data
from dsgd.data import load, read_idx
from dsgd.errors import DataError, UsageError

X = np.random.default_rng(0).standard_normal((40, 3))
Y = np.arange(40) % 4


def rows(array):
    """The rows as a sorted list: what they are, in no order."""
    return sorted(map(tuple, array.tolist()))


def refused(spec, error=DataError):
    """The message of a data set that cannot be used."""
    with pytest.raises(error) as caught:
        load(str(spec), seed=0, dtype="float32")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def file(tmp_path):
    """A function that writes an .npz and returns its path."""

    def write(save=np.savez, **arrays):
        save(tmp_path / "own.npz", **arrays)
        return tmp_path / "own.npz"

    return write


# --- what is shipped and what is made


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_digits(dtype):
    digits = load("digits", seed=0, dtype=dtype)
    assert (digits.X.shape, digits.X_test.shape) == ((1438, 64), (359, 64))
    assert digits.classes == digits.outputs == 10 and digits.X.dtype == digits.X_test.dtype == dtype
    assert (digits.X.min(), digits.X.max()) == (0, 1)
    assert sorted(set(digits.y.tolist())) == list(range(10))


def test_teacher_has_any_size():
    teacher = load("teacher:samples=50,features=7,hidden=3,classes=2,test=0.1", seed=0, dtype="float64")
    assert (teacher.X.shape, teacher.X_test.shape, teacher.classes) == ((45, 7), (5, 7), 2)
    assert set(teacher.y.tolist()) == {0, 1}


@pytest.mark.parametrize("option", ["samples", "features", "hidden", "classes"])
def test_teacher_of_nothing_is_refused(option):
    assert f"teacher:{option}=0 must be at least 1" in refused(f"teacher:{option}=0", UsageError)


@pytest.mark.parametrize("spec", ["digits", "teacher:samples=200"])
def test_the_split_is_seeded(spec):
    first, again, other = (load(spec, seed=seed, dtype="float32") for seed in (1, 1, 2))
    assert first.digest() == again.digest() != other.digest()


def test_the_parts_are_disjoint_and_together_all(file):
    path = file(X=np.arange(40.0).reshape(40, 1), y=Y)
    one, two = (
        load(f"{path}:test=0.25,scale=false", seed=1, dtype="float64"),
        load(f"{path}:test=0.25,scale=false", seed=2, dtype="float64"),
    )
    assert (len(one.X), len(one.X_test)) == (30, 10)
    assert rows(np.vstack([one.X, one.X_test])) == rows(np.arange(40.0).reshape(40, 1))
    assert rows(one.X_test) != rows(two.X_test)


def test_features_are_standardised_on_the_training_part(file):
    """Mean 0 and deviation 1 there; the test part by the same numbers; a constant column stays finite."""
    columns = np.column_stack([np.arange(40.0), 255 - 3 * np.arange(40.0), np.full(40, 7.0)])
    path = file(X=columns, y=Y)
    raw, own = (load(f"{path}:scale={scale}", seed=0, dtype="float64") for scale in ("false", "true"))
    assert np.allclose(own.X.mean(axis=0), 0) and np.allclose(own.X.std(axis=0), [1, 1, 0])
    assert np.allclose(own.X_test[:, :2], (raw.X_test[:, :2] - raw.X[:, :2].mean(axis=0)) / raw.X[:, :2].std(axis=0))
    assert not own.X_test[:, 2].any()


def test_the_digest_covers_every_array_and_its_dtype():
    digits = load("digits", seed=0, dtype="float32")
    for i in range(4):
        arrays = [array.copy() for array in digits[:4]]
        arrays[i].reshape(-1)[-1] += 1
        assert data.Dataset(*arrays, classes=10).digest() != digits.digest()
    assert digits._replace(X=digits.X.astype("float64")).digest() != digits.digest()


@pytest.mark.parametrize("test", ["0", "1", "-0.5", "1.5", "nan"])
def test_a_test_part_is_a_fraction(test):
    assert "is not a fraction between 0 and 1" in refused(f"digits:test={test}", UsageError)


def test_a_test_part_has_a_sample_and_leaves_one(file):
    assert len(load(f"{file(X=X, y=Y)}:test=0.001", seed=0, dtype="float32").X_test) == 1
    assert "leaves no training sample" in refused("teacher:samples=1", UsageError)
    assert "leaves no training sample" in refused("teacher:samples=3,test=0.9", UsageError)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("digit", "unknown data set 'digit'; did you mean 'digits'? choices: digits, fashion-mnist, teacher, FILE.npz"),
        ("teacher:sample=3", "did you mean 'samples'?"),
        ("teacher:samples=many", "teacher:samples=many is not an int"),
        ("own.npz:tset=0.5", "did you mean 'test'?"),
    ],
)
def test_a_name_or_option_that_does_not_exist_is_refused(spec, message):
    assert message in refused(spec, UsageError)


# --- a file of one's own


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_whole_numbers_are_classes_numbered_from_0(file, save):
    labels = np.array([-3, 5, 700, 9])
    own = load(f"{file(save, X=X, y=labels[Y])}:scale=false", seed=0, dtype="float64")
    assert own.classes == own.outputs == 4
    sorted_labels = np.unique(labels)
    given = {tuple(x): label for x, label in zip(X.tolist(), labels[Y])}
    assert all(sorted_labels[y] == given[tuple(x)] for x, y in zip(own.X.tolist(), own.y))


@pytest.mark.parametrize("y, outputs", [(X[:, 0], 1), (X[:, :2], 2), (X[:, :2].astype("float32"), 2)])
def test_other_numbers_are_regression_targets(file, y, outputs):
    own = load(str(file(X=X, y=y)), seed=0, dtype="float32")
    assert (own.classes, own.outputs, own.y.shape, own.y.dtype) == (0, outputs, (32, outputs), "float32")


def test_images_are_flattened(file):
    assert load(str(file(X=np.ones((40, 2, 3), np.uint8), y=Y > 1)), seed=0, dtype="float32").X.shape == (32, 6)


def bad(value, shape=(40, 3), dtype="float64"):
    """An array with one bad value at [7, 1]."""
    array = np.ones(shape, dtype)
    array[7, 1] = value
    return array


@pytest.mark.parametrize(
    "arrays, message",
    [
        (dict(X=X), "has no array 'y' (it has: X); np.savez(path, X=..., y=...)"),
        (dict(y=Y), "has no array 'X' (it has: y)"),
        (dict(X=X, y=Y[:-1]), "X has shape (40, 3) and y (39,): they need values, and the same number of rows"),
        (dict(X=X[:0], y=Y[:0]), "they need values"),
        (dict(X=np.float64(1), y=Y), "X has shape ()"),
        (dict(X=X, y=np.float64(1)), "y ()"),
        (dict(X=X[:, :0], y=Y), "X has shape (40, 0)"),
        (
            dict(X=bad(np.nan), y=Y),
            "X[7, 1] is nan, and 1 values in all are not finite in float32; clean the file first",
        ),
        (dict(X=bad(-np.inf), y=Y), "X[7, 1] is -inf"),
        (dict(X=bad(1e300), y=Y), "X[7, 1] is 1e+300, and 1 values in all are not finite in float32"),
        (dict(X=X, y=bad(np.nan)), "y[7, 1] is nan"),
        (dict(X=X.astype(complex), y=Y), "X has dtype complex128, not numbers"),
        (dict(X=X, y=Y.astype(str)), "y has dtype <U"),
        (dict(X=X, y=0 * Y + 3), "y holds one class only (3)"),
        (dict(X=X.astype(object), y=Y), "Object arrays cannot be loaded"),
    ],
)
def test_an_unfit_file_is_refused(file, arrays, message):
    path = file(**arrays)
    text = refused(path)
    assert text.startswith(f"{path}: ") and message in text


def test_a_missing_file_is_refused(tmp_path):
    assert refused(tmp_path / "none.npz") == f"{tmp_path / 'none.npz'}: no such file"


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
    monkeypatch.setattr(data, "MAX_BYTES", claimed)
    load(str(path), seed=0, dtype="float32")
    monkeypatch.setattr(data, "MAX_BYTES", claimed - 1)
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


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_file_is_refused(file, save):
    path = file(save, X=X, y=Y)
    whole, expected = path.read_bytes(), load(str(path), seed=0, dtype="float64").digest()
    for length in range(0, len(whole), 17):
        assert same_or_refused(path, whole[:length], expected), f"{length} bytes"


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
    """A smaller shape leaves the end of a member unread, and its checksum is compared at its end only."""
    path = file(X=np.random.default_rng(0).standard_normal((800, 60)), y=np.arange(800) % 4)
    whole, expected = path.read_bytes(), load(str(path), seed=0, dtype="float64").digest()
    assert same_or_refused(path, whole.replace(b"(800, 60)", b"(800, 20)"), expected)


# --- IDX files


def idx(array, magic=b"\0\0\x08"):
    return magic + bytes([array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """A folder of four small IDX files, two of them compressed, that DSGD_DATA points to."""
    monkeypatch.setenv("DSGD_DATA", str(tmp_path))
    generator = np.random.default_rng(0)
    for prefix, n in (("train", 20), ("t10k", 6)):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(generator.integers(0, 256, (n, 4, 5), np.uint8)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(idx((np.arange(n) % 10).astype(np.uint8)), mtime=0)
        )
    return tmp_path


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fashion_mnist_is_read_plain_or_compressed(fashion, dtype):
    images = read_idx(fashion / "train-images-idx3-ubyte", ndim=3)
    found = load("fashion-mnist", seed=0, dtype=dtype)
    assert (found.X.shape, found.X_test.shape, found.classes) == ((20, 20), (6, 20), 10)
    assert found.X.dtype == dtype and 0 <= found.X.min() < found.X.max() <= 1
    np.testing.assert_allclose(found.X, images.reshape(20, 20) / 255, rtol=1e-6)
    assert found.y.tolist() == [i % 10 for i in range(20)] and found.y_test.tolist() == list(range(6))


def test_fashion_mnist_that_is_not_installed_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("DSGD_DATA", raising=False)
    monkeypatch.setattr(data, "FASHION", str(tmp_path / "nowhere"))
    text = refused("fashion-mnist")
    assert "apt-get install dataset-fashion-mnist" in text and "DSGD_DATA" in text and "nowhere" in text


def test_an_idx_file_that_is_missing_is_named(fashion):
    path = fashion / "t10k-labels-idx1-ubyte"
    path.with_suffix(".gz").unlink()
    assert refused("fashion-mnist").startswith(f"{path}: no such file")


def test_images_and_labels_must_be_as_many(fashion):
    (fashion / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(19, np.uint8)))
    assert "20 train images but 19 labels" in refused("fashion-mnist")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda raw: b"", "starts with , not with the magic number 00 00 08"),
        (lambda raw: b"\0\0\x0d" + raw[3:], "starts with 00 00 0d 03, not with the magic number"),
        (lambda raw: raw[:9], "promises"),
        (lambda raw: raw[:-1], "promises 20 × 4 × 5 values and holds 399; the file is cut off or damaged"),
        (lambda raw: raw + b"\0", "promises 20 × 4 × 5 values and holds 401"),
        (lambda raw: raw[:4] + b"\xff" * 12 + raw[16:], "promises 4294967295 × 4294967295 × 4294967295 values"),
    ],
)
def test_a_damaged_idx_file_is_refused(fashion, damage, message):
    path = fashion / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    text = refused("fashion-mnist")
    assert text.startswith(f"{path}: ") and message in text


def test_a_damaged_compressed_idx_file_is_refused_or_harmless(fashion):
    path = fashion / "train-labels-idx1-ubyte.gz"
    whole, expected = path.read_bytes(), load("fashion-mnist", seed=0, dtype="float32").digest()
    damaged = [whole[:n] for n in range(len(whole))]
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        try:
            assert load("fashion-mnist", seed=0, dtype="float32").digest() == expected
        except DataError as error:
            assert str(path) in str(error)
