"""Pictures: drawn from the files of a run alone, whatever the run could not measure."""

import json
from itertools import combinations
from math import inf, nan

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import dsgd
from dsgd.errors import NonFiniteGradient
from dsgd.plots import comparison, gradients
from dsgd.plots.convergence import draw, figure
from dsgd.plots.runs import read_all
from dsgd.records import CONFIG, MANIFEST, METRICS, SUMMARY


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
    assert [text.get_text() for text in legend.get_texts()] == ["sgd", "training loss", "test loss"]
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


@pytest.mark.parametrize("name, magic", [("picture.png", b"\x89PNG"), ("picture.svg", b"<?xml")])
def test_a_picture_is_drawn_from_a_folder(tmp_path, name, magic):
    dsgd.run(simulate=2, algorithm="dsgd", data="blobs", epochs=2, output=str(tmp_path), no_plot=True)
    draw(tmp_path, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)
    if name.endswith("png"):
        assert (tmp_path / name).stat().st_size > 10000


# --- the comparison


def run(algorithm="sgd", score="test_accuracy", value=0.5, **more):
    """A row of comparison.json; a value of None is a run that diverged after its first record."""
    rows = [{"step": i, "virtual_time": 0.1 * i, score: 0.1 * i, "train_loss": 1 / i} for i in range(1, 4)]
    numbers = {"virtual_seconds": 0.04, "messages": 21600, "bytes": 104_100_000, score: value}
    numbers, rows = (dict.fromkeys(numbers), rows[:1]) if value is None else (numbers, rows)
    known = {"algorithm": algorithm, "ended_by": "not finite" if value is None else "steps", "records": rows}
    return {"test_accuracy": None, "test_r2": None, "test_loss": None} | known | numbers | more


def parts(drawn):
    """(the four axes of bars, the axes of curves)."""
    return drawn.subfigs[0].axes, drawn.subfigs[1].axes[0]


def widths(axes):
    return [bar.get_width() for bar in axes.patches]


def test_bars_of_every_quantity_with_their_values():
    rows = [run(), run("grouped:size=3", value=0.75, virtual_seconds=0.0815, messages=0, bytes=1)]
    bars, _ = parts(comparison.figure(rows))
    assert [axes.get_xlabel() for axes in bars] == ["virtual time", "messages sent", "bytes sent", "test accuracy"]
    assert [widths(axes) for axes in bars] == [[0.04, 0.0815], [21600, 0], [104_100_000, 1], [0.5, 0.75]]
    assert [texts(axes) for axes in bars] == [
        ["40.0 ms", "81.5 ms"],
        ["21,600", "0"],
        ["104.1 MB", "1.0 B"],
        ["0.5", "0.75"],
    ]
    assert [label.get_text() for label in bars[0].get_yticklabels()] == ["sgd", "grouped:\nsize=3"]
    assert bars[0].yaxis_inverted()  # the first on top
    assert [axes.xaxis.get_major_formatter()(0.02) for axes in bars[:3]] == ["20 ms", "20 m", "20 mB"]


def test_a_curve_for_every_run_in_the_colour_of_its_bar():
    rows = [run(f"algorithm-{i}", value=0.1 * i) for i in range(8)]
    bars, curves = parts(comparison.figure(rows))
    assert (curves.get_xlabel(), curves.get_ylabel()) == ("virtual time", "test accuracy")
    assert len(curves.lines) == 8 and len({line.get_color() for line in curves.lines}) == 8
    for line, bar, row in zip(curves.lines, bars[0].patches, rows):
        np.testing.assert_allclose(line.get_xydata(), [(0.1, 0.1), (0.2, 0.2), (0.3, 0.3)])
        assert bar.get_facecolor()[:3] == tuple(int(line.get_color()[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert line.get_label() == row["algorithm"]
    assert [text.get_text() for text in curves.get_legend().get_texts()] == [row["algorithm"] for row in rows]
    assert len({(line.get_linestyle(), line.get_marker()) for line in curves.lines}) > 6  # in print


def test_a_run_that_diverged_is_named_and_hides_nobody():
    rows = [run(), run("parameter-server:consistency=asp", value=None), run("dsgd")]
    bars, curves = parts(comparison.figure(rows))
    for axes in bars:
        assert texts(axes)[1] == "not finite" and widths(axes)[1] == 0 and widths(axes)[2] > 0
    assert [text.get_text() for text in curves.get_legend().get_texts()] == [
        "sgd",
        "parameter-server:\nconsistency=asp\n(not finite)",
        "dsgd",
    ]
    assert [len(line.get_xdata()) for line in curves.lines] == [3, 1, 3]


@pytest.mark.parametrize("value", [-3e17, -inf, nan])
def test_r2_on_the_way_to_infinity_does_not_flatten_the_others(value):
    rows = [run(score="test_r2", value=0.6), run("dsgd", score="test_r2", value=value)]
    rows[1]["records"][2]["test_r2"] = value
    bars, curves = parts(comparison.figure(rows))
    assert bars[3].get_xlabel() == curves.get_ylabel() == "test R²"
    assert texts(bars[3]) == ["0.6", f"{value:.4g}"] and widths(bars[3])[1] in (-1, 0)
    assert -1 <= curves.get_ylim()[0] < curves.get_ylim()[1] <= 1.02


def test_nothing_but_bad_r2_leaves_the_axis_upright():
    rows = [run(score="test_r2", value=-30.0)]
    for row in rows[0]["records"]:
        row["test_r2"] = -30.0
    _, curves = parts(comparison.figure(rows))
    assert curves.get_ylim() == (-1, 0)


def test_a_loss_is_compared_where_there_is_no_other_score():
    bars, curves = parts(comparison.figure([run(score="test_loss", value=2.5)]))
    assert (bars[3].get_xlabel(), curves.get_ylabel(), texts(bars[3])) == ("test loss", "test loss", ["2.5"])


LONG = "parameter-server:servers=2,consistency=asp"
PICTURES = {
    "one": [run()],
    "two": [run(), run("dsgd")],
    "eight": [run(f"{LONG}{i}", value=0.9192, virtual_seconds=0.0947 * i, messages=999_999) for i in range(8)],
    "diverged": [run(score="test_r2", value=0.67), run(LONG, score="test_r2", value=None)],
    "negative": [run(score="test_r2", value=-0.25), run("dsgd", score="test_r2", value=0.9)],
}


def ticks(axis):
    """The labels that are drawn: those of ticks within the limits."""
    low, high = sorted(axis.get_view_interval())
    return [label for at, label in zip(axis.get_ticklocs(), axis.get_ticklabels()) if low <= at <= high]


@pytest.mark.parametrize("name, dpi", [*((name, 80) for name in PICTURES), ("eight", 160)])
def test_nothing_that_is_written_overlaps(name, dpi):
    drawn = comparison.figure(PICTURES[name])
    drawn.set_dpi(dpi)
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    bars, curves = parts(drawn)
    written = [*ticks(bars[0].yaxis), *ticks(curves.xaxis), *ticks(curves.yaxis), *curves.get_legend().get_texts()]
    for axes in bars:
        written += [*axes.texts, *ticks(axes.xaxis), axes.xaxis.label]
        assert all(text.get_window_extent().x1 <= axes.bbox.x1 for text in axes.texts)
    boxes = [(t.get_text(), t.get_window_extent()) for t in (*written, curves.xaxis.label, curves.yaxis.label)]
    for (one, box), (other, at) in combinations(boxes, 2):
        assert not box.overlaps(at), (one, other)
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= drawn.bbox.x1 and box.y1 <= drawn.bbox.y1, text


# --- gradients


def gradient(step, *rms, verdict=None):
    return {"step": step, "gradient_rms": list(rms), "verdict": verdict}


FINE = [gradient(i, 0.5 * i, 0.1, 0.25) for i in range(1, 6)]
VANISHING = [gradient(i, 1e-9, 1e-4, 1e-2, verdict="vanishing" if i > 3 else None) for i in range(1, 6)]


def ratios(axes):
    """{label: (steps, ratios)} of its lines, the marks of verdicts among them."""
    return {line.get_label(): [list(values) for values in line.get_data()] for line in axes.lines}


def test_gradients_by_layer_in_the_first_the_middle_and_the_last_record():
    layers, _ = gradients.figure({"fine": FINE}).axes
    assert [(list(line.get_ydata()), line.get_linestyle()) for line in layers.lines] == [
        ([0.5, 0.1, 0.25], ":"),
        ([1.5, 0.1, 0.25], "--"),
        ([2.5, 0.1, 0.25], "-"),
    ]
    assert list(layers.lines[0].get_xdata()) == [0, 1, 2] and layers.get_yscale() == "log"
    assert len(gradients.figure({"one": FINE[:1]}).axes[0].lines) == 1


def test_the_first_layers_gradient_over_the_lasts_and_where_it_vanished():
    _, axes = gradients.figure({"fine": FINE, "small": VANISHING}).axes
    found = ratios(axes)
    assert found["fine"] == [[1, 2, 3, 4, 5], [2, 4, 6, 8, 10]]
    np.testing.assert_allclose(found["small"], [[1, 2, 3, 4, 5], [1e-7] * 5])
    np.testing.assert_allclose(found["_vanishing"], [[4, 5], [1e-7] * 2])
    assert "_exploding" not in found
    assert texts(axes) == ["vanishing", "vanishing: under 0.0001"] and axes.texts[0].xy == (4, pytest.approx(1e-7))
    legend = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert legend == ["fine", "small", "first record", "middle record", "last record"]
    assert {line.get_color() for line in axes.lines[:1]} != {line.get_color() for line in axes.lines[1:3]}


NOT_FINITE = [None, [], [None, None, None], [inf, 1.0, inf], [nan, 2.0, 1.0], [1.0, 2.0, None], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("rms", NOT_FINITE, ids=str)
def test_a_gradient_that_exploded_is_marked_at_the_last_ratio_there_was(rms):
    end = {"step": 6, "gradient_rms": rms, "verdict": "exploding"}
    layers, axes = gradients.figure({"run": [*FINE, end]}).axes
    assert ratios(axes)["_exploding"] == [[6], [10]] and texts(axes)[0] == "exploding"
    drawn = np.concatenate([line.get_ydata() for line in layers.lines])
    assert not np.isinf(drawn).any()


def test_a_gradient_that_exploded_at_once_is_marked_too():
    layers, axes = gradients.figure({"run": [{"step": 1, "gradient_rms": None, "verdict": "exploding"}]}).axes
    assert ratios(axes)["_exploding"] == [[1], [1]] and not layers.lines


def test_one_layer_has_a_ratio_of_one():
    _, axes = gradients.figure({"run": [gradient(1, 0.5), gradient(2, 0.25)]}).axes
    assert ratios(axes)["run"] == [[1, 2], [1, 1]]


def watched(path, *rows, finished=True):
    path.mkdir()
    files = {
        METRICS: rows,
        CONFIG: [{"algorithm": "sgd", "seed": 0, "batch_size": 32, "data": "digits", "loss": "auto"}],
        MANIFEST: [{"format": 1}],
    }
    for name, lines in (files | {SUMMARY: [{"steps": 1}]} if finished else files).items():
        (path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_gradients_are_read_from_folders_and_those_left_out_are_named(tmp_path):
    exploded = {"step": 2, "gradient_rms": None, "gradient_norm": None, "verdict": "exploding"}
    folders = [
        watched(tmp_path / "whole", *FINE, {"step": 9, "gradient_rms": None, "verdict": None}),
        watched(tmp_path / "exploded", FINE[0], exploded, finished=False),
        watched(tmp_path / "none", {"step": 1}),
    ]
    runs, (none,) = read_all(folders, gradients.read)
    assert {label: run.records for label, run in runs.items()} == {"whole": FINE, "exploded": [FINE[0], exploded]}
    legend = [text.get_text() for text in gradients.figure_of(runs).legends[0].get_texts()]
    assert legend[:2] == ["whole", "exploded (broken off)"]
    assert str(none) == f"{tmp_path / 'none'} has no records of gradients; --log-every 1 makes one in every step"


def test_the_run_that_explodes_at_once_is_drawn_from_its_folder(tmp_path):
    """The last of the three that the module's docstring names."""
    deep = dict(hidden=",".join(["16"] * 20), init="he:gain=3", log_every=1, epochs=1)
    with pytest.raises(NonFiniteGradient):
        dsgd.run(**deep, output=tmp_path / "deep", no_plot=True)
    run = gradients.read(tmp_path / "deep")
    rows = run.records
    assert [row["step"] for row in rows] == [1, 2] and rows[1]["verdict"] == "exploding"
    _, axes = gradients.figure_of({"deep": run}).axes
    assert ratios(axes)["_exploding"] == [[2], ratios(axes)["deep (broken off)"][1][:1]]
