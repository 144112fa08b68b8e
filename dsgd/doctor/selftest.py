"""A tiny training: its gradient is right, and the same bits come out a second time, and from processes."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from dsgd.doctor.findings import ask, ok, wrong

TINY = {"data": "teacher:samples=120,features=6,hidden=4,classes=3", "hidden": "8", "steps": 6}
PROCESSES = 2  # that mpirun starts
LIMIT = 30.0  # s that it may take
H = 1e-6  # of the central differences: they are off by some 1e-9 when all is well
TOLERANCE = 1e-6
REINSTALL = "pip install --force-reinstall numpy: its BLAS does not compute what it should"
HINTS = {  # what a launcher says: what mends it
    "as root": "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, or be another user",
    "slots": "start no more ranks than there are cores, or export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe",
}


def gradient():
    """dL/dx against (L(x + h e) − L(x − h e)) / 2h for every element of x."""
    from dsgd.config import Config
    from dsgd.prepare import prepare
    from dsgd.runner import open_backend
    from dsgd.sampling import Batch

    config = Config(**TINY, dtype="float64", activation="tanh")
    objective = prepare(config, open_backend(None, config, None)).objective
    views, batch, g, unused = objective.layout.views, Batch(np.arange(16), 0), *np.zeros((2, objective.layout.size))
    x = objective.start(0, "float64").copy()
    objective.gradient(views(x), views(g), batch, 1.0)
    differences = np.empty_like(g)
    for i, x_i in enumerate(x):
        above, below = (_loss(objective, x, i, value, batch, unused) for value in (x_i + H, x_i - H))
        x[i], differences[i] = x_i, (above - below) / (2 * H)
    apart = np.abs(g - differences).max() / np.abs(g).max()
    if apart < TOLERANCE:
        yield ok("gradient", f"{len(g)} derivatives agree with finite differences to {apart:.0e}")
    else:
        yield wrong(
            "gradient", f"is not the derivative of the loss: {apart:.0e} away from finite differences", REINSTALL
        )


def _loss(objective, x, i, value, batch, unused):
    """L at x with x_i replaced."""
    x[i] = value
    return float(objective.gradient(objective.layout.views(x), objective.layout.views(unused), batch, 1.0))


def simulated(ranks):
    """The hash of the tiny training on simulated ranks."""
    import dsgd

    return dsgd.run(**TINY, batch_size=max(32, ranks), simulate=ranks).summary["params_sha256"]


def simulator():
    """Twice the same training: twice the same bits."""
    one, two = simulated(PROCESSES), simulated(PROCESSES)
    if one == two:
        yield ok("simulator", f"two runs end in the same bits, sha256 {one[:16]}")
    else:
        yield wrong("simulator", f"two runs end in other bits, sha256 {one[:16]} and {two[:16]}", REINSTALL)


def processes():
    """The same training under the first mpirun: the simulator's bits.   For a doctor that no launcher has started."""
    from importlib.util import find_spec

    path = shutil.which("mpirun")
    if not path or not find_spec("mpi4py"):
        return  # of which the MPI checks have told
    flags = [word for key, value in TINY.items() for word in (f"--{key}", str(value))]
    with tempfile.TemporaryDirectory(prefix="dsgd-doctor-") as folder:
        words = [*flags, "--quiet", "--no-plot", "--output", f"{folder}/run"]
        answer = ask([path, "-n", str(PROCESSES), sys.executable, "-m", "dsgd.train", *words], limit=LIMIT)
        summary = Path(folder) / "run" / "summary.json"
        done = json.loads(summary.read_text())["params_sha256"] if answer.code == 0 and summary.exists() else None
    about, said = f"mpirun -n {PROCESSES}", answer.err + answer.out
    if done is None:
        mend = next((mend for words, mend in HINTS.items() if words in said), "mend what is said above, then try again")
        yield wrong(about, f"did not train: {answer.complaint}", mend)
    else:
        yield compared(about, done, simulated(PROCESSES))


def world(backend):
    """The same training on the ranks of this job; all of them call this."""
    import dsgd

    result = dsgd.run(**TINY, batch_size=max(32, backend.size), backend=backend)
    if result:
        expected = simulated(backend.size)
        yield compared(f"{backend.size} ranks", result.summary["params_sha256"], expected)


def compared(about, done, expected):
    if done == expected:
        return ok(about, f"the simulator's bits, sha256 {done[:16]}")
    text = f"ends in sha256 {done[:16]}, the simulator in {expected[:16]}"
    return wrong(about, text, "python -m dsgd.diff RUN RUN finds where two runs part; please report it")
