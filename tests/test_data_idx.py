"""IDX files, fashion-mnist's and one's own: every element type, plain or compressed, and every kind of damage."""

import gzip
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data import refused, scaled

from dsgd.data import files, load, load_raw, named, read_idx
from dsgd.errors import DataError, UsageError


def idx(array, code=0x08):
    return bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


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


def idx_spec(folder):
    """The files of `fashion` as files of one's own."""
    return (
        f"idx:images={folder}/train-images-idx3-ubyte,labels={folder}/train-labels-idx1-ubyte.gz,"
        f"test_images={folder}/t10k-images-idx3-ubyte,test_labels={folder}/t10k-labels-idx1-ubyte.gz"
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fashion_mnist_is_read_plain_or_compressed(fashion, dtype):
    images = read_idx(fashion / "train-images-idx3-ubyte", ndim=3)
    found = scaled(load("fashion-mnist", seed=0, dtype=dtype))
    assert (found.X.shape, found.X_test.shape, found.classes) == ((20, 20), (6, 20), 10)
    type_ = np.dtype(dtype).type
    assert (
        found.X == np.multiply(images.reshape(20, 20), type_(1 / 255), dtype=dtype)
    ).all() and found.X.dtype == dtype
    assert found.y.tolist() == [i % 10 for i in range(20)] and found.y_test.tolist() == list(range(6))


def test_the_same_files_of_ones_own_are_the_same_data(fashion):
    own, known = (load(spec, seed=0, dtype="float32") for spec in (idx_spec(fashion), "fashion-mnist"))
    assert own.digest() == known.digest() and own.labels == known.labels == tuple(range(10))
    raw = load_raw("fashion-mnist")
    assert (raw.X == read_idx(fashion / "t10k-images-idx3-ubyte").reshape(6, 20)).all() and raw.X.dtype == np.float64
    raw = load_raw(idx_spec(fashion).partition(",")[0])
    assert ((raw.X * known.factor).astype("float32") == known.inputs(known.X)).all()


def test_fashion_mnist_that_is_not_installed_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("DSGD_DATA", raising=False)
    monkeypatch.setattr(named, "FASHION", str(tmp_path / "nowhere"))
    text = refused("fashion-mnist")
    assert "apt-get install dataset-fashion-mnist" in text and "DSGD_DATA" in text and "nowhere" in text


def test_an_idx_file_that_is_missing_is_named(fashion):
    path = fashion / "t10k-labels-idx1-ubyte"
    path.with_suffix(".gz").unlink()
    assert refused("fashion-mnist").startswith(f"{path}: no such file")


def test_images_and_labels_must_be_as_many(fashion):
    (fashion / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(19, np.uint8)))
    assert "20 train images but 19 labels" in refused("fashion-mnist")
    own = idx_spec(fashion).replace("train-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte")
    assert "X has shape (20, 4, 5) and y (19,)" in refused(own)


def test_a_label_that_is_no_digit_is_refused(fashion):
    (fashion / "train-labels-idx1-ubyte").write_bytes(idx(np.full(20, 10, np.uint8)))
    assert "the label '10' in y is none of the classes" in refused("fashion-mnist")


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 1, 2, 2)])
@pytest.mark.parametrize(
    "code, dtype", [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
def test_every_element_type_and_number_of_axes_is_read(tmp_path, code, dtype, shape, wrap):
    array = np.arange(-2, np.prod(shape) - 2).reshape(shape).astype(dtype)
    (tmp_path / "own").write_bytes(wrap(idx(array, code)))
    found = read_idx(tmp_path / "own")
    assert found.dtype == dtype and (found == array).all() and found.shape == shape


def own(folder, images, labels, codes=(0x08, 0x08)):
    for name, array, code in zip(("images", "labels"), (images, labels), codes):
        (folder / name).write_bytes(idx(array, code))
    return f"idx:images={folder}/images,labels={folder}/labels"


def test_bytes_are_divided_by_255_and_other_values_standardised_unless_told(tmp_path):
    pixels, y = np.arange(60, dtype=np.uint8).reshape(20, 3), np.arange(20, dtype=np.uint8) % 2
    spec = own(tmp_path, pixels, y)
    assert set(scaled(load(spec, seed=0, dtype="float64")).X.ravel()) < {i * (1 / 255) for i in range(60)}
    assert np.allclose(load(spec + ",scale=standard", seed=0, dtype="float64").X.std(axis=0), 1)
    assert load(spec + ",scale=none,test=0.1", seed=0, dtype="float64").X.max() > 50
    spec = own(tmp_path, pixels.astype(">i4"), (y / 2).astype(">f4"), (0x0C, 0x0D))
    found = load(spec, seed=0, dtype="float64")
    assert np.allclose(found.X.std(axis=0), 1) and found.classes == 0
    assert "did you mean 'auto'? choices: auto, standard, range, none" in refused(spec + ",scale=auta", UsageError)


def test_images_and_labels_that_are_exchanged_are_noticed(fashion):
    folder = fashion
    spec = f"idx:images={folder}/train-labels-idx1-ubyte.gz,labels={folder}/train-images-idx3-ubyte"
    assert "has 3 axes and the images 1; are they exchanged?" in refused(spec)
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(images.read_bytes()))
    assert "has 3 axes, not 1; are images and labels exchanged?" in refused("fashion-mnist")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda raw: b"", "starts with nothing, not with the magic number of an IDX file"),
        (lambda raw: b"\0\0\x0a" + raw[3:], "starts with 00 00 0a 03, not with the magic number"),
        (lambda raw: b"\0\1\x08" + raw[3:], "starts with 00 01 08 03, not with the magic number"),
        (lambda raw: b"\0\0\x08\0" + raw[4:], "starts with 00 00 08 00, not with the magic number"),
        (lambda raw: b"\0\0\x0d" + raw[3:], "promises 20 × 4 × 5 values in 1600 bytes and holds 400"),
        (lambda raw: raw[:9], "ends before the sizes of its 3 axes"),
        (lambda raw: raw[:-1], "promises 20 × 4 × 5 values in 400 bytes and holds 399; the file is cut off or damaged"),
        (lambda raw: raw + b"\0", "promises 20 × 4 × 5 values in 400 bytes and holds more"),
        (lambda raw: raw[:4] + b"\xff" * 12 + raw[16:], "claims to hold 79228162458924105385300197375 bytes, over"),
        (lambda raw: raw[:4] + b"\0\xff\xff\xff" + raw[8:], "promises 16777215 × 4 × 5 values"),
        (lambda raw: b"\x1f\x8b" + raw, "not a readable IDX file"),
    ],
)
def test_a_damaged_idx_file_is_refused(fashion, damage, message):
    path = fashion / "train-images-idx3-ubyte"
    raw = path.read_bytes()
    for content in (damage(raw), gzip.compress(damage(raw))):
        path.write_bytes(content)
        text = refused("fashion-mnist")
        assert text.startswith(f"{path}: ")
        assert message in text or message.startswith("not a readable") and "magic number" in text


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_a_promise_takes_no_memory_before_it_is_checked(tmp_path, wrap):
    path = tmp_path / "own"
    path.write_bytes(wrap(b"\0\0\x08\x01" + (3 << 30).to_bytes(4, "big")))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="promises 3221225472 values in 3221225472 bytes and holds 0"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_more_axes_than_an_array_can_have_are_refused(tmp_path):
    path = tmp_path / "own"
    path.write_bytes(b"\0\0\x08\x50" + 80 * b"\0\0\0\1" + b"\7")
    with pytest.raises(DataError, match="not a readable IDX file"):
        read_idx(path)


def test_a_limit_on_what_a_file_may_hold_is_kept(fashion, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 399)
    assert "claims to hold 400 bytes, over the limit of 399" in refused("fashion-mnist")


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


SMALL = st.binary(max_size=40)
ALMOST = st.builds(
    lambda code, sizes, rest: bytes([0, 0, code, len(sizes)]) + b"".join(n.to_bytes(4, "big") for n in sizes) + rest,
    st.sampled_from([8, 9, 11, 12, 13, 14]),
    st.lists(st.integers(0, 5), min_size=1, max_size=80),
    SMALL,
)


@pytest.mark.fault("D5")
@settings(deadline=None, max_examples=100, derandomize=True)
@given(images=SMALL | ALMOST | ALMOST.map(gzip.compress), labels=ALMOST)
def test_any_bytes_are_read_or_refused(tmp_path_factory, images, labels):
    folder = tmp_path_factory.getbasetemp()
    (folder / "images").write_bytes(images)
    (folder / "labels").write_bytes(labels)
    try:
        load(f"idx:images={folder}/images,labels={folder}/labels,test=0.5", seed=0, dtype="float32")
    except DataError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
    except UsageError as error:
        assert "leaves no training sample of 1" in str(error)
