"""The figure of bsp, backup, ssp and asp: which of them is first at 0.95, with and without a straggler, and when asp loses."""

import json

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.consistency import LR, MODELS, STRAGGLER, TOO_LARGE, time_to, train
from dsgd.errors import UsageError
from dsgd.plots.bands import draw_band, value
from dsgd.plots.consistency import figure, read

EPOCHS = 16
INFINITY = float("inf")


@pytest.fixture(scope="module")
def results():
    """{(consistency, faults): Result} of one seed, of fewer epochs than in the figure."""
    cases = [(model, faults) for model in MODELS for faults in ("", STRAGGLER)]
    return {case: train(case[0], MODELS[case[0]], case[1], seed=0, epochs=EPOCHS) for case in cases}


def order(results, faults):
    times = {name.partition(",")[0]: time_to(results[name, faults].records, 0.94) for name in MODELS}
    assert max(times.values()) < INFINITY, times
    return sorted(times, key=times.get), times


def test_without_a_straggler_who_waits_less_is_first(results):
    assert order(results, "")[0] == ["asp", "ssp", "backup", "bsp"]


def test_with_a_straggler_only_those_who_do_not_wait_for_it_are_fast(results):
    names, times = order(results, STRAGGLER)
    assert names == ["asp", "backup", "ssp", "bsp"]
    assert times["ssp"] > 3 * times["backup"]


def test_asp_loses_where_its_step_is_too_large_for_its_staleness(results):
    """bsp takes a step three times as large."""
    late = train("asp", TOO_LARGE, "", seed=0, epochs=EPOCHS)
    assert late.summary["mean_staleness"] == pytest.approx(15, abs=0.5) and MODELS["bsp"] == LR == 3 * TOO_LARGE
    assert time_to(late.records, 0.94) == INFINITY > order(results, "")[1]["bsp"]


def test_seeds_are_a_band_and_faults_a_panel(results):
    runs = [(name, faults, result.records) for (name, faults), result in results.items()]
    runs += [(name, faults, rows[:-1]) for name, faults, rows in runs]
    drawn = figure(runs)
    FigureCanvasAgg(drawn).draw()
    left, right = drawn.axes
    assert (left.get_title(), right.get_title()) == ("no straggler", STRAGGLER)
    assert len(left.lines) == len(right.lines) == 4 == len(left.collections)
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == list(MODELS)


def test_a_band_goes_from_the_least_to_the_largest_where_all_curves_are():
    axes = figure([("a", "", [{"step": 1, "virtual_time": 1, "train_loss": 1}])]).axes[0]
    draw_band(axes, [([1, 2, 4], [4, 2, 1]), ([2, 3, 5], [8, 6, 2]), ([1, 3, 4], [3, 3, 3])], label="b", color="red")
    line = axes.lines[-1]
    assert line.get_xdata()[[0, -1]].tolist() == pytest.approx([2, 4]) and line.get_ydata()[0] == 3
    assert value([1, 3], [10, 20], 2) == 15 and value([1, 3], [10, 20], 9) == 20 and value([5], [7], 1) == 7


def test_curves_with_nothing_in_common_are_points():
    axes = figure([("a", "", [{"step": 1, "virtual_time": 1, "train_loss": 1}])]).axes[0]
    draw_band(axes, [([2], [5]), ([1], [4])], color="red")
    assert axes.lines[-1].get_xydata().tolist() == [[1, 4], [2, 5]] and axes.lines[-1].get_linestyle() == "None"


def test_a_folder_that_is_no_simulated_run_is_named(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"algorithm": "sgd", "faults": "", "seed": 0, "batch_size": 32, "data": "digits", "loss": "auto"})
    )
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1}))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "train_loss": 1.0, "virtual_time": None}) + "\n")
    with pytest.raises(UsageError, match="has no virtual times"):
        read(tmp_path)
