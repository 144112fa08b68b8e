"""python -m dsgd.report RUN... [--output report.html]: runs side by side, on one page that needs no network.

It has the table of the runs, what differs between their configurations, warnings, and every picture that their folders
have the data for.  A folder that cannot be read is named on the page and on stderr; the others are shown.
"""

import base64
import io
import sys
import warnings
from typing import NamedTuple

import matplotlib
from matplotlib.ticker import EngFormatter

import dsgd
from dsgd.arguments import Parser
from dsgd.command import run_command, say
from dsgd.errors import DataError, DsgdError, UsageError
from dsgd.page import bullets, document, table, tag
from dsgd.plots import convergence, gradients, messages, staleness, timeline, volume
from dsgd.plots.command import check_output
from dsgd.plots.runs import read_all, read_run
from dsgd.plots.style import STYLE
from dsgd.records import ORDER, SUMMARY, TRACE, holds_run, write_text
from dsgd.watch import describe

VECTOR = 400_000  # bytes of an SVG; a picture of more shapes is a PNG
PIXELS = 96  # of the page, an inch of a figure
NOT_FINITE = "step {step}: {verdict} gradients, which are no longer finite; a smaller --lr or --clip-norm may mend it"
RANKS = 16  # whose messages can be told apart
FACTS = ("data digest", "dsgd", "python", "numpy", "blas", "machine")  # of the manifest, that results may depend on
OWN = ("output", "resume", "quiet", "no_plot")  # flags that say nothing about a run
DAMAGE = (TypeError, ValueError, KeyError, AttributeError, ArithmeticError)  # what values of another kind come to


class Picture(NamedTuple):
    """A picture of several runs.   needs: the file of a run that it is made of; read, figure: as in dsgd.plots"""

    title: str
    text: str
    needs: str
    read: object
    figure: object


PICTURES = [
    Picture("Convergence", "Loss, and accuracy or R², on the way.", "", read_run, convergence.figure_of),
    Picture("Volume", "What the ranks sent, counted by the written schedules.", SUMMARY, volume.read, volume.figure),
    Picture("Gradients", "Their size by layer: do they vanish, or explode?", "", gradients.read, gradients.figure_of),
    Picture("Staleness", "How old the applied gradients were, and whose.", ORDER, staleness.read, staleness.figure),
]


def page(folders):
    """(text of the page, [error of a folder or a file that could not be read]); the text is None without any run.

    Args:
        folders: of runs; each may be a path or a str.
    """
    runs, problems = read_all(folders)
    if not runs:
        return None, problems
    shown = [part for picture in PICTURES for part in _draw(picture, runs, problems)]
    traced = [part for label, run in runs.items() for part in _trace(label, run, problems)]
    said = {label: _attempt(run.folder, problems, warn, run) or [] for label, run in runs.items()}
    warned = [f"{error} (left out)" for error in problems]
    warned += [f"{label}: {text}" for label, texts in said.items() for text in texts]
    title = f"{len(runs)} runs of dsgd" if len(runs) > 1 else f"A run of dsgd: {next(iter(runs))}"
    body = [tag("h1", title)]
    if warned:
        body.append(tag("section", tag("strong", "Warnings"), bullets(warned), class_="warnings"))
    body += [tag("h2", "Runs"), table(*rows_of(runs)), *_differences(runs), *shown, *traced]
    body += [tag("h2", "Configurations"), *(_configuration(label, run) for label, run in runs.items())]
    footer = tag("footer", "Made by ", tag("code", "python -m dsgd.report"), f", dsgd {dsgd.__version__}.")
    return document(title, tag("main", *body), footer), problems


COLUMNS = {  # head: how a value of the summary is written
    "steps": str,
    "train_loss": "{:.4g}".format,
    "test_loss": "{:.4g}".format,
    "test_accuracy": "{:.4f}".format,
    "test_r2": "{:.4f}".format,
    "bytes_sent": EngFormatter("B", places=1),
    "messages_sent": str,
    "virtual_seconds": EngFormatter("s", places=2),
    "wall_seconds": EngFormatter("s", places=2),
    "params_sha256": lambda digest: tag("code", digest[:16], title=digest),
}


def rows_of(runs):
    """(head, rows) of the table of {label: Run}; a column that no run has a value for is left out.

    Of a run that is not over, the numbers are those of its last record.
    """
    found = {
        label: run.records[-1] | {"steps": run.records[-1]["step"]} | (run.summary or {}) for label, run in runs.items()
    }
    columns = [key for key in COLUMNS if any(values.get(key) is not None for values in found.values())]
    head = ["run", "algorithm", "backend", "ranks", "workers", *(key.replace("_", " ") for key in columns), "versions"]
    rows = []
    for (label, values), run in zip(found.items(), runs.values()):
        facts = [run.config["algorithm"], *(run.manifest.get(key, "–") for key in ("backend", "ranks"))]
        cells = [_cell(COLUMNS[key], values.get(key)) for key in columns]
        made = f"dsgd {run.manifest.get('dsgd', '?')}, numpy {run.manifest.get('numpy', '?')}"
        rows.append([label, *facts, values.get("workers", "–"), *cells, made])
    return head, rows


def _cell(write, value):
    """A value as the table has it; as it is if it is not of the kind that the column writes."""
    try:
        return "–" if value is None else write(value)
    except DAMAGE:
        return value


def warn(run):
    """[what is to be known before the numbers of a Run are believed]"""
    said, summary = [], run.summary or {}
    if not summary:
        mend = "--resume goes on with it" if holds_run(run.folder) else "start it anew"
        said.append(f"is not over, or was broken off: {run.folder} has no {SUMMARY}; {mend}")
    if summary.get("ended_by") in ("signal", "divergence"):
        said.append(f"was ended by a {summary['ended_by']} after {summary.get('steps')} steps")
    if summary.get("samples_lost"):
        said.append(f"{summary['samples_lost']} samples were applied, lost in a crash, and used again")
    if summary.get("workers_lost"):
        said.append(f"workers were lost: {summary['workers_lost']}")
    judged = [row for row in run.records if row.get("verdict")]
    return [*said, *(describe(row) if row.get("gradient_norm") else NOT_FINITE.format(**row) for row in judged[-1:])]


def _differences(runs):
    """The settings and facts in which the runs are not all alike, a row each."""
    if len(runs) == 1:
        return []
    facts = {label: run.config | {key: run.manifest.get(key) for key in FACTS} for label, run in runs.items()}
    for values in facts.values():
        values["data digest"] = str(values["data digest"])[:16]  # as the table has those of parameters
    keys = [key for key in dict.fromkeys(key for values in facts.values() for key in values) if key not in OWN]
    rows = [[key.replace("_", "-"), *(_setting(values.get(key)) for values in facts.values())] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    if not rows:
        return [tag("p", "The configurations are alike.")]
    return [tag("h2", "Where they differ"), table(["", *runs], rows, class_="words")]


def _setting(value):
    return "–" if value in (None, "") else str(value)


def _configuration(label, run):
    rows = [[tag("code", f"--{key.replace('_', '-')}"), _setting(value)] for key, value in run.config.items()]
    rows += [[key, _setting(value)] for key, value in run.manifest.items()]
    return tag("details", tag("summary", label), table(["", ""], rows, class_="words"))


def _draw(picture, runs, problems):
    """The section of a picture, of the runs that have the data for it.

    Where they cannot be drawn together, each is drawn with those before it: that shows whose values are damaged.
    """
    having = {label: run.folder for label, run in runs.items() if (run.folder / picture.needs).exists()}
    if picture.read is gradients.read:
        rows = {label: runs[label].records for label in having}
        having = {label: having[label] for label in having if any(row.get("gradient_rms") for row in rows[label])}
    found = {label: _attempt(folder, problems, picture.read, folder) for label, folder in having.items()}
    found = {label: data for label, data in found.items() if data is not None}
    if not found:
        return []
    try:
        image = _image(picture, found)
    except DAMAGE:
        image, kept = None, {}
        for label, data in found.items():
            drawn = _attempt(having[label], problems, _image, picture, kept | {label: data})
            if drawn:
                image, kept[label] = drawn, data
    return [tag("h2", picture.title), tag("p", picture.text), image] if image else []


def _image(picture, found):
    return embed(picture.figure(found), picture.title)


def _attempt(folder, problems, make, *given):
    """make(*given); None, and one problem more, where the files of a run's folder hold what no run writes."""
    try:
        return make(*given)
    except DsgdError as error:
        problems.append(error)
    except DAMAGE as error:
        problems.append(DataError(folder, f"holds what no run writes ({error})", "leave it out, or start it anew"))
    return None


def _trace(label, run, problems):
    """The sections of a run's trace."""
    if not (run.folder / TRACE).exists():
        return []
    return _attempt(run.folder, problems, lambda: _events(label, timeline.read(run.folder)[1])) or []


def _events(label, events):
    """The timeline of a trace, and the messages of its second step, or of the only one."""
    title = f"Timeline of {label}"
    parts = [tag("h2", title), embed(timeline.figure(events), title)]
    parts.append(tag("div", tag("pre", "\n".join(timeline.table(events))), class_="wide"))
    steps = sorted({event["args"]["step"] for event in events if event.get("cat") == "compute"})
    ranks = {event["tid"] for event in events if event["name"] == "thread_name"}
    if steps and len(ranks) <= RANKS:
        step = steps[:2][-1]
        title = f"Messages of step {step} of {label}"
        parts += [tag("h3", title), embed(messages.figure(events, step), title)]
    return parts


def embed(figure, title):
    """A figure within the page: as SVG, or as PNG where that would be large."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks: names are in the tables too
        data, kind = io.BytesIO(), "svg+xml"
        figure.savefig(data, format="svg", metadata={"Date": None})
        if data.tell() > VECTOR:
            data, kind = io.BytesIO(), "png"
            figure.savefig(data, format="png", dpi=120)
    source = f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
    width = round(PIXELS * figure.get_figwidth())
    return tag("figure", tag("img", src=source, alt=title, width=width), class_="wide")


def main(argv):
    parser = Parser(prog="python -m dsgd.report", description=__doc__.partition(": ")[2].partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--output", default="report.html", metavar="FILE", help="(default: report.html)")
    arguments = parser.parse_args(argv)
    output = check_output(arguments.output, ".html", "a report")
    text, problems = page(arguments.runs)
    for problem in problems:
        say(str(problem))
    if text:
        try:
            write_text(output, text)
        except OSError as error:
            raise UsageError(f"--output {arguments.output}: {error.strerror or error}") from None
        print(arguments.output)
    return problems[0].code if problems else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
