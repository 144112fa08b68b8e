"""The report: one page that is whole, holds every run, loads nothing, and believes nothing that a file says."""

import base64
import json
import os
import re
from html.parser import HTMLParser

import pytest

import dsgd
from dsgd.errors import UsageError
from dsgd.page import VOID, Html, document, tag
from dsgd.plots import convergence, volume
from dsgd.plots.runs import read_all
from dsgd.report import PICTURES, embed, main, page

SMALL = dict(data="blobs:samples=100", hidden="8", batch_size=16, steps=4, no_plot=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(folder, {name: Result}) of three runs."""
    folder = tmp_path_factory.mktemp("runs")
    flags = {
        "ring": dict(simulate=3, reduction="ring", trace=True),
        "asp": dict(simulate=3, algorithm="parameter-server:consistency=asp", log_every=2),
        "alone": dict(algorithm="sgd", seed=5),
    }
    return folder, {name: dsgd.run(**SMALL, **given, output=str(folder / name)) for name, given in flags.items()}


@pytest.fixture(scope="module")
def whole(runs):
    """The page of all three."""
    text, problems = page([runs[0] / name for name in runs[1]])
    assert not problems
    return text


@pytest.fixture
def quick(monkeypatch):
    """With one picture, whose numbers come from the summary."""
    monkeypatch.setattr("dsgd.report.PICTURES", [picture for picture in PICTURES if picture.title == "Volume"])


class Page(HTMLParser):
    """What a page holds: its elements, which must be closed in order, its text, and what its attributes say."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.values = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.values += attributes
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_holds_every_run_and_its_numbers(runs, whole):
    found, results = Page(whole), runs[1]
    words = "".join(found.text)
    assert found.tags.count("details") == len(results)
    for name, result in results.items():
        row = re.search(f'<td class="text">{name}</td>.*?</tr>', whole, re.DOTALL)[0]
        for key in ("steps", "messages_sent"):
            assert f">{result.summary[key]}</td>" in row
        assert result.summary["params_sha256"][:16] in row and f"{result.summary['test_loss']:.4g}" in row
    titles = ["Runs", "Where they differ", "Convergence", "Volume", "Gradients", "Staleness", "Timeline of ring"]
    assert [words.find(title) for title in titles] == sorted(words.find(title) for title in titles)
    assert "Messages of step 2 of ring" in words and "Timeline of asp" not in words
    assert found.tags.count("img") == 6  # four of all runs, two of the trace


def test_the_page_loads_nothing(whole):
    found = Page(whole)
    assert not {"script", "link", "iframe"} & set(found.tags)
    sources = [value for key, value in found.values if key in ("src", "href")]
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert "http" not in "".join(found.text) and "url(" not in "".join(found.text)


def test_what_differs_is_shown_and_nothing_else(whole, runs, quick):
    table = re.search("Where they differ.*?</table>", whole, re.DOTALL)[0]
    differ = {"seed", "algorithm", "reduction", "simulate", "trace", "log-every", "data digest"}
    assert set(re.findall('<tr><td class="text">([^<]+)', table)) == differ
    assert "Where they differ" not in page([runs[0] / "asp"])[0]


def test_the_pictures_are_those_of_the_modules_to_the_bit(runs, whole):
    found = {name: volume.read(runs[0] / name) for name in runs[1]}
    assert embed(volume.figure(found), "Volume") in whole


def test_a_folder_that_cannot_be_read_is_named_and_hides_no_other(runs, tmp_path, monkeypatch, capsys, quick):
    folder, _ = runs
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "metrics.jsonl").write_text("{}\n{}\n")
    assert main(["nowhere", "half", str(folder / "alone")]) == 2
    said, text = capsys.readouterr().err, (tmp_path / "report.html").read_text(encoding="utf-8")
    for name in ("nowhere: there is no such folder", "half"):
        assert name in said and name in text
    assert "Volume" in text and Page(text)
    assert main(["half", "--output", "none.html"]) == 65 and not (tmp_path / "none.html").exists()


def test_a_picture_that_has_no_data_hides_no_other(runs, tmp_path, quick):
    folder, _ = runs
    copy(folder / "ring", tmp_path / "cut", trace="{")
    text, problems = page([tmp_path / "cut"])
    assert "trace.json: is damaged" in str(problems[0]) and "trace.json: is damaged" in text and "Volume" in text


def test_values_of_another_kind_hide_no_other_run(runs, tmp_path, monkeypatch):
    """Those that the reader lets through are found only as a figure is drawn."""
    monkeypatch.setattr("dsgd.plots.runs.check_kinds", lambda *values: None)
    monkeypatch.setattr("dsgd.report.PICTURES", PICTURES[:1])
    good = [runs[0] / "alone", runs[0] / "asp"]
    config = json.loads((runs[0] / "ring" / "config.json").read_text()) | {"seed": {}}
    copy(runs[0] / "ring", tmp_path / "bad", trace=None, config=json.dumps(config))
    text, problems = page([good[0], tmp_path / "bad", good[1]])
    (said,) = map(str, problems)
    assert said.startswith(f"{tmp_path / 'bad'}: holds what no run writes")
    assert embed(convergence.figure_of(read_all(good)[0]), "Convergence") in text
    assert "Convergence" not in page([tmp_path / "bad"])[0]


def test_events_and_verdicts_of_another_kind_are_named(runs, tmp_path, quick):
    trace = json.loads((runs[0] / "ring" / "trace.json").read_text())
    next(event for event in trace["traceEvents"] if event.get("cat") == "compute")["args"] = "x"
    record = {"step": 7, "verdict": "dull", "gradient_rms": [1.0], "gradient_norm": 1.0}
    copy(runs[0] / "ring", tmp_path / "bad", trace=json.dumps(trace), metrics=json.dumps(record) + "\n")
    text, problems = page([tmp_path / "bad"])
    assert [problem.code for problem in problems] == [65, 65] and "Volume" in text and "Timeline" not in text


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is_one(runs, tmp_path, quick):
    place = tmp_path / os.fsdecode(b"bad\xffname")
    copy(runs[0] / "asp", place, summary=None)
    copy(runs[0] / "asp", place / "inner")
    text, problems = page([place, place / "inner"])
    assert not problems and "bad\ufffdname" in text and "bad?name" in text and text.encode()


def test_warnings_come_before_the_numbers(runs, tmp_path, quick):
    folder, results = runs
    summary = {"ended_by": "divergence", "samples_lost": 12, "workers_lost": [1]}
    copy(folder / "asp", tmp_path / "bad", summary=json.dumps(results["asp"].summary | summary))
    copy(folder / "asp", tmp_path / "open", summary=None)
    exploded = {"step": 7, "verdict": "exploding", "gradient_rms": None, "gradient_norm": None}
    with open(tmp_path / "open" / "metrics.jsonl", "a") as file:
        file.write(json.dumps(exploded) + "\n")
    text, _ = page([tmp_path / "bad", tmp_path / "open"])
    warnings = re.search("Warnings.*?</section>", text, re.DOTALL)[0]
    for said in (
        "bad: was ended by a divergence after 4 steps",
        "bad: 12 samples were applied, lost in a crash, and used again",
        "bad: workers were lost: [1]",
        "open: is not over, or was broken off",
        "open: step 7: exploding gradients",
    ):
        assert said in warnings
    assert text.index("Warnings") < text.index("<table")
    assert ">7</td>" in re.search('<td class="text">open</td>.*?</tr>', text, re.DOTALL)[0]  # its last record


HOSTILE = """<script>alert('x')</script><img src=x onerror="y">&amp;"""


def test_what_files_say_is_text_and_no_html(runs, tmp_path, quick):
    folder, results = runs
    config = json.loads((folder / "alone" / "config.json").read_text()) | {"algorithm": HOSTILE, "data": HOSTILE}
    summary = results["alone"].summary | {"params_sha256": HOSTILE, "ended_by": HOSTILE}
    manifest = json.loads((folder / "alone" / "manifest.json").read_text()) | {"numpy": HOSTILE}
    place = tmp_path / "<b>bold&lt;"
    copy(folder / "alone", place, config=json.dumps(config), summary=json.dumps(summary), manifest=json.dumps(manifest))
    text, problems = page([place, tmp_path / '"><i>'])
    assert [problem.code for problem in problems] == [2]  # no such folder
    found = Page(text)
    assert not {"script", "b", "i"} & set(found.tags) and "onerror" not in dict(found.values)
    assert HOSTILE in "".join(found.text) and "<b>bold&lt;" in "".join(found.text)


def test_an_element_escapes_all_but_html():
    assert tag("p", "<", Html("<br>"), title='"', class_="a").strip() == '<p title="&quot;" class="a">&lt;<br></p>'
    assert document("a & b").startswith("<!DOCTYPE html>\n<html") and "<title>a &amp; b</title>" in document("a & b")


def test_a_picture_of_many_shapes_is_a_png(runs, monkeypatch):
    folder, _ = runs
    figure = volume.figure({"asp": volume.read(folder / "asp")})
    monkeypatch.setattr("dsgd.report.VECTOR", 1000)
    data = re.search('data:image/png;base64,([^"]*)', embed(figure, "a picture"))[1]
    assert base64.b64decode(data).startswith(b"\x89PNG")


def copy(folder, to, **changed):
    """A copy of a run's folder in which some files, named without their ends, are others; None for none."""
    to.mkdir()
    for path in folder.iterdir():
        text = changed.get(path.stem, path.read_bytes())
        if text is not None:
            (to / path.name).write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    "name, why", [("metrics.jsonl", "one of .html"), ("-", "one of .html"), ("no/x.html", "mkdir -p")]
)
def test_a_report_replaces_nothing_but_a_report(runs, tmp_path, monkeypatch, name, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("records")
    with pytest.raises(UsageError, match=why):
        main([str(runs[0] / "ring"), "--output", name])
    assert (tmp_path / "metrics.jsonl").read_text() == "records" and not (tmp_path / "-").exists()


def test_a_report_is_written_through_a_link_and_not_into_a_pipe(tmp_path, monkeypatch):
    monkeypatch.setattr("dsgd.report.page", lambda folders: ("<html></html>", []))
    (tmp_path / "link.html").symlink_to(tmp_path / "there.html")
    assert main(["run", "--output", str(tmp_path / "link.html")]) == 0
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "there.html").read_text() == "<html></html>"
    os.mkfifo(tmp_path / "pipe.html")
    with pytest.raises(UsageError, match="a device or a pipe"):
        main(["run", "--output", str(tmp_path / "pipe.html")])
