"""What pictures do with folders that are missing, damaged or of a later version, and with places that cannot be written to.

Every module of plots/ that uses `draw_runs` is found by itself: a new one is in the table at once.
"""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dsgd
from dsgd.plots import convergence, runs
from dsgd.plots.style import FORMATS, save

PLOTS = Path(runs.__file__).parent
COMMANDS = sorted(f.stem for f in PLOTS.glob("*.py") if "draw_runs(" in f.read_text() and f.stem != "command")
RUN = dict(simulate=3, steps=4, data="digits", hidden="8", no_plot=True, quiet=True, trace=True, log_every=1)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The folder of a run that every picture can be drawn of."""
    folder = tmp_path_factory.mktemp("runs") / "good"
    dsgd.run(**RUN, algorithm="parameter-server:consistency=asp", output=str(folder))
    return folder


def command(name, *argv):
    """The code that python -m dsgd.plots.NAME ends with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, argv)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(PLOTS / f"{name}.py"), run_name="__main__")
    return ended.value.code


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def later(path):
    """Of a version to come."""
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 9}))


# name: (what is done to a copy of the folder, the code, what is said, of which file)
HARM = {
    "missing": (shutil.rmtree, 2, "no such folder", ""),
    "empty": (lambda run: [file.unlink() for file in run.iterdir()], 2, "has? no|holds no", ""),
    "a file": (lambda run: (shutil.rmtree(run), run.write_text("")), 2, "is a file", ""),
    "a later manifest": (lambda run: later(run / "manifest.json"), 65, "newer version.*update dsgd", "manifest.json"),
    "a manifest cut": (lambda run: cut(run / "manifest.json"), 65, "is damaged", "manifest.json"),
}
WHOLE = {  # for those that read the whole run
    "a configuration cut": (lambda run: cut(run / "config.json"), 65, "is damaged", "config.json"),
    "a summary cut": (lambda run: cut(run / "summary.json"), 65, "is damaged", "summary.json"),
    "no record": (lambda run: (run / "metrics.jsonl").write_text(""), 65, "holds no records", "metrics.jsonl"),
    "a list": (lambda run: (run / "config.json").write_text("[]"), 65, "no object", "config.json"),
}


def put(name, **values):
    """What harms a file of JSON, or the last record, by values of a kind that no run writes."""

    def harm(run):
        *lines, last = (run / name).read_text().splitlines() if name.endswith("l") else [(run / name).read_text()]
        (run / name).write_text("\n".join([*lines, json.dumps(json.loads(last) | values)]))

    return harm


WHOLE |= {
    "a wrong configuration": (put("config.json", batch_size={}), 65, "batch_size is {}", "config.json"),
    "a wrong summary": (put("summary.json", steps="many"), 65, "steps is many", "summary.json"),
    "a wrong record": (put("metrics.jsonl", train_loss=[1]), 65, r"of step 4, train_loss is \[1\]", "metrics.jsonl"),
    "a wrong gradient": (put("metrics.jsonl", gradient_rms=["x"]), 65, "gradient_rms", "metrics.jsonl"),
}
READERS = [name for name in COMMANDS if "read_run" in (PLOTS / f"{name}.py").read_text()]
CASES = [(name, harm) for name in COMMANDS for harm in HARM]
CASES += [(name, harm) for name in READERS for harm in WHOLE]


@pytest.mark.parametrize("name, harm", CASES)
def test_a_bad_folder_is_named_with_its_file_and_hides_no_other(good, tmp_path, capfd, monkeypatch, name, harm):
    """Good folders are beside the missing one; a figure more for each harm would take its time."""
    drawn = []
    monkeypatch.setattr("dsgd.plots.command.save", lambda figure, path: drawn.append(figure))
    do, code, said, file = (HARM | WHOLE)[harm]
    do(shutil.copytree(good, tmp_path / "bad"))
    left = [good] if harm == "missing" else []
    if left and name == "valley":
        left.append(shutil.copytree(good, tmp_path / "second"))  # a line has two ends
    assert command(name, tmp_path / "bad", *left, "--output", tmp_path / "picture.png") == code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"dsgd: {tmp_path / 'bad' / file}") and re.search(said, line), line
    assert len(drawn) == bool(left)


@pytest.mark.parametrize("name", READERS)
def test_a_last_line_that_was_cut_off_is_left_out(good, tmp_path, name, capfd, monkeypatch):
    monkeypatch.setattr("dsgd.plots.command.save", lambda figure, path: None)
    (tmp_path / "link").symlink_to(shutil.copytree(good, tmp_path / "run"))
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "train_l')
    assert command(name, tmp_path / "link") == 0 and not capfd.readouterr().err


TRACES = {
    "cut": cut,
    "of a later format": lambda path: path.write_text('{"otherData": {"format": 9}, "traceEvents": []}'),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("harm", TRACES)
def test_a_trace_that_cannot_be_read_is_named(good, tmp_path, capfd, harm):
    run = shutil.copytree(good, tmp_path / "run")
    TRACES[harm](run / "trace.json")
    assert command("timeline", run / "trace.json") == (2 if harm == "gone" else 65)
    (line,) = capfd.readouterr().err.splitlines()
    assert "trace.json" in line and str(run) in line
    assert ("is of a newer version" in line) == (harm == "of a later format")


def test_labels_tell_folders_of_one_name_apart(good, monkeypatch):
    other = shutil.copytree(good, good.parent / "more" / "good")
    assert set(runs.read_all([good, f"{good}/", other])[0]) == {str(good), str(other)}
    monkeypatch.chdir(good)
    assert set(runs.read_all(["."])[0]) == {"good"}


OUTPUTS = {".": "is a file, one of", "x.doc": "is a file, one of", "no/x.png": "mkdir -p", "d.png": "is a folder"}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", ["convergence", "timeline"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_drawn(
    good, tmp_path, monkeypatch, capfd, name, output
):
    monkeypatch.chdir(tmp_path)
    Path("d.png").mkdir()
    assert command(name, good, "--output", output) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"dsgd: --output {output}") and OUTPUTS[output] in line


@pytest.mark.parametrize("ending", FORMATS.split(", "))
def test_the_same_figure_is_the_same_bytes(good, tmp_path, ending):
    found = {"good": runs.read_run(good)}
    for i in (1, 2):
        save(convergence.figure_of(found), tmp_path / f"{i}{ending}")
    assert (tmp_path / f"1{ending}").read_bytes() == (tmp_path / f"2{ending}").read_bytes()


def test_a_figure_is_drawn_without_a_display_and_without_a_home(good, tmp_path):
    """A home that cannot be written is a file here: the superuser may write everywhere else."""
    (tmp_path / "home").write_text("")
    lost = {"HOME": str(tmp_path / "home"), "MPLCONFIGDIR": str(tmp_path / "home" / "x")}
    known = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "XDG_CACHE_HOME")}
    command = [sys.executable, "-m", "dsgd.plots.convergence", str(good), "--output", str(tmp_path / "x.png")]
    ended = subprocess.run(command, env=known | lost, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
