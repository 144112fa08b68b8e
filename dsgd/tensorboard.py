"""python -m dsgd.tensorboard RUN... [--output FOLDER]: the records of runs, for TensorBoard.

    python -m dsgd.tensorboard runs/a runs/b
    tensorboard --logdir tensorboard

One file of events a run, FOLDER/RUN/events.out.tfevents.dsgd, made anew each time.  Every number of a record becomes a
curve of its name over the steps, in single precision as TensorBoard keeps it, and gradient_rms one of each layer; a
verdict becomes text.  The configuration and the manifest are tables on the page "Text".  The wall time of an event is
the run's, from 0 s: TensorBoard's "Relative" is right, its dates are of 1970.
"""

import os
import sys
import tempfile
from pathlib import Path

from dsgd.arguments import Parser
from dsgd.command import run_command, say
from dsgd.errors import DataError, UsageError
from dsgd.plots.runs import read_all, read_run
from dsgd.records import METRICS, write_bytes

NAME = "events.out.tfevents.dsgd"
AXES = ("step", "time")  # of a record: where its values stand


def events(run):
    """Yields the Events of a Run: what it is, then record by record.

    Raises:
        TypeError, ValueError, AttributeError: a record has what no run writes.
    """
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import text

    yield Event(file_version="brain.Event:2")
    for name, values in (("configuration", run.config), ("manifest", run.manifest)):
        yield Event(summary=text(name, table(values)))
    for row in run.records:
        for summary in summaries(row):
            yield Event(step=row["step"], wall_time=row.get("time") or 0.0, summary=summary)


def summaries(row):
    """Yields a Summary for each value of a record; a None is none."""
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import text

    for key, value in row.items():
        if isinstance(value, str):
            yield text(key, value)
        elif key not in AXES and value is not None:
            curves = {f"{key}/layer_{i}": x for i, x in enumerate(value)} if isinstance(value, list) else {key: value}
            yield Summary(value=[Summary.Value(tag=k, simple_value=x) for k, x in curves.items() if x is not None])


def table(values):
    """A table in Markdown, of a dict."""
    lines = [f"| {key} | {str(value).replace('|', '&#124;')} |" for key, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def encode(folder):
    """The bytes of a run's file of events.

    Raises:
        UsageError, DataError: as read_run; or a record has what no run writes.
    """
    from tensorboardX.record_writer import RecordWriter

    run = read_run(folder)
    with tempfile.TemporaryDirectory() as place:
        writer = RecordWriter(os.path.join(place, NAME))
        try:
            for event in events(run):
                writer.write(event.SerializeToString())
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(run.folder / METRICS, f"has what no run writes ({error})", "leave this run out") from None
        finally:
            writer.close()
        return Path(place, NAME).read_bytes()


def main(argv):
    """Export the runs of the command line; returns the exit code, that of the first folder that could not be read."""
    parser = Parser(prog="python -m dsgd.tensorboard", description="Export the records of runs for TensorBoard.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--output", default="tensorboard", metavar="FOLDER", help="(default: %(default)s)")
    given = parser.parse_args(argv)
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UsageError(f"tensorboardX cannot be imported ({error}); pip install 'dsgd[tensorboard]'") from None
    found, problems = read_all(map(os.path.abspath, given.runs), encode)
    for problem in problems:
        say(str(problem))
    for label, data in found.items():
        folder = Path(
            given.output, label.lstrip(os.sep)
        )  # a label is a name, or the whole path of one of two namesakes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / NAME, data)
        except OSError as error:
            raise UsageError(f"--output {given.output}: {folder}: {error.strerror or error}") from None
    if found:
        print(f"tensorboard --logdir {given.output}")
    return problems[0].code if problems else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
