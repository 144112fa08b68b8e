"""python -m dsgd.compare: its numbers are those of separate runs, a run that diverges keeps its row, nothing is left behind."""

import json
import os

import pytest

import dsgd
from dsgd.compare import DIVERGED, USUAL, main
from dsgd.errors import DsgdError
from dsgd.command import run_command
from dsgd.plots.comparison import PICTURE, figure, read
from dsgd.records import COMPARISON, METRICS
from launching import mpirun, python

DATA = dict(data="teacher:samples=302,features=12,hidden=8,classes=4", batch_size=30, hidden="16,8", epochs=2)
REGRESSION = dict(data="linear", hidden="", epochs=2)
SHORT = dict(data="teacher:samples=80,features=4,hidden=4,classes=2", hidden="4", steps=2)
COUNTS = {
    "algorithm": "algorithm",
    "workers": "workers",
    "ranks": "ranks",
    "steps": "steps",
    "messages": "messages_sent",
    "bytes": "bytes_sent",
    "virtual_seconds": "virtual_seconds",
    "train_loss": "train_loss",
    "test_accuracy": "test_accuracy",
    "test_r2": "test_r2",
    "test_loss": "test_loss",
    "params_sha256": "params_sha256",
}  # in comparison.json: in a run's summary


def words(flags):
    return [word for key, value in flags.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def compared(tmp_path, *algorithms, **flags):
    """The runs of comparison.json after a comparison in this process."""
    folder = tmp_path / "compared"
    assert main([*algorithms, *words(flags), "--no-plot", "--output", str(folder)]) == 0
    assert [path.name for path in folder.iterdir()] == [COMPARISON]
    return json.loads((folder / COMPARISON).read_text())["runs"]


def refused(*argv):
    """(code, message) of a comparison that cannot be, with nothing left in the folder that it was started in."""
    before = sorted(os.listdir("."))
    with pytest.raises(DsgdError) as caught:
        main([str(word) for word in argv])
    assert "\n" not in str(caught.value) and sorted(os.listdir(".")) == before
    return caught.value.code, str(caught.value)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- the numbers


@pytest.mark.parametrize("task", [DATA, REGRESSION], ids=["classes", "regression"])
def test_the_numbers_are_those_of_separate_runs(tmp_path, capsys, task):
    ranks = {
        "sgd": 1,
        "data-parallel": 3,
        "parameter-server:servers=1": 4,
        "parameter-server:consistency=asp": 4,
        "grouped:size=3": 4,
    }
    lr = dict(lr=0.01)
    rows = compared(tmp_path, *ranks, workers=3, **task, **lr)
    lines = capsys.readouterr().out.splitlines()
    assert len(rows) == len(ranks)
    for row, (algorithm, size) in zip(rows, ranks.items()):
        alone = dsgd.run(algorithm=algorithm, simulate=size, **task, **lr)
        assert {key: row[key] for key in COUNTS} == {key: alone.summary[name] for key, name in COUNTS.items()}
        assert row["samples"] == alone.records[-1]["samples"] and row["ended_by"] == "steps"
        assert [record["train_loss"] for record in row["records"]] == [r["train_loss"] for r in alone.records]
        shown = next(line.split() for line in lines if line.startswith(algorithm + " ") and " on " not in line)
        score = row["test_accuracy"] if task is DATA else row["test_r2"]
        counts = [f"{row[key]:,}" for key in ("workers", "ranks", "steps", "samples", "messages", "bytes")]
        measured = [f"{value:.4g}" for value in (row["virtual_seconds"], row["train_loss"], score)]
        assert shown == [algorithm, *counts, *measured, row["params_sha256"][:16]]


def test_equal_where_the_readme_says_so(tmp_path):
    same = ("dsgd", "data-parallel", "parameter-server", "parameter-server:servers=2", "grouped", "grouped:size=4")
    rows = compared(tmp_path, *same, "sgd", "grouped:size=3", workers=4, **DATA)
    hashes = {row["algorithm"]: row["params_sha256"] for row in rows}
    assert len({hashes[name] for name in same}) == 1
    assert len({hashes[name] for name in ("dsgd", "sgd", "grouped:size=3")}) == 3


@pytest.mark.parametrize(
    "algorithm, ranks",
    [("sgd", 1), ("dsgd", 4), ("grouped", 5), ("parameter-server:servers=5", 9), ("model-parallel", 4)],
)
def test_as_many_ranks_as_it_takes(tmp_path, algorithm, ranks):
    task = DATA | dict(hidden="40,20,8")  # five servers need five blocks of parameters
    (row,) = compared(tmp_path, algorithm, workers=4, **task)
    assert (row["ranks"], row["workers"]) == (ranks, 1 if algorithm == "sgd" else 4)


def test_the_usual_ones_are_compared_on_four_workers(tmp_path):
    rows = compared(tmp_path, **SHORT)
    assert tuple(row["algorithm"] for row in rows) == USUAL
    assert {row["workers"] for row in rows[1:]} == {4}


@pytest.mark.parametrize(
    "flags, what",
    [
        (dict(tolerance=0.5), "--tolerance"),
        (dict(stop_on_divergence=3), "--stop-on-divergence"),
        (dict(schedule="plateau"), "--schedule plateau"),
        (dict(check_replicas=1), "--check-replicas"),
    ],
)
def test_asynchronous_ranks_are_left_out_where_a_loss_is_agreed_on_unless_they_were_named(
    tmp_path, capsys, flags, what
):
    asp = "parameter-server:consistency=asp"
    rows = compared(tmp_path, **SHORT, **flags)
    assert [row["algorithm"] for row in rows] == [name for name in USUAL if name != asp]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if asp in line]
    assert line.startswith(f"without {asp}: {what}") and "leave it out" not in line
    code, message = refused("sgd", asp, *words(SHORT | flags))
    assert code == 2 and message.startswith(f"{asp}: {what}")


# --- a run that diverges


def test_a_run_that_diverges_keeps_its_row(tmp_path, capsys):
    """Sixteen asynchronous workers make sixteen whole steps where the others make one."""
    asp = "parameter-server:consistency=asp"
    flags = words(REGRESSION | dict(lr=0.3, workers=16, log_every=5))
    assert main(["dsgd", asp, "data-parallel", *flags, "--output", "one"]) == 0
    out = capsys.readouterr().out.splitlines()
    first, diverged, last = read("one")
    blank = ("steps", "samples", "messages", "bytes", "virtual_seconds", "train_loss", "test_r2", "test_loss")
    assert diverged["ended_by"] == DIVERGED == "not finite" and diverged["ranks"] == 17
    assert {diverged[key] for key in (*blank, "test_accuracy", "params_sha256")} == {None}
    assert diverged["records"][0]["step"] == 5  # what was seen until then
    assert first["params_sha256"] == last["params_sha256"] and first["ended_by"] == "steps"
    told, shown = [line for line in out if line.startswith(asp)]
    assert told.startswith(f"{asp} on 17 ranks: ") and "not finite" in told and told.count(asp) == 1
    assert shown.split() == [asp, "16", "17", *["–"] * 7, "not", "finite"]
    assert os.path.getsize(f"one/{PICTURE}") > 10000


def test_nothing_is_left_to_compare_where_all_diverge():
    code, message = refused("sgd", "dsgd", *words(DATA | dict(lr=1e9, epochs=5)), "--output", "all")
    assert code == 70 and message.startswith("all runs diverged") and "--lr" in message


# --- bad input


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--simulate", "4"], "--simulate is not for a comparison: all runs are simulated; --workers N"),
        (["--algorithm", "dsgd"], "--algorithm is not for a comparison: name the algorithms without a flag"),
        (["--resume"], "--resume is not for a comparison: a comparison starts anew"),
        (["--trace"], "--trace is not for a comparison: a timeline is of one run"),
        (["--config", "given.toml"], "--algorithm is not for a comparison"),
        (["--workers", "0"], "--workers 0 must be at least 1"),
        (["--workers", "four"], "--workers=four is not a whole number"),
        (["--worker", "4"], "unknown argument '--worker'; did you mean '--workers'?"),
        (["sgd", "dgsd"], "dgsd: unknown algorithm 'dgsd'; did you mean 'dsgd'?"),
        (["dsgd:size=2"], "dsgd:size=2: --algorithm 'dsgd' has no option 'size'"),
        (["sgd", "parameter-server:servers=0"], "parameter-server:servers=0: servers=0: somebody has"),
        (["parameter-server:servers=5000"], "parameter-server:servers=5000: 5000 servers for "),
        (["grouped:size=0"], "grouped:size=0: size=0: a group has at least one worker"),
        (["model-parallel", "--workers", "9"], "model-parallel: model-parallel deals whole layers: 9 ranks for 3"),
        (["sgd", "--reduction", "ring"], "sgd: --reduction ring is a way to all-reduce, and sgd does not"),
        (["dsgd", "--faults", "nan:rank=9,step=1"], "--faults nan: there is no rank 9"),
        (["--lr", "-1"], "--lr -1.0 must be"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_left(tmp_path, argv, said):
    (tmp_path / "given.toml").write_text('algorithm = "dsgd"\n')
    code, message = refused(*argv, "--output", "bad")
    assert message.startswith(said) and code == (65 if "nowhere" in said else 2)


def test_an_error_names_its_algorithm_once():
    """One name may be within another, or within the reason."""
    _, message = refused("sgd", "model-parallel", *words(DATA | dict(workers=7)))
    assert message.startswith("model-parallel: ")
    _, message = refused("sgd", "--faults", "nan:rank=2,step=1", "--workers", "4")
    assert message.startswith("sgd: --faults nan: there is no rank 2")


@pytest.mark.parametrize("name", [COMPARISON, METRICS, "checkpoint.npz", "checkpoint-2.npz"])
def test_a_folder_that_holds_a_run_or_a_comparison_is_left_alone(tmp_path, name):
    held = tmp_path / "held"
    held.mkdir()
    (held / name).write_text("kept")
    code, message = refused("sgd", *words(SHORT), "--output", "held")
    assert code == 2 and message.startswith("held holds ") and "--output" in message
    assert [path.name for path in held.iterdir()] == [name] and (held / name).read_text() == "kept"


def test_a_trained_folder_is_refused_and_a_file_is_no_folder(tmp_path):
    dsgd.run(**SHORT, output="trained", no_plot=True)
    assert refused("sgd", *words(SHORT), "--output", "trained")[0] == 2
    assert not (tmp_path / "trained" / COMPARISON).exists()
    (tmp_path / "file").write_text("")
    assert refused("sgd", *words(SHORT), "--output", "file") == (2, "--output file: File exists")


def test_folders_are_numbered_and_a_configuration_is_printed(tmp_path, capsys):
    for number in (1, 2):
        assert main(["sgd", *words(SHORT), "--quiet", "--no-plot"]) == 0
        assert (tmp_path / f"runs/{number}-compare" / COMPARISON).exists()
    assert len(capsys.readouterr().out.splitlines()) == 4  # two tables of a header and a row
    assert main(["--print-config", "--lr", "0.5", "--tolerance", "0.1"]) == 0
    assert "lr = 0.5" in capsys.readouterr().out and len(os.listdir("runs")) == 2


# --- as a command


def test_the_command_prints_one_line_and_leaves_nothing(tmp_path):
    ended = python("-m", "dsgd.compare", "sgd", *words(SHORT), "--workers", "x", "--output", "bad", cwd=tmp_path)
    assert (ended.code, ended.out, ended.err) == (2, "", "dsgd: --workers=x is not a whole number\n")
    ended = python("-m", "dsgd.compare", "sgd", "dsgd", *words(SHORT), "--output", "good", cwd=tmp_path)
    assert ended.code == 0 and not ended.err and ended.out.splitlines()[-1] == "good"
    assert sorted(os.listdir(tmp_path / "good")) == [COMPARISON, PICTURE]
    ended = mpirun(2, "-m", "dsgd.compare", cwd=tmp_path)
    assert (ended.code, len(ended.lines)) == (2, 1) and "start it without mpirun" in ended.err
    assert os.listdir(tmp_path) == ["good"]


def test_an_interrupt_leaves_nothing(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("dsgd.compare.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(["sgd", *words(SHORT), "--output", "broken"])
    assert not os.path.exists("broken")


# --- the picture of what was written


def test_the_picture_is_drawn_from_what_was_written(tmp_path):
    rows = compared(tmp_path, "sgd", "dsgd", "grouped", workers=3, **DATA)
    assert read(tmp_path / "compared") == rows
    drawn = figure(read(tmp_path / "compared"))
    curves = drawn.subfigs[1].axes[0].lines
    assert [list(line.get_ydata()) for line in curves] == [[r["test_accuracy"] for r in row["records"]] for row in rows]
    ended = python("-m", "dsgd.plots.comparison", "compared", cwd=tmp_path)
    assert ended.code == 0 and (tmp_path / "compared" / PICTURE).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"runs": []}', '{"runs": 3}', '{"runs": [{"algorithm": "sgd"}]}']
)
def test_a_comparison_that_is_missing_or_damaged_is_told_in_one_line(tmp_path, capsys, monkeypatch, text):
    from dsgd.plots import comparison

    if text is not None:
        (tmp_path / COMPARISON).write_text(text)
    monkeypatch.setattr("sys.argv", ["comparison", "."])
    code = run_command(comparison.main)
    (line,) = capsys.readouterr().err.splitlines()
    missing = "dsgd: . has no comparison.json; python -m dsgd.compare makes one"
    assert line == missing if text is None else line.startswith(f"dsgd: {COMPARISON}: is damaged")
    assert code == (2 if text is None else 65) and not (tmp_path / PICTURE).exists()
