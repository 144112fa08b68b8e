"""Pictures of several runs: seeds as bands, what was sent, speed-up; nothing that is written in any of them overlaps."""

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import dsgd
from dsgd.errors import DataError, UsageError
from dsgd.plots import convergence, gradients, speedup, staleness, volume
from dsgd.plots.runs import read_run

TASK = dict(data="digits", hidden="8", batch_size=64, epochs=2, algorithm="dsgd", no_plot=True, quiet=True)
LONG = "parameter-server:servers=2,consistency=backup,b=2,cancel=true"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{label: Run}: 1, 2 and 4 workers, three seeds of 4, and a parameter server."""
    folder = tmp_path_factory.mktemp("runs")
    cases = {f"workers-{p}": dict(simulate=p) for p in (1, 2, 4)}
    cases |= {f"seed-{seed}": dict(simulate=4, seed=seed) for seed in (1, 2)}
    cases["server"] = dict(simulate=5, algorithm="parameter-server")
    for name, flags in cases.items():
        dsgd.run(**TASK | flags, output=str(folder / name))
    return {name: read_run(folder / name) for name in cases}


def legend(drawn):
    return [text.get_text() for text in drawn.legends[0].get_texts()]


# --- seeds, bytes


def test_runs_that_differ_in_their_seed_alone_are_one_line(runs):
    drawn = convergence.figure_of(runs)
    assert legend(drawn)[:-2] == [
        "workers-1: dsgd",
        "workers-2: dsgd",
        "workers-4 to seed-2: dsgd, 3 seeds",
        "server: parameter-server",
    ]
    accuracy = drawn.axes[2]
    (band,) = accuracy.collections
    seeds = [runs[name].records[-1]["test_accuracy"] for name in ("workers-4", "seed-1", "seed-2")]
    assert accuracy.lines[2].get_ydata()[-1] == sorted(seeds)[1]
    edges = [y for x, y in band.get_paths()[0].vertices if x == runs["seed-1"].records[-1]["step"]]
    assert (min(edges), max(edges)) == (min(seeds), max(seeds))


def test_the_same_run_twice_is_two_lines(runs):
    run = runs["workers-4"]
    assert len(convergence.figure_of({"one": run, "resumed": run}).axes[2].lines) == 2


@pytest.mark.parametrize("fact", [{"backend": "mpi"}, {"ranks": 5}], ids=str)
def test_seeds_of_another_world_are_another_line(runs, fact):
    other = runs["seed-1"]._replace(manifest=runs["seed-1"].manifest | fact)
    assert len(convergence.figure_of({"one": runs["workers-4"], "other": other}).axes[2].lines) == 2


def test_bytes_of_a_synchronous_run_are_exact_between_its_ends(runs):
    """A run half as long has sent what the long one had by then."""
    half = dsgd.run(**TASK | dict(simulate=4, epochs=1))
    rows = convergence.with_bytes(runs["workers-4"])
    assert rows[0]["epoch"] == half.records[-1]["epoch"]
    assert rows[0]["bytes"] == pytest.approx(half.summary["bytes_sent"], rel=1e-3)
    assert rows[-1]["bytes"] == runs["workers-4"].summary["bytes_sent"]


@pytest.mark.parametrize("x", convergence.AXES)
def test_one_quantity_alone(runs, x):
    drawn = convergence.figure_of({"one": runs["workers-2"]}, x)
    assert len(drawn.axes) == 2 and len(drawn.axes[0].lines) == 2 and len(drawn.axes[0].lines[0].get_xdata()) == 2
    assert drawn.axes[1].get_xlabel() == ("virtual time (s)" if x == "time" else convergence.AXES[x])


# --- volume


def test_the_volume_of_a_tree_is_the_least_there_is_and_16_bytes_a_message(runs):
    found = volume.volume_of(runs["workers-4"])
    parameters = 64 * 8 + 8 + 8 * 10 + 10
    assert found["bound"] == 2 * 3 * 4 * parameters and found["messages_a_step"] == 6
    assert found["bytes_a_step"] == found["bound"] + 6 * 16  # the head of each message: samples and loss
    assert volume.volume_of(runs["workers-1"])["bound"] == 0


def test_what_a_server_sends_is_told_apart(runs):
    found = volume.volume_of(runs["server"])
    assert 0 < found["served"]["bytes"] < found["bytes"] == runs["server"].summary["bytes_sent"]
    bars = volume.figure({"server": found}).axes[0].patches
    assert [bar.get_width() for bar in bars] == [found["bytes"] - found["served"]["bytes"], found["served"]["bytes"]]


def test_a_run_that_is_not_over_or_lacks_a_count_has_no_volume(runs, tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UsageError, match="the run is not over"):
        volume.volume_of(runs["server"]._replace(summary=None))
    with pytest.raises(DataError, match="no bytes_sent"):
        volume.volume_of(runs["server"]._replace(folder=tmp_path))


# --- speed-up


def test_speed_up_and_efficiency_over_the_fewest_workers():
    speed, efficiency = speedup.figure({"sgd": {2: 100.0, 8: 300.0, 4: 200.0}}).axes
    assert [list(values) for values in speed.lines[0].get_data()] == [[2, 4, 8], [1, 2, 3]]
    assert [list(values) for values in speed.lines[1].get_data()] == [[2, 4, 8], [1, 2, 4]]  # ideal
    assert list(efficiency.lines[0].get_ydata()) == [1, 1, 0.75]


def test_samples_a_second_are_of_the_virtual_clock_and_the_scaling_is_named(runs):
    strong = {name: runs[name] for name in ("workers-1", "workers-2", "workers-4", "server")}
    lines, left = speedup.lines_of(strong)
    assert not left
    assert list(lines) == ["dsgd, batch of 64", "parameter-server, batch of 64"]
    last = runs["workers-2"].records[-1]
    assert lines["dsgd, batch of 64"][2] == last["samples"] / last["virtual_time"]
    weak = {n: runs[f"workers-{n}"] for n in (1, 2, 4)}
    weak = {n: run._replace(config=run.config | {"batch_size": 64 * n}) for n, run in weak.items()}
    assert list(speedup.lines_of(weak)[0]) == ["dsgd, weak scaling, 64 a worker"]
    mixed, left = speedup.lines_of(weak | {5: runs["workers-4"]})  # one worker is the base of both
    assert {line: sorted(mixed[line]) for line in mixed} == {
        "dsgd, batch of 64": [1, 4],
        "dsgd, weak scaling, 64 a worker": [1, 2, 4],
    }
    odd = runs["workers-4"]._replace(config=runs["workers-4"].config | {"batch_size": 100})
    assert not left and speedup.lines_of(weak | {"odd": odd}) == (speedup.lines_of(weak)[0], ["odd"])


def test_of_several_runs_of_one_number_the_median_counts(runs):
    record = runs["workers-2"].records[-1]
    repeated = {i: runs["workers-2"]._replace(records=[record | {"virtual_time": t}]) for i, t in enumerate((1, 2, 9))}
    (line,) = speedup.lines_of(repeated)[0].values()
    assert line == {2: record["samples"] / 2}


def test_a_run_of_another_task_is_named_and_left_out(runs, tmp_path):
    dsgd.run(**TASK | dict(data="blobs"), simulate=2, output=str(tmp_path / "blobs"))
    read = speedup.reader()
    read(runs["workers-1"].folder)
    with pytest.raises(UsageError, match="blobs is left out: its data is 'blobs', that of the first run 'digits'"):
        read(tmp_path / "blobs")


# --- convergence: no run hides another


def test_runs_of_one_algorithm_in_folders_of_its_name_are_two_lines(runs):
    one = runs["workers-2"]
    pair = {f"{n}-dsgd": one._replace(config=one.config | {"lr": lr}) for n, lr in ((8, 0.1), (9, 0.001))}
    drawn = convergence.figure_of(pair)
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert labels[:2] == ["8-dsgd: dsgd", "9-dsgd: dsgd"]


@pytest.mark.parametrize("flag, other", [("lr", 0.5), ("compute", "constant:seconds=1")])
def test_runs_that_differ_in_more_than_the_seed_are_no_band(runs, flag, other):
    one = runs["workers-2"]
    pair = {"a": one, "b": one._replace(config=one.config | {"seed": 1, flag: other})}
    assert [text.get_text() for text in convergence.figure_of(pair).legends[0].get_texts()][:2] == [
        "a: dsgd",
        "b: dsgd",
    ]


def test_bytes_of_a_run_that_is_not_over_are_not_drawn(runs, capsys):
    over, broken = runs["workers-2"], runs["workers-4"]._replace(summary=None)
    drawn = convergence.figure_of({"over": over, "broken": broken}, x="bytes")
    assert [text.get_text() for text in drawn.legends[0].get_texts()][0] == "over: dsgd"
    assert "is not over: it has no summary.json" in capsys.readouterr().err
    with pytest.raises(UsageError, match="is not over"):
        convergence.figure_of({"broken": broken}, x="bytes")


def test_the_least_counts_bytes_of_the_dtype_and_is_no_bound_without_a_sum(runs, tmp_path):
    run = runs["workers-2"]
    bound = volume.volume_of(run)["bound"]
    assert volume.volume_of(run._replace(config=run.config | {"dtype": "float64"}))["bound"] == 2 * bound > 0
    layers = run._replace(config=run.config | {"algorithm": "model-parallel"})
    assert volume.volume_of(layers)["bound"] is None


def test_a_run_on_another_network_or_under_faults_is_another_task(runs, tmp_path):
    read = speedup.reader()
    read(runs["workers-1"].folder)
    for flag, other in (("network", "uniform:latency=1.0"), ("faults", "slow:rank=0,x=2")):
        dsgd.run(**TASK, simulate=2, output=str(tmp_path / flag), **{flag: other})
        with pytest.raises(UsageError, match=f"its {flag} is"):
            read(tmp_path / flag)


# --- what is written


ROWS = [
    {"step": i, "train_loss": 1 / i, "test_loss": 2 / i, "test_accuracy": 1 - 1 / i, "virtual_time": 0.01 * i}
    | {"gradient_rms": [0.1 / i, 0.2], "verdict": None}
    for i in range(1, 5)
]
SENT = {"bytes": 75.7e6, "bytes_a_step": 420.7e3, "messages_a_step": 24.1, "bound": 368e3}
FIGURES = {
    "convergence": lambda names: convergence.figure({name: ROWS for name in names}),
    "gradients": lambda names: gradients.figure({name: ROWS for name in names}),
    "staleness": lambda names: staleness.figure({name: [(0, 0), (1, 3)] for name in names}),
    "volume": lambda names: volume.figure({name: SENT | {"served": {"bytes": 1e6}} for name in names}),
    "speedup": lambda names: speedup.figure(
        {name: {p: 9.0 + p for p in (1, 2, 3, 4, 5, 6, 7, 8, 60, 64, 100)} for name in names}
    ),
}
NAMES = {"one": ["sgd"], "eight": [f"runs/{i}: {LONG}" for i in range(8)]}


def written(axes):
    """The boxes of all texts of some axes that are drawn; of ticks those within the limits."""
    texts = [*axes.texts, axes.xaxis.label, axes.yaxis.label, axes.title]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for ticks in (axis.get_major_ticks(), axis.get_minor_ticks()):
            texts += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [text for text in texts if text.get_text() and text.get_visible()]


@pytest.mark.parametrize("many, dpi", [("one", 160), ("eight", 80)])
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_that_is_written_overlaps_and_the_legend_hides_no_data(name, many, dpi):
    drawn = FIGURES[name](NAMES[many])
    drawn.set_dpi(dpi)
    FigureCanvasAgg(drawn).draw()
    texts = [text for axes in drawn.axes for text in written(axes)] + drawn.legends[0].get_texts()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for (one, box), (other, at) in combinations(boxes, 2):
        assert not box.overlaps(at), (one, other)
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= drawn.bbox.x1 and box.y1 <= drawn.bbox.y1, text
    legend = drawn.legends[0].get_window_extent()
    assert not any(legend.overlaps(axes.bbox) for axes in drawn.axes)
