"""What happens to data before training: labels, splits, scales; and rows for predictions, which stay as they are."""

import numpy as np
import pytest
from test_data import GENERATED, refused, rows

from dsgd.data import class_numbers, load, load_raw, rescale
from dsgd.errors import DataError, UsageError

X = np.random.default_rng(0).standard_normal((40, 3))
Y = np.arange(40) % 4


@pytest.fixture
def file(tmp_path):
    """A function that writes an .npz and returns its path."""

    def write(**arrays):
        np.savez(tmp_path / "own.npz", **arrays)
        return tmp_path / "own.npz"

    return write


# --- the split


def test_the_parts_are_disjoint_and_together_all(file):
    path = file(X=np.arange(40.0).reshape(40, 1), y=Y)
    one, two = (load(f"{path}:test=0.25,scale=none", seed=seed, dtype="float64") for seed in (1, 2))
    assert (len(one.X), len(one.X_test)) == (30, 10)
    assert rows(np.vstack([one.X, one.X_test])) == rows(np.arange(40.0).reshape(40, 1))
    assert rows(one.X_test) != rows(two.X_test)


@pytest.mark.parametrize("test", ["0", "1", "-0.5", "1.5", "nan"])
def test_a_test_part_is_a_fraction(test):
    assert "is not a fraction between 0 and 1" in refused(f"digits:test={test}", UsageError)


def test_a_test_part_has_a_sample_and_leaves_one(file):
    assert len(load(f"{file(X=X, y=Y)}:test=0.001", seed=0, dtype="float32").X_test) == 1
    assert "leaves no training sample" in refused("teacher:samples=1", UsageError)
    assert "leaves no training sample" in refused("teacher:samples=3,test=0.9", UsageError)


def test_a_test_part_that_is_given_is_used_as_it_is(file):
    own = load(f"{file(X=X, y=Y, X_test=X[:4] + 1, y_test=Y[:4])}:scale=none", seed=0, dtype="float64")
    assert (own.X == X).all() and (own.y == Y).all()
    assert (own.X_test == X[:4] + 1).all() and own.y_test.tolist() == [0, 1, 2, 3]


TEST = dict(X=X, y=Y, X_test=X[:4], y_test=Y[:4])


@pytest.mark.parametrize(
    "arrays, message",
    [
        (TEST | dict(X_test=X[:0], y_test=Y[:0]), "X_test has shape (0, 3) and y_test (0,): they need values"),
        (TEST | dict(y_test=Y[:3]), "X_test has shape (4, 3) and y_test (3,)"),
        (TEST | dict(X_test=X[:4, :2]), "the training part has 3 features and the test part 2"),
        (TEST | dict(y=X, y_test=X[:4, :2]), "the training part has 3 outputs and the test part 2"),
        (TEST | dict(y_test=X[:4, 0]), "are classes here and numbers there; target=class or target=number settles it"),
        (TEST | dict(y_test=Y[:4].astype(str)), "the labels of one part are strings and those of the other numbers"),
        (dict(X=X, y=Y, X_test=X), "the test part has features or labels only"),
        (dict(X=X, y=Y, y_test=Y), "the test part has features or labels only"),
        (TEST | dict(X_test=np.full((4, 3), np.nan)), "X_test[0, 0] is nan"),
    ],
)
def test_a_test_part_that_does_not_fit_is_refused(file, arrays, message):
    assert message in refused(file(**arrays))


def test_holding_samples_back_from_what_has_a_test_part_is_refused(file):
    assert "there is a test part already" in refused(f"{file(**TEST)}:test=0.2", UsageError)


# --- labels


@pytest.mark.parametrize("kind", ["int8", "uint64", "int64", "U", "S"])
def test_labels_of_any_kind_are_numbered_from_0(file, kind):
    labels = np.array([9, 30, 77, 5]).astype(kind)
    own = load(f"{file(X=X, y=labels[Y])}:scale=none", seed=0, dtype="float64")
    names = sorted(["9", "30", "77", "5"]) if kind in "US" else [5, 9, 30, 77]
    assert own.classes == own.outputs == 4 and list(own.labels) == names and own.y.dtype == np.intp
    given = {tuple(x): label for x, label in zip(X.tolist(), labels[Y].astype("U"))}
    assert all(str(own.labels[y]) == given[tuple(x)] for x, y in zip(own.X.tolist(), own.y))


def test_bool_labels_are_0_and_1(file):
    own = load(str(file(X=X, y=Y > 1)), seed=0, dtype="float32")
    assert own.labels == (0, 1) and not any(isinstance(label, bool) for label in own.labels)


def test_a_class_may_appear_in_one_part_only(file):
    """The numbering is over both parts together, whatever their dtypes."""
    parts = dict(y=np.array([7, 3] * 20, np.uint64), y_test=np.array([5, -1, 7, 3], np.int8))
    own = load(str(file(**TEST | parts)), seed=0, dtype="float32")
    assert own.labels == (-1, 3, 5, 7) and own.y[:2].tolist() == [3, 1] and own.y_test.tolist() == [2, 0, 3, 1]
    assert "y holds one class only (3)" in refused(file(X=X, y=0 * Y + 3))
    assert "y holds one class only ('a')" in refused(file(X=X, y=np.array(["a"] * 40)))


@pytest.mark.parametrize("y, outputs", [(X[:, 0], 1), (X[:, :2], 2), (X[:, :2].astype("float32"), 2), (X > 0, 3)])
def test_other_numbers_are_regression_targets(file, y, outputs):
    own = load(str(file(X=X, y=y)), seed=0, dtype="float32")
    assert (own.classes, own.outputs, own.y.shape, own.y.dtype) == (0, outputs, (32, outputs), "float32")
    assert own.labels == ()


def test_a_target_may_be_forced(file):
    number = load(f"{file(X=X, y=Y)}:target=number", seed=0, dtype="float32")
    assert (number.classes, number.y.shape, number.y.dtype) == (0, (32, 1), "float32")
    for y in (Y * 1.0, Y[:, None], Y):
        assert load(f"{file(X=X, y=y)}:target=class", seed=0, dtype="float32").labels == (0, 1, 2, 3)
    assert "y[1] is 0.5, which is no class; target=number" in refused(f"{file(X=X, y=Y / 2)}:target=class")
    assert "y[0] is nan, which is no class" in refused(f"{file(X=X, y=Y * np.nan)}:target=class")
    assert "y[0] is 1e+300, which is no class" in refused(f"{file(X=X, y=Y + 1e300)}:target=class")
    assert "classes are one to a sample" in refused(f"{file(X=X, y=X)}:target=class")
    assert "y has dtype <U21, not numbers" in refused(f"{file(X=X, y=Y.astype(str))}:target=number")
    assert "did you mean 'number'?" in refused(f"{file(X=X, y=Y)}:target=numbers", UsageError)


def test_labels_find_their_numbers_and_a_stranger_is_named():
    assert class_numbers("f", np.array(["b", "a", "b"]), ("a", "b")).tolist() == [1, 0, 1]
    assert class_numbers("f", np.array([7.0, 3.0]), ("3", "7")).tolist() == [1, 0]
    with pytest.raises(DataError, match="f: the label 'setsa' in y is none of the classes; did you mean 'setosa'"):
        class_numbers("f", np.array(["setosa", "setsa"]), ("setosa", "virginica"))
    with pytest.raises(DataError, match="none of the classes; did you mean '[0-9]+'. there are 1000 of them$"):
        class_numbers("f", np.array([1001]), tuple(range(1000)))
    with pytest.raises(DataError, match="choices: a b, c$"):
        class_numbers("f", np.array(["x"]), ("a\nb", "c"))


# --- scales

COLUMNS = np.column_stack([np.arange(40.0), 255 - 3 * np.arange(40.0), np.full(40, 0.1)])


def test_features_are_standardised_on_the_training_part(file):
    """Mean 0 and deviation 1 there; the test part by the same numbers; a constant column becomes 0, its factor is 1."""
    raw, own = (load(f"{file(X=COLUMNS, y=Y)}{scale}", seed=0, dtype="float64") for scale in (":scale=none", ""))
    assert np.allclose(own.X.mean(axis=0), 0) and np.allclose(own.X.std(axis=0), [1, 1, 0])
    assert np.allclose(own.X_test[:, :2], (raw.X_test[:, :2] - raw.X[:, :2].mean(axis=0)) / raw.X[:, :2].std(axis=0))
    assert not own.X[:, 2].any() and not own.X_test[:, 2].any() and own.factor[2] == 1
    assert raw.offset is None and raw.factor is None


def test_features_are_brought_into_the_range_of_0_to_1(file):
    raw, own = (load(f"{file(X=COLUMNS, y=Y)}:scale={scale}", seed=1, dtype="float64") for scale in ("none", "range"))
    assert own.X.min(axis=0).tolist() == [0, 0, 0] and np.allclose(own.X.max(axis=0), [1, 1, 0])
    low, high = raw.X.min(axis=0), raw.X.max(axis=0)
    assert np.allclose(own.X_test[:, :2], ((raw.X_test - low) / (high - low + (high == low)))[:, :2])
    assert own.X_test.min() < 0 or own.X_test.max() > 1, "fitted on the test part too"


def test_large_sets_are_standardised_block_by_block(file, monkeypatch):
    expected = load(str(file(X=X, y=Y)), seed=0, dtype="float64")
    monkeypatch.setattr("dsgd.data.prepare.BLOCK", 7)
    found = load(str(file(X=X, y=Y)), seed=0, dtype="float64")
    np.testing.assert_allclose(found.X, expected.X, rtol=1e-12)
    np.testing.assert_allclose(found.X_test, expected.X_test, rtol=1e-12)


@pytest.mark.parametrize("top", [1.7e308, 3e-320])
@pytest.mark.parametrize("scale", ["standard", "range"])
def test_what_cannot_be_scaled_is_refused(file, scale, top):
    columns = np.column_stack([X[:, 0], top * np.tile([-1.0, 1.0], 20)])
    with pytest.raises(DataError, match="feature 1 cannot be scaled: it spreads over .*; scale=none"):
        load(f"{file(X=columns, y=Y)}:scale={scale}", seed=0, dtype="float64")
    load(f"{file(X=columns, y=Y)}:scale=none", seed=0, dtype="float64")


def test_a_scale_that_does_not_exist_is_refused(file):
    text = refused(f"{file(X=X, y=Y)}:scale=standart", UsageError)
    assert text == "unknown scale 'standart'; did you mean 'standard'? choices: standard, range, none"


# --- rows for predictions


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spec", ["digits", "digits:test=0.3", *(f"{name}:samples=50" for name in GENERATED)])
def test_the_test_part_of_a_built_in_set_comes_raw_and_scales_to_what_was_tested_on(spec, dtype):
    run, raw = load(spec, seed=3, dtype=dtype), load_raw(spec, seed=3)
    assert raw.X.dtype == np.float64 and raw.names == ()
    assert (rescale(raw.X, run.offset, run.factor, run.dtype.type) == run.inputs(run.X_test)).all()
    y = class_numbers(spec, raw.y, run.labels) if run.classes else raw.y.astype(dtype)
    assert (y == run.y_test).all()
    assert not spec.startswith("digits") or raw.X.max() == 16


@pytest.mark.parametrize("scale", ["standard", "range", "none"])
def test_rows_of_a_file_come_unscaled_and_whole(file, scale):
    path = file(X=X.astype("float32"), y=np.array(list("abcd"))[Y])
    run, raw = load(f"{path}:scale={scale}", seed=0, dtype="float32"), load_raw(f"{path}:scale={scale}", features=3)
    assert (raw.X == X.astype("float32")).all() and raw.y.tolist() == list("abcd") * 10
    assert run.labels == tuple("abcd")
    scaled = rescale(raw.X, run.offset, run.factor, np.float32)
    assert rows(scaled) == rows(np.vstack([run.X, run.X_test]))


def test_a_test_part_is_what_is_predicted(file):
    assert (load_raw(str(file(**TEST))).X == X[:4]).all()


def test_rows_without_labels_are_rows(file):
    raw = load_raw(str(file(X=X.reshape(40, 3, 1))), features=3)
    assert raw.y is None and (raw.X == X).all()
    assert "there are features and no labels" in refused(file(X=X))


def test_rows_that_the_network_cannot_take_are_refused(file):
    path = file(X=X, y=Y)
    with pytest.raises(DataError, match="has 3 features, and the network takes 4"):
        load_raw(str(path), features=4)
    for arrays in (dict(X=X[:0]), dict(X=X, y=Y[:3]), dict(X=np.float64(3)), dict(X=X, y=np.float64(3))):
        with pytest.raises(DataError, match="they need values, and the same number of rows"):
            load_raw(str(file(**arrays)))
    with pytest.raises(DataError, match=r"X\[0, 0\] is nan"):
        load_raw(str(file(X=X * np.nan)))
