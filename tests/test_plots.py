"""Pictures: drawn from the files of a run alone, whatever the run could not measure."""

import json

import pytest

from dsgd.plots.convergence import draw, figure
from dsgd.records import METRICS, SUMMARY


def records(accuracy=True, virtual=True):
    rows = []
    for step in range(1, 7):
        row = {
            "step": step,
            "train_loss": 1 / step,
            "time": 0.5 * step,
            "virtual_time": 0.1 * step if virtual else None,
        }
        if step % 3 == 0:  # the end of an epoch
            row |= {"test_loss": 2 / step, "test_accuracy": step / 10 if accuracy else None}
        rows.append(row)
    return rows


def lines(axes):
    return [(line.get_xdata(), line.get_ydata()) for line in axes.lines]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_loss_and_accuracy_against_steps_and_time():
    loss, loss_in_time, accuracy, accuracy_in_time = figure({"sgd": records()}).axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("mean loss", "test accuracy")
    assert (accuracy.get_xlabel(), accuracy_in_time.get_xlabel()) == ("step", "virtual time (s)")
    assert [list(values) for values in lines(loss)[0]] == [[1, 2, 3, 4, 5, 6], [1 / step for step in range(1, 7)]]
    assert [list(values) for values in lines(loss)[1]] == [[3, 6], [2 / 3, 1 / 3]]
    assert [list(values) for values in lines(accuracy_in_time)[0]] == [[0.1 * 3, 0.1 * 6], [0.3, 0.6]]
    (legend,) = loss.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["sgd, training", "sgd, test"]
    assert len(lines(loss_in_time)) == 2 and not texts(accuracy)


def test_without_a_virtual_clock_time_is_time():
    assert figure({"sgd": records(virtual=False)}).axes[3].get_xlabel() == "time (s)"
    both = figure({"simulated": records(), "mpi": records(virtual=False)})
    assert both.axes[3].get_xlabel() == "time (s)" and len(lines(both.axes[0])) == 4


def test_regression_has_no_accuracy_and_says_so():
    accuracy = figure({"sgd": records(accuracy=False)}).axes[2]
    assert texts(accuracy) == ["neither accuracy nor R²"]


@pytest.mark.parametrize(
    "runs", [{"none": []}, {"one": records()[:1]}, {str(i): records() for i in range(9)}], ids=["none", "one", "nine"]
)
def test_any_number_of_records_and_runs(runs):
    assert len(figure(runs).axes) == 4


def folder(path, algorithm, finished=True):
    path.mkdir()
    (path / METRICS).write_text("".join(json.dumps(row) + "\n" for row in records()))
    if finished:
        (path / SUMMARY).write_text(json.dumps({"algorithm": algorithm}))
    return path


@pytest.mark.parametrize("name, magic", [("picture.png", b"\x89PNG"), ("picture.svg", b"<?xml")])
def test_a_picture_is_drawn_from_folders(tmp_path, name, magic):
    runs = [
        folder(tmp_path / "a", "dsgd"),
        folder(tmp_path / "b", "dsgd"),
        folder(tmp_path / "c", "sgd", finished=False),
    ]
    draw(runs, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)
    if name.endswith("png"):
        assert (tmp_path / name).stat().st_size > 10000
