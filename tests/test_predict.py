"""Predictions of a trained network: what the run itself would have said, from a file as the user has it."""

import csv
import json
import os

import numpy as np
import pytest

import dsgd
from dsgd.metrics import decide
from dsgd.predict import Model, main, probability
from launching import python


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    """A folder with flowers.csv, far from the origin so that scaling counts, and a run trained on it."""
    folder = tmp_path_factory.mktemp("iris")
    generator = np.random.default_rng(0)
    kinds = np.array(["setosa", "virginica", "versicolor"])[np.arange(150) % 3]
    X = 1000 + 50 * generator.standard_normal((150, 4)) + 100 * (np.arange(150) % 3)[:, None]
    lines = ["a,b,c,d,kind", *(",".join([*map(repr, row), kind]) for row, kind in zip(X.tolist(), kinds))]
    (folder / "flowers.csv").write_text("\n".join(lines) + "\n")
    (folder / "unlabelled.csv").write_text(
        "\n".join(["a,b,c,d", *(line.rpartition(",")[0] for line in lines[1:])]) + "\n"
    )
    data = f"{folder / 'flowers.csv'}:label=kind"
    result = dsgd.run(data=data, hidden="8", epochs=30, output=str(folder / "run"), no_plot=True)
    assert result.summary["test_accuracy"] > 0.8
    return folder


def test_the_predictions_on_the_training_file_are_the_networks(iris, capsys):
    assert main([str(iris / "run"), f"{iris / 'flowers.csv'}:label=kind"]) == 0
    head, *found = rows(iris / "run" / "predictions.csv")
    kinds = [line.rpartition(",")[2] for line in (iris / "flowers.csv").read_text().splitlines()[1:]]
    right = np.mean([row[1] == kind for row, kind in zip(found, kinds, strict=True)])
    assert head == ["row", "class", "probability"] and [row[0] for row in found] == [str(i) for i in range(150)]
    assert capsys.readouterr().out.startswith(f"accuracy {right:.4f} of 150 rows, ") and right > 0.8
    assert all(1 / 3 <= float(row[2]) <= 1 for row in found)


def test_rows_without_labels_get_the_same_predictions(iris, tmp_path, capsys):
    output = tmp_path / "there.csv"
    assert main([str(iris / "run"), str(iris / "unlabelled.csv"), "--output", str(output)]) == 0
    assert "accuracy" not in capsys.readouterr().out
    main([str(iris / "run"), f"{iris / 'flowers.csv'}:label=kind"])
    assert rows(output) == rows(iris / "run" / "predictions.csv")


@pytest.mark.parametrize("flags", [{}, {"dropout": 0.5, "activation": "gelu"}, {"dtype": "float64"}])
def test_the_score_on_the_test_part_is_that_of_the_summary(flags, tmp_path, capsys):
    """Nothing is dropped, and the test part of a data set by name is the run's."""
    result = dsgd.run(data="digits", hidden="16", epochs=3, seed=5, output=str(tmp_path), no_plot=True, **flags)
    main([str(tmp_path), "digits"])
    assert f"accuracy {result.summary['test_accuracy']:.4f} of 359 rows" in capsys.readouterr().out


def test_two_classes_with_one_output(tmp_path, capsys):
    flags = dict(data="moons", loss="binary-cross-entropy", hidden="16", epochs=5, output=str(tmp_path), no_plot=True)
    result = dsgd.run(**flags)
    main([str(tmp_path), "moons"])
    assert f"accuracy {result.summary['test_accuracy']:.4f} of 200 rows" in capsys.readouterr().out
    assert {row[1] for row in rows(tmp_path / "predictions.csv")[1:]} == {"0", "1"}


def test_a_regression(tmp_path, capsys):
    flags = dict(data="linear:outputs=2", hidden="", epochs=20, output=str(tmp_path), no_plot=True)
    result = dsgd.run(**flags)
    main([str(tmp_path), "linear:outputs=2"])
    assert f"R² {result.summary['test_r2']:.4f} of 200 rows" in capsys.readouterr().out
    assert rows(tmp_path / "predictions.csv")[0] == ["row", "output 0", "output 1"]


def test_the_probability_is_the_softmax_or_the_sigmoid_of_the_class_that_is_chosen():
    z = np.random.default_rng(0).standard_normal((20, 5)) * 3
    softmax = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probability(z), softmax[range(20), decide(z)], rtol=1e-12)
    one = z[:, :1]
    sigmoid = 1 / (1 + np.exp(-one[:, 0]))
    np.testing.assert_allclose(probability(one), np.where(decide(one), sigmoid, 1 - sigmoid), rtol=1e-12)
    assert np.isfinite(probability(np.array([[1e4, -1e4], [-1e4, 1e4]]))).all()


@pytest.mark.parametrize(
    "argv, code, message",
    [
        (["{run}/none", "digits"], 2, "holds no trained network: it has no config.json"),
        (["{run}", "none.csv"], 65, "no such file"),
        (["{run}", "digits"], 65, "has 64 features, and the network takes 4"),
        (["{run}", "digit"], 2, "did you mean 'digits'"),
        (["{run}"], 2, "required: DATA"),
        (["{run}", "{run}/../flowers.csv", "--output", "/proc/none/x.csv"], 2, "--output /proc/none/x.csv: "),
    ],
)
def test_what_cannot_be_predicted_is_one_line(iris, argv, code, message):
    ended = python("-m", "dsgd.predict", *(word.format(run=iris / "run") for word in argv), cwd=iris)
    assert (ended.code, ended.out) == (code, "") and message in ended.err and ended.err.count("\n") == 1, ended


def test_targets_that_the_network_was_not_trained_for_are_refused(tmp_path):
    dsgd.run(data="linear:features=4", hidden="", steps=2, output=str(tmp_path / "run"), no_plot=True)
    X = np.ones((3, 4))
    for name, y in (("words", np.array(["a", "b", "a"])), ("wide", np.ones((3, 2)))):
        np.savez(tmp_path / f"{name}.npz", X=X, y=y)
        ended = python("-m", "dsgd.predict", tmp_path / "run", tmp_path / f"{name}.npz")
        assert ended.code == 65 and "are not the 1 numbers" in ended.err and ended.err.count("\n") == 1, ended
    np.savez(tmp_path / "huge.npz", X=1e300 * X)
    ended = python("-m", "dsgd.predict", tmp_path / "run", tmp_path / "huge.npz")
    assert ended.code == 65 and "too large for float32" in ended.err, ended


@pytest.mark.fault("K2")
@pytest.mark.parametrize(
    "damage",
    [
        {"activation": "rulu"}, {"offset": [1.0]}, {"labels": ["a"]}, {"widths": [2, "x", 2]}, {"widths": None}, {"factor": "a"},
    ],
)  # fmt: skip
def test_a_damaged_model_is_named(damage, tmp_path):
    dsgd.run(data="moons", hidden="4", steps=2, output=str(tmp_path), no_plot=True)
    model = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(model | damage))
    ended = python("-m", "dsgd.predict", tmp_path, "moons")
    assert ended.code == 65 and "model.json" in ended.err and ended.err.count("\n") == 1, ended


def test_a_model_needs_nothing_but_its_folder(iris):
    assert Model(iris / "run").labels == ["setosa", "versicolor", "virginica"]


def test_training_rows_are_said_to_be_some(iris, tmp_path, capsys):
    """An accuracy on rows that were trained on is no test."""
    dsgd.run(data="moons", hidden="4", steps=2, output=str(tmp_path), no_plot=True)
    for data, said in (("moons", False), ("moons:test=0.9", True)):
        main([str(tmp_path), data])
        assert ("was trained on some of these rows" in capsys.readouterr().out) == said
    main([str(iris / "run"), f"{iris / 'flowers.csv'}:label=kind"])
    assert "was trained on some of these rows" in capsys.readouterr().out


def test_a_link_is_followed_and_a_device_is_no_file(iris, tmp_path):
    target, link = tmp_path / "there.csv", tmp_path / "link.csv"
    link.symlink_to(target)
    main([str(iris / "run"), str(iris / "unlabelled.csv"), "--output", str(link)])
    assert link.is_symlink() and len(rows(target)) == 151
    main([str(iris / "run"), str(iris / "unlabelled.csv"), "--output", "/dev/null"])
    assert not os.path.isfile("/dev/null")
