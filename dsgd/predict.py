"""python -m dsgd.predict RUN DATA: what a trained network says about each row of DATA, written as a .csv file.

DATA is what --data takes, labelled or not; it is scaled as the run's training part was.  With labels, the score is printed.
"""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np

from dsgd.arguments import Parser
from dsgd.checkpoint import load
from dsgd.command import run_command
from dsgd.data import DATASETS, class_numbers, load_raw, rescale
from dsgd.errors import DataError, UsageError
from dsgd.metrics import ROWS, decide
from dsgd.layers import ACTIVATIONS
from dsgd.mlp import MLP, Workspace, forward
from dsgd.records import MODEL, write_text
from dsgd.specs import choose


class Model:
    """The trained network of a run's folder.

    Raises:
        UsageError: a folder without a run.  DataError, CheckpointError: one that is damaged.
    """

    def __init__(self, folder):
        try:
            config, model = (json.loads((Path(folder) / name).read_text()) for name in ("config.json", MODEL))
            self.net = MLP(tuple(map(int, model["widths"])), model["activation"])
            choose("activation", self.net.activation, ACTIVATIONS)
            self.labels, self.data, self.seed = model["labels"], config["data"], config["seed"]
            self.offset, self.factor = (model[key] and np.array(model[key], float) for key in ("offset", "factor"))
            features, outputs = self.net.widths[0], self.net.widths[-1]
            if {part.shape for part in (self.offset, self.factor) if part is not None} - {(features,)}:
                raise ValueError(f"offset and factor are not of {features} features")
            if self.labels and len(self.labels) != max(outputs, 2):
                raise ValueError(f"{len(self.labels)} labels for {outputs} outputs")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UsageError(f"{folder} holds no trained network: it has no {Path(error.filename).name}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
            raise DataError(folder, f"config.json or {MODEL} is damaged ({error!r})", "train again") from None
        self.x = load(folder)[0]["x"]
        if self.x.size != self.net.layout().size:
            raise DataError(folder, f"{MODEL} and the checkpoint are of different networks", "train again")

    def outputs(self, X, spec):
        """(n, n_out) for X (n, features) as the file `spec` has it."""
        X = rescale(X, self.offset, self.factor, self.x.dtype)
        if not np.isfinite(X).all():
            raise DataError(
                spec, f"some values are too large for {X.dtype}, once they are scaled as the training part was"
            )
        params, layers = self.net.layout().views(self.x), range(self.net.depth)
        parts = [X[lo : lo + ROWS] for lo in range(0, len(X), ROWS)]
        return np.concatenate(
            [forward(self.net, params, part, Workspace(self.net, len(part), X), layers) for part in parts]
        )


def probability(z):
    """(B,): how likely the class that `decide` chooses is, by softmax of z (B, C) or by the sigmoid of z (B, 1)."""
    z = z.astype(np.float64)
    if z.shape[1] == 1:
        return 1 / (1 + np.exp(-np.abs(z[:, 0])))
    return 1 / np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1)


def table(model, z):
    """The lines of the .csv: a header, then one line for each row of z (n, n_out)."""
    if not model.labels:
        yield ["row", *(f"output {i}" for i in range(z.shape[1]))]
        yield from ([i, *row] for i, row in enumerate(z.tolist()))
        return
    yield ["row", "class", "probability"]
    for i, (number, p) in enumerate(zip(decide(z), probability(z))):
        yield [i, model.labels[number], f"{p:.6g}"]


def score(model, spec, z, y):
    """In words: how well z (n, n_out) meets y, labels or values."""
    if model.labels:
        right = decide(z) == class_numbers(spec, y, tuple(model.labels))
        return f"accuracy {np.mean(right):.4f} of {len(right)} rows"
    y = np.asarray(y).reshape(len(y), -1)
    if y.dtype.kind not in "biuf" or y.shape[1] != z.shape[1]:
        raise DataError(spec, f"its targets are not the {z.shape[1]} numbers that the network was trained for")
    y = y.astype(np.float64)
    missed, spread = np.sum((y - z) ** 2), np.sum((y - y.mean(axis=0)) ** 2)
    return f"R² {1 - missed / spread:.4f} of {len(y)} rows" if spread else f"squared error {missed / y.size:.4g}"


def main(argv):
    parser = Parser(prog="python -m dsgd.predict", description=__doc__.partition(": ")[2].partition("\n")[0])
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("data", metavar="DATA", help="what --data takes: a file or a name, labelled or not")
    parser.add_argument("--output", metavar="FILE", help="(default: predictions.csv in RUN)")
    arguments = parser.parse_args(argv)
    model = Model(arguments.run)
    raw = load_raw(arguments.data, seed=model.seed, features=model.net.widths[0], like=model.data)
    z, text = model.outputs(raw.X, arguments.data), io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table(model, z))
    output = Path(arguments.output or Path(arguments.run) / "predictions.csv")
    scored = "" if raw.y is None else score(model, arguments.data, z, raw.y) + ", "
    try:
        write(output, text.getvalue())
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror or error}") from None
    print(f"{scored}{output}{trained_on(model.data, arguments.data)}")
    return 0


def trained_on(data, spec):
    """A remark, if rows of the data set `spec` may be among those that a network was trained on, with `data`."""
    name = spec.partition(":")[0]
    if name != data.partition(":")[0] or name in DATASETS and spec == data:  # the test part of a named set is the run's
        return ""
    return "; the network was trained on some of these rows"


def write(path, text):
    """Write a file whole or not at all; into what is no file, or a link to one, as it comes."""
    if path.is_symlink() or path.exists() and not path.is_file():
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        write_text(path, text)


if __name__ == "__main__":
    sys.exit(run_command(main))
