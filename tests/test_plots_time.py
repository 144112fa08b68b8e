"""The pictures of asynchrony: the Gantt chart of a trace, and how stale the applied pushes were."""

import json
import runpy
import sys

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import dsgd
from dsgd.plots import staleness, timeline

RUN = dict(simulate=16, steps=5, data="digits", hidden="16", batch_size=256, no_plot=True, quiet=True, trace=True)
RUN |= dict(algorithm="parameter-server:consistency=asp", faults="slow:rank=3,x=10")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    dsgd.run(**RUN, output=str(folder))
    return folder


def command(module, *argv):
    """What `python -m dsgd.plots.NAME ARGV` ends with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["plots", *map(str, argv)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(module.__file__, run_name="__main__")
    return ended.value.code


def trace(ranks, messages=1):
    """Events in which rank 1 computes for 2 s and then sends to all others, which wait for it."""
    events = [
        {"ph": "M", "tid": rank, "name": "thread_name", "args": {"name": f"rank {rank}, worker {rank}"}}
        for rank in range(ranks)
    ]

    def add(rank, start, stop, cat, **args):
        events.append({"ph": "X", "tid": rank, "ts": start, "dur": stop - start, "cat": cat, "name": cat, "args": args})

    add(1, 0, 2e6, "compute", step=1)
    for rank in range(ranks):
        if rank != 1:
            add(rank, 0, 1e6, "compute", step=1)
            add(rank, 1e6, 2e6, "wait", peer=1)
            for message in range(messages):
                add(rank, 2e6 + message, 2e6 + message + 1, "receive", peer=1, tag=0, bytes=8, sent=2e6)
            add(rank, 2e6 + messages, 3e6, "compute", step=2)
    return events


def bars(axes):
    """{colour: [(start, length)]} of the row of each rank, in order."""
    return [
        {tuple(c.get_facecolor()[0][:3]): len(c.get_paths()) for c in axes.collections[:-1] if _row(c) == rank}
        for rank in range(len(axes.get_yticks()))
    ]


def _row(collection):
    paths = collection.get_paths()
    return round(paths[0].vertices[:, 1].mean()) if paths else None


@pytest.mark.parametrize("ranks", [2, 4, 64])
def test_a_row_for_each_rank_with_a_bar_for_each_thing_it_did(ranks):
    axes = timeline.figure(trace(ranks)).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"rank {rank}, worker {rank}" for rank in range(ranks)] and axes.yaxis_inverted()
    assert [sum(row.values()) for row in bars(axes)] == [4, 1] + [4] * (ranks - 2)
    assert axes.get_xlabel() == "time since the run began" and axes.xaxis.get_major_formatter()(0.02) == "20 ms"
    assert axes.get_xlim() == (0, 3)
    (legend,) = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*timeline.KINDS, "critical path"]


@pytest.mark.parametrize("ranks", [64, 170])
def test_the_labels_of_many_ranks_do_not_touch(ranks):
    drawn = timeline.figure(trace(ranks))
    FigureCanvasAgg(drawn).draw()
    boxes = [label.get_window_extent() for label in drawn.axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in zip(boxes, boxes[1:]))


def test_the_critical_path_runs_along_the_slow_rank_and_then_along_the_one_that_waited():
    path = timeline.figure(trace(2)).axes[0].collections[-1]
    assert path.get_label() == "_path"
    ends = [[tuple(point) for point in line.tolist()] for line in map(lambda p: p.vertices, path.get_paths())]
    assert ends[0] == [(0, 1), (2, 1)] and [(2, 1), (2.000001, 0)] in ends and [(2.000001, 0), (3, 0)] in ends


@pytest.mark.parametrize("messages, arrows", [(1, 1), (timeline.ARROWS, timeline.ARROWS), (timeline.ARROWS + 1, 0)])
def test_arrows_are_drawn_where_they_can_be_told_apart(messages, arrows):
    assert len(timeline.figure(trace(2, messages)).axes[0].texts) == arrows


def test_a_part_of_the_run():
    axes = timeline.figure(trace(4), 0.5, 1.5).axes[0]
    assert axes.get_xlim() == (0.5, 1.5)
    axes = timeline.figure(trace(4), 1.5, 2.0000005).axes[0]  # in the middle of the messages
    assert len(axes.texts) == 3 and all(text.arrow_patch.get_clip_box() is axes.bbox for text in axes.texts)
    lines = timeline.table(trace(2), 0.5, 1.5)
    assert lines[1].split() == "rank 0, worker 0 50.0% 50.0% 0.0% 0.0% rank 1 (50.0%)".split()
    assert lines[3:] == [
        "gradients in 1.00 s: 1 computed, 1 a second",
        "critical path: set by rank 1, worker 1; its share 100.0%, other ranks 0.0%, messages 0.0% (most to or from rank 0, worker 0)",
    ]


def test_the_table_of_a_run(run, capsys):
    assert command(timeline, run) == 0
    header, *rows, gradients, path = capsys.readouterr().out.splitlines()
    assert header.split() == "compute wait communicate other waits longest for".split() and len(rows) == 16
    for row in rows:
        shares = [float(word[:-1]) for word in row.split() if word.endswith("%")]
        assert sum(shares) == pytest.approx(100, abs=0.3)
    applied = sum(isinstance(entry, list) for entry in dsgd_order(run))
    seconds = json.loads((run / "summary.json").read_text())["virtual_seconds"]
    assert f"75 computed, {75 / seconds:.4g} a second, {applied} applied, {applied / seconds:.4g} a second" in gradients
    assert path.startswith("critical path: set by rank 0, server; its share ")
    assert (run / "timeline.png").stat().st_size > 10000


def dsgd_order(folder):
    return map(json.loads, (folder / "order.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    "text, problem",
    [
        (None, "has no trace.json; python -m dsgd.train --trace makes one"),
        ("", "is damaged"),
        ("{}", "is damaged"),
        ('{"otherData": {}, "traceEvents": []}', "is damaged (nothing happened)"),
        ('{"otherData": {}, "traceEvents": [3]}', "is damaged"),
    ],
)
def test_a_trace_that_is_missing_or_damaged_is_named(tmp_path, capsys, text, problem):
    if text is not None:
        (tmp_path / "trace.json").write_text(text)
    assert command(timeline, tmp_path) == (2 if text is None else 65)
    said = capsys.readouterr().err
    assert (
        said.startswith(f"dsgd: {tmp_path if text is None else tmp_path / 'trace.json'}")
        and problem in said
        and said.count("\n") == 1
    )


@pytest.mark.parametrize(
    "flags", [("--from", 9), ("--from", 0.002, "--to", 0.001), ("--from", -1), ("--to", "nan")], ids=str
)
def test_a_part_that_the_run_does_not_have_is_refused(run, capsys, flags):
    assert command(timeline, run, *flags) == 2
    assert "there is no such part of a run of 0.0" in capsys.readouterr().err


def test_a_format_that_nobody_draws_is_refused(run, tmp_path, capsys):
    for module in (timeline, staleness):
        assert command(module, run, "--output", tmp_path / "picture.doc") == 2
        assert str(tmp_path / "picture.doc") in capsys.readouterr().err
        assert command(module, run, "--output", tmp_path / "none" / "picture.png") == 2
        assert str(tmp_path / "none" / "picture.png") in capsys.readouterr().err


# --- staleness


PUSHES = {"asp": [(0, 0), (1, 0), (0, 2), (1, 2), (0, 1)], "ssp": [(0, 1), (1, 1)]}


def test_a_histogram_of_the_staleness_with_the_mean_of_each_run_marked():
    drawn = staleness.figure(PUSHES)
    ages, workers = drawn.axes
    heights = [[(round(bar.get_x() + 0.5 * bar.get_width()), bar.get_height()) for bar in c] for c in ages.containers]
    assert [sorted(run) for run in heights] == [[(0, 0.4), (1, 0.2), (2, 0.4)], [(1, 1.0)]]
    assert [line.get_xdata()[0] for line in ages.lines] == [1, 1]
    assert [[bar.get_height() for bar in c] for c in workers.containers] == [[3, 2], [1, 1]]
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["asp: mean 1.00", "ssp: mean 1.00"]
    colours = [{bar.get_facecolor() for axes in drawn.axes for bar in axes.containers[run]} for run in (0, 1)]
    assert all(len(colour) == 1 for colour in colours) and colours[0] != colours[1]


@pytest.mark.parametrize("runs", [1, 2, 3, 9])
def test_bars_of_several_runs_stand_side_by_side(runs):
    ages, _ = staleness.figure({str(i): [(0, 0), (0, 1)] for i in range(runs)}).axes
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for container in ages.containers for bar in container)
    assert all(right <= left + 1e-9 for (_, right), (left, _) in zip(edges, edges[1:]))


def test_staleness_is_read_from_the_log_of_a_run(run, tmp_path):
    summary = json.loads((run / "summary.json").read_text())
    pushes = staleness.read(run)
    assert sum(stale for _, stale in pushes) / len(pushes) == summary["mean_staleness"]
    assert max(stale for _, stale in pushes) == summary["max_staleness"]
    assert command(staleness, run, "--output", tmp_path / "staleness.png") == 0
    assert (tmp_path / "staleness.png").read_bytes().startswith(b"\x89PNG")


HEAD = {"format": 1, "dsgd": "0.1.0", "ranks": 3, "workers": 2, "data": "0", "config": {}}


def test_pushes_that_were_dropped_or_rejected_do_not_count(tmp_path):
    lines = [HEAD, [0, 0, 0, 1], [1, 0, 0, 0], [1, 1, 0, -1], {"rest": 1, "step": 1}, [1, 2, 0, 4]]
    (tmp_path / "order.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert staleness.read(tmp_path) == [(0, 0), (1, 3)]


@pytest.mark.parametrize(
    "text, problem",
    [
        (None, "has no order.jsonl"),
        ("", "is damaged"),
        ("HEAD\n", "holds no push that was applied"),
        ("HEAD\n[0, 0, 0, 0]\n", "holds no push that was applied"),
        ("HEAD\n[0, 0, 3]\n", "is damaged, or no log of a run's order (line 2 is [0, 0, 3])"),
        ('HEAD\n[0, 0, 0, "a"]\n', "(line 2 is "),
        ('{"format": 9}\n', "is in format 9"),
    ],
)
def test_a_log_that_is_missing_empty_or_damaged_is_named(tmp_path, capsys, text, problem):
    if text is not None:
        (tmp_path / "order.jsonl").write_text(text.replace("HEAD", json.dumps(HEAD)))
    assert command(staleness, tmp_path) == (2 if text is None else 65)
    said = capsys.readouterr().err
    assert (
        said.startswith(f"dsgd: {tmp_path if text is None else tmp_path / 'order.jsonl'}")
        and problem in said
        and said.count("\n") == 1
    )
