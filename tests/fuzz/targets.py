"""The readers, each as a function of bytes, and what valid input looks like: mutations start from there."""

import atexit
import gzip
import io
import json
import os
import shutil
import struct
import tempfile
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsgd.algorithms.consistency import choose_model
from dsgd.algorithms.history import find_impossible
from dsgd.algorithms.replay import actions
from dsgd.arguments import read_arguments, to_toml
from dsgd.checkpoint import pack, unpack
from dsgd.comm import Header
from dsgd.config import Config
from dsgd.data import load
from dsgd.errors import CheckpointError, DsgdError
from dsgd.faults import FAULTS, read_faults
from dsgd.launch import saved_step
from dsgd.mpi.wire import LARGEST, TAGS, announced, decode, encode
from dsgd.order import read_order, text as lines_of
from dsgd.records import METRICS, ORDER, read_records

LONGEST = 1 << 16  # bytes of an input
FOLDER = Path(tempfile.mkdtemp(prefix="dsgd-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


class Target(NamedTuple):
    """A reader: read(bytes), and valid inputs [bytes]."""

    read: object
    valid: list


def check(target, data):
    """Whether the reader took the data; it may refuse them, by a DsgdError of one line, and nothing else.

    Raises:
        Whatever else the reader raised.  MemoryError: it ran out of memory and called that a damaged file.
    """
    try:
        target.read(data)
        return True
    except DsgdError as error:
        assert "\n" not in str(error), f"more than one line: {error}"
        cause = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                raise cause from None
            cause = cause.__context__
        return False


def text(data):
    return data.decode(errors="surrogateescape")


def command_line(data):
    try:
        with redirect_stdout(io.StringIO()):
            read_arguments(text(data).split("\n"))
    except SystemExit as end:  # of --help
        assert not end.code


def through_file(name, read):
    """A target that reads the file `name`, in which the data are."""

    def target(data):
        path = FOLDER / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return read(path)

    return target


def step_of(path):
    """The launcher's reader of a checkpoint: a step or None, whatever the file holds."""
    step = saved_step(path.parent)
    if step is None:
        raise CheckpointError("no step")
    assert type(step) is int, step


def order(path):
    """A log: what the reader takes and nothing is found impossible in becomes actions, whatever the model."""
    _, entries = read_order(path, whole=False)
    for model in ORDERED:
        if not find_impossible(entries, model, 2):
            actions(entries, model, 2, steps=9)


def data_set(spec):
    """Loads the data set that a spec, with {} for the path, names."""
    return lambda path: load(spec.replace("{}", str(path)), seed=0, dtype="float32")


# --- what is valid

X = np.random.default_rng(0).standard_normal((12, 3))
Y = np.arange(12) % 3


def written(save, *args, **arrays):
    buffer = io.BytesIO()
    save(buffer, *args, **arrays)
    return buffer.getvalue()


def idx(values):
    codes = {"u1": 8, "i4": 12, "f4": 13}
    kind = codes[values.dtype.str[1:]]
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, kind, values.ndim]) + sizes + values.astype(values.dtype.newbyteorder(">")).tobytes()


CHECKPOINT = pack(
    {"x": X.astype("float32").ravel(), "optimizer/m": X.ravel(), "1/own/k": np.array([7]), "0/counters": np.arange(3)},
    {
        "step": 7,
        "ranks": 2,
        "clock": 0.5,
        "data": "abc",
        "config": {"lr": 0.1, "hidden": "8"},
        "versions": {"dsgd": "1"},
    },
)
ORDERED = [choose_model("asp", 2), choose_model("k-sync", 2, k=1, cancel=True), choose_model("bsp", 2)]
LOG_HEAD = {"format": 1, "dsgd": "1", "ranks": 3, "workers": 2, "data": "abc", "config": {"lr": 0.1}}
LOGS = [
    [LOG_HEAD, [0, 0, 0, 1], [0, 1, 1, 2], [1, 0, 0, 3], [1, 1, 3, -1], {"rest": 3, "step": 2}],
    [LOG_HEAD, [0, 0, 0, 1], [1, 0, 0, 0], {"rest": 1, "step": 1}, [0, 1, 1, 2], [1, 1, 1, 0], {"rest": 2, "step": 2}],
]
CSV = [
    "a,b,y\n1,2,0\n3,4.5,1\n-1e3,0,1\n5,6,0\n",
    'a;"b;c";y\n1;2;"red"\n3;4;blue\n5;6;red\n0;0;blue\n',
    "1\t2\n3\t4\n5\t6\n",
]
FAULT_STRINGS = [
    "kill:rank=1,step=7; nan:rank=2,step=9; slow:rank=3,x=10",
    "drop:p=0.01; delay:rank=2,s=0.05; partition:ranks=0-1/4,from=3,to=6",
    "; ".join(FAULTS),
    ";".join(["partition:ranks=0-999999,from=1,to=2"] * 50),
]
CONFIGS = [
    Config(),
    Config(lr=0.5, steps=9, optimizer="lamb:weight_decay=0.1", schedule="cosine:T_max=9", algorithm="dsgd", simulate=4),
    Config(
        data="teacher:samples=9", faults=FAULT_STRINGS[0], tolerance=0.1, partition="dirichlet:alpha=0.5", dropout=0.5
    ),
]


MESSAGE = bytes(64)  # a header of zeros
APART = encode(X.ravel(), Header(), (X.nbytes, 7)).tobytes()  # a head whose data come apart


def message(data):
    """What a rank reads of the bytes that came, where data may come apart and where they may not."""
    buffer = np.frombuffer(data, np.uint8)
    nbytes, tag = announced(buffer, apart=True)
    assert 0 <= nbytes <= LARGEST and 0 <= tag < TAGS, (nbytes, tag)
    decode(buffer)
    assert announced(buffer, apart=False) == (0, 0)


def flags(config):
    given = [(name, value) for name, value in asdict(config).items() if value != getattr(CONFIGS[0], name)]
    return "\n".join(f"--{name.replace('_', '-')}\n{value}" for name, value in given).encode()


TARGETS = {
    "checkpoint": Target(unpack, [CHECKPOINT]),
    "saved step": Target(through_file("saved/checkpoint.npz", step_of), [CHECKPOINT]),
    "npz": Target(
        through_file("a.npz", data_set("{}")),
        [written(save, X=X, y=y) for save in (np.savez, np.savez_compressed) for y in (Y, X[:, 0], Y.astype(str))],
    ),
    "npy": Target(
        through_file("a.npy", data_set("npy:X={},y={}")),
        [written(np.save, a) for a in (X, Y, X.astype("f4"), X.T, Y.astype("U3"))],
    ),
    "idx": Target(
        through_file("a.idx", data_set("idx:images={},labels={}")),
        [wrap(idx(a)) for wrap in (bytes, gzip.compress) for a in (Y.astype("u1"), X.astype("f4"), Y.astype("i4"))],
    ),
    "csv": Target(through_file("a.csv", data_set("{}")), [table.encode() for table in CSV]),
    "records": Target(
        through_file(METRICS, lambda path: read_records(path.parent)),
        [b'{"step": 1, "train_loss": 0.5}\n{"step": 2, "train_loss": null}\n'],
    ),
    "order": Target(through_file(ORDER, order), [lines_of(lines).encode() for lines in LOGS]),
    "faults": Target(lambda data: read_faults(text(data)), [string.encode() for string in FAULT_STRINGS]),
    "flags": Target(command_line, [*map(flags, CONFIGS[1:]), b"--hidden\n8,8\n--print-config\n--seed=3"]),
    "toml": Target(
        through_file("a.toml", lambda path: read_arguments(["--config", str(path)])),
        [to_toml(config).encode() for config in CONFIGS],
    ),
    "config.json": Target(
        through_file("config.json", lambda path: read_arguments(["--resume", "--output", str(path.parent)])),
        [json.dumps(asdict(config)).encode() for config in CONFIGS],
    ),
    "message": Target(message, [MESSAGE, APART, MESSAGE + X.tobytes()]),
}
