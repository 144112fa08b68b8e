"""Real ranks that fail: the job ends soon, says once what happened, and leaves no process behind.

That nothing is left behind is checked by launching.Job.wait, for every command here.
"""

import json
import os
import signal
import sys
import time

import numpy as np
import psutil
import pytest

import dsgd
from dsgd.errors import NonFiniteGradient
from dsgd.local import Local
from dsgd.records import read_records
from launching import SLOW, TRAIN, Job, each, mpirun, python, script, start
from table import timeless

TINY = [
    "--data",
    "teacher:samples=120,features=6,hidden=4,classes=3",
    "--hidden",
    "8",
    "--steps",
    "6",
    "--no-plot",
    "--quiet",
]


def one_line(ended, code, *parts):
    """It ended with this code, and all it said is one line, which holds these parts."""
    assert ended.code == code, ended
    assert len(ended.lines) == 1, ended
    assert "Traceback" not in ended.err, ended
    for part in parts:
        assert part in ended.lines[0], ended


def test_what_is_left_behind_is_seen():
    """By every test here: a process that outlives its launcher, in a session of its own, is found, named and killed."""
    orphan = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True, stdout=-3, stderr=-3)"
    job = Job(sys.executable, "-W", "ignore", "-c", orphan)
    with pytest.raises(AssertionError, match="left behind"):
        job.wait(grace=0.1)
    psutil.wait_procs(job.processes(), timeout=5)
    assert job.processes() == []


# --- a rank that raises


RAISES = """
import time
from dsgd.algorithms import ALGORITHMS, Algorithm

def doomed(comm, local, state, *, optimizer, schedule, steps):
    for t in range(state.t, steps):
        if comm.rank == 1 and t == 3:
            open("raised", "w").write(str(time.time()))
            raise RuntimeError("the disk is on fire")
        state.agree(comm.allreduce(local.gradient(state.x, t, scale=1)))
        state.t = t + 1
        yield

ALGORITHMS["doomed"] = Algorithm(doomed)
"""


@pytest.mark.fault(
    "P3",
    "a rank raises an error in a step",
    "its traceback, once, prefixed with its rank; the job ends with code 70, and no other rank says anything",
)
def test_a_rank_that_raises_ends_the_job(tmp_path):
    """With its traceback, once, and no other rank's; the others were waiting for it in an all-reduce."""
    ended = mpirun(3, script(tmp_path, RAISES), *TINY, "--algorithm", "doomed", "--output", "run", cwd=tmp_path)
    assert time.time() - float((tmp_path / "raised").read_text()) < 5
    assert ended.code == 70
    assert ended.err.count("Traceback") == ended.err.count("RuntimeError: the disk is on fire") == 1, ended
    assert all(line.startswith("[rank 1] ") for line in ended.lines), ended
    assert ended.lines[-1] == "[rank 1] RuntimeError: the disk is on fire"
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.fault("P3")
def test_a_rank_that_leaves_early_ends_the_job(tmp_path):
    """sys.exit(3) on one rank is not an exception, and would leave the others waiting all the same."""
    body = RAISES.replace('raise RuntimeError("the disk is on fire")', "sys.exit(3)")
    ended = mpirun(3, script(tmp_path, body), *TINY, "--algorithm", "doomed", "--output", "run", cwd=tmp_path)
    assert ended.code == 3 and "Traceback" not in ended.err, ended


def train(folder, *flags, poison=None):
    """Python arguments for the command line in this folder, for one rank; `poison`: a module that cannot be imported there."""
    hide = f"sys.modules[{poison!r}] = None" if poison else "pass"
    return [
        "-c",
        f"import os, sys; os.chdir({str(folder)!r}); {hide}; sys.argv[1:] = {list(flags)!r}; from dsgd.train import entry; sys.exit(entry())",
    ]


@pytest.mark.fault(
    "P4",
    "a rank fails before MPI is up: a package is missing on one machine",
    "MPI is imported first; a rank that has none dies by a signal, which the launcher sees: one line, the job ends",
)
@pytest.mark.parametrize("bad", [0, 1])
def test_a_rank_without_mpi_ends_the_job(bad, tmp_path):
    """Before MPI is up a rank cannot tell the others: it dies by a signal, which the launcher sees."""
    began = time.monotonic()
    commands = [TRAIN + TINY] * 3
    commands[bad] = train(tmp_path, *TINY, poison="mpi4py")
    tries = (each(*commands, cwd=tmp_path) for _ in range(3))
    # On a very busy machine MPICH's mpirun itself may die: of SIGPIPE, if the rank ends while others are being started.
    ended = next(ended for ended in tries if ended.code != -signal.SIGPIPE)
    assert time.monotonic() - began < 10
    assert ended.code != 0
    assert len(ended.lines) == 1 and "Traceback" not in ended.err, ended
    assert ended.lines[0].startswith(f"dsgd: [rank {bad}] cannot use MPI (import of mpi4py halted"), ended


@pytest.mark.fault("P4")
def test_a_rank_without_numpy_ends_the_job(tmp_path):
    """MPI is imported before NumPy, so that this rank can still end the job."""
    ended = each(TRAIN + TINY, train(tmp_path, *TINY, poison="numpy"), cwd=tmp_path)
    assert ended.code == 70
    assert ended.err.count("Traceback") >= 1 and all(line.startswith("[rank 1] ") for line in ended.lines), ended
    assert "import of numpy halted" in ended.lines[-1], ended


# --- ranks that do not agree


@pytest.mark.fault(
    "C1", "a flag differs between ranks", "refused before the first step, the rank and both values named"
)
@pytest.mark.fault(
    "P10",
    "one rank would make fewer steps than the others",
    "it cannot: how many there are follows from flags and data, and the ranks compare the number before the first step",
)
@pytest.mark.parametrize(
    "flag, values, named",
    [
        ("--lr", ("0.1", "0.2"), "rank 1 differs: lr 0.2 (rank 0: 0.1)"),
        ("--hidden", ("8", "9"), "rank 1 differs: hidden '9' (rank 0: '8')"),
        ("--steps", ("6", "7"), "rank 1 differs: steps 7 (rank 0: 6)"),
    ],
)
def test_a_configuration_that_differs_is_named(flag, values, named, tmp_path):
    tiny = TINY[: TINY.index(flag)] + TINY[TINY.index(flag) + 2 :] if flag in TINY else TINY
    commands = [TRAIN + tiny + [flag, value, "--output", "run"] for value in values]
    one_line(each(*commands, cwd=tmp_path), 2, named)
    assert not (tmp_path / "run").exists()  # before the first step


def points(path, X=None):
    X = np.random.default_rng(0).standard_normal((40, 3)) if X is None else X
    np.savez(path, X=X, y=np.arange(40) % 2)
    return X


@pytest.mark.fault(
    "D8", "ranks read different files behind one name", "a digest of the data is compared before the first step"
)
def test_a_data_file_that_differs_is_named(tmp_path):
    """The same name, relative to each rank's own folder, as on machines with disks of their own."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    X = points(tmp_path / "a" / "points.npz")
    X[3, 1] += 1e-6
    points(tmp_path / "b" / "points.npz", X)
    ended = each(
        *(
            train(tmp_path / folder, "--data", "points.npz", "--dtype", "float64", "--steps", "3")
            for folder in ("a", "b")
        )
    )
    one_line(ended, 2, "rank 1 differs: data digest", "start every rank with the same flags and files")
    assert not (tmp_path / "a" / "runs").exists()


START = """
from dsgd.objectives import Supervised
from mpi4py import MPI
start = Supervised.start
Supervised.start = lambda self, seed, dtype: start(self, seed + MPI.COMM_WORLD.rank, dtype)
"""


@pytest.mark.fault(
    "C6",
    "ranks start from different parameters",
    "the hash of the initial parameters is compared before the first step, code 2",
)
def test_other_initial_parameters_are_named(tmp_path):
    one_line(mpirun(2, script(tmp_path, START), *TINY, cwd=tmp_path), 2, "rank 1 differs: initial parameters '")


@pytest.mark.fault("D8")
def test_a_file_that_one_rank_lacks_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    points(tmp_path / "a" / "points.npz")
    ended = each(*(train(folder, "--data", "points.npz", "--steps", "3") for folder in (tmp_path / "a", tmp_path)))
    one_line(ended, 65, "rank 1: points.npz: no such file")


# --- numbers that are not finite


@pytest.mark.parametrize(
    "algorithm", ["data-parallel", "dsgd", "parameter-server", "model-parallel", "parameter-server:consistency=asp"]
)
def test_a_step_size_that_is_too_large_is_told_once(algorithm, tmp_path):
    ended = mpirun(2, *TRAIN, *TINY, "--algorithm", algorithm, "--lr", "1e30", "--output", "run", cwd=tmp_path)
    one_line(ended, 70, "rank ", ", step ", ", layer ", "not finite", "a smaller --lr")
    if algorithm != "parameter-server:consistency=asp":  # the order of whose pushes is not told
        told = ended.lines[0].removeprefix("dsgd: ")
        with pytest.raises(NonFiniteGradient) as error:
            dsgd.run(**config(), simulate=2, algorithm=algorithm, lr=1e30)
        assert str(error.value) == told
    assert not (tmp_path / "run" / "summary.json").exists()


def config():
    """TINY as fields of Config."""
    return dict(data=TINY[1], hidden="8", steps=6)


INJECTED = """
import numpy as np
from dsgd.local import Local
gradient = Local.gradient
def poisoned(self, x, t, **options):
    packet = gradient(self, x, t, **options)
    if self.comm.rank == 2 and t == 3:
        packet[4 + 50] = np.nan
        self.sign(packet, packet[4:], t, packet[0], packet[1])
    return packet
Local.gradient = poisoned
"""
NAMED = "rank 2, step 4, layer 0 bias: the gradient has a value that is not finite"  # 6 × 8 weights, then the bias


@pytest.mark.fault(
    "N1",
    "a NaN or an infinity in the gradient of one rank",
    "all ranks stop in the same step; rank, step and layer are named, code 70; a finite gradient whose square overflows is no error",
)
@pytest.mark.parametrize("algorithm", ["data-parallel", "dsgd", "parameter-server"])
def test_one_rank_with_a_nan_is_named_by_all(algorithm, tmp_path):
    ended = mpirun(3, script(tmp_path, INJECTED), *TINY, "--algorithm", algorithm, "--output", "run", cwd=tmp_path)
    one_line(ended, 70, NAMED)


@pytest.mark.parametrize("algorithm", ["data-parallel", "dsgd", "parameter-server"])
def test_one_simulated_rank_with_a_nan_is_named(algorithm, monkeypatch):
    monkeypatch.setattr(Local, "gradient", Local.gradient)  # so that what the script sets is undone
    exec(INJECTED, {})
    with pytest.raises(NonFiniteGradient, match=NAMED):
        dsgd.run(**config(), simulate=3, algorithm=algorithm)


@pytest.mark.fault("N1")
@pytest.mark.parametrize("dtype, large", [("float32", 1e30), ("float64", 1e200)])
def test_a_finite_gradient_whose_square_overflows_is_no_error(dtype, large):
    local = Local(None, None, None)
    g = np.full(100, large, dtype)
    with np.errstate(over="ignore"):
        assert local._check(g, 3, 0, 1.0) == 0 and local.fault is None
        g[7] = np.inf
        assert local._check(g, 3, 0, 1.0) == 1 and local.fault == (4, 7, 1)
        g[7] = large  # the push with the infinity was rejected, and the run goes on
        assert local._check(g, 4, 0, 1.0) == 0 and local.fault is None


# --- files and launchers


@pytest.mark.fault("D5")
@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda data: data[: len(data) // 2], "not a readable .npz"),
        (lambda data: b"not a zip file", "not a readable .npz"),
    ],
)
def test_a_damaged_data_file_is_told_once(damage, said, tmp_path):
    path = tmp_path / "points.npz"
    points(path)
    path.write_bytes(damage(path.read_bytes()))
    one_line(mpirun(3, *TRAIN, "--data", path, cwd=tmp_path), 65, str(path), said)


@pytest.mark.fault("N2")
def test_a_nan_in_the_data_is_told_once(tmp_path):
    X = points(tmp_path / "points.npz")
    X[17, 2] = np.nan
    points(tmp_path / "points.npz", X)
    one_line(mpirun(3, *TRAIN, "--data", "points.npz", cwd=tmp_path), 65, "points.npz: X[17, 2] is nan")


@pytest.mark.fault(
    "P11",
    "the `mpirun` of another MPI library, which starts many runs of one rank",
    "refused before anything is written, in one line, with code 2",
)
@pytest.mark.parametrize(
    "size, rank",
    [
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
        ("PMI_SIZE", "PMI_RANK"),
        ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    ],
)
def test_a_launcher_of_another_library_is_refused_once(size, rank, tmp_path):
    """It starts four processes, of which each takes itself for the only one: four runs would write into one folder."""
    first, last = (python(*TRAIN, *TINY, env={size: "4", rank: number}, cwd=tmp_path) for number in ("0", "3"))
    one_line(first, 2, "the launcher started 4 processes, but MPI sees each of them alone")
    assert (last.code, len(first.err.splitlines()), last.err) == (2, 1, "")
    assert list(tmp_path.iterdir()) == []


# --- signals


CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}


@pytest.mark.fault(
    "P8",
    "Ctrl-C",
    "the first finishes the step on all ranks, saves, and ends with code 130; the second ends at once",
)
@pytest.mark.fault(
    "P9",
    "SIGTERM, or the SIGUSR1 that a scheduler sends before it ends a job",
    "as Ctrl-C, with code 143; `--resume` reaches the unbroken bits",
)
@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("algorithm", ["data-parallel", "parameter-server"])
def test_a_signal_ends_the_step_and_saves(number, algorithm, tmp_path):
    """What was saved is resumed to the bits of a run that nobody disturbed."""
    flags = [*TINY[:-3], "200", "--no-plot", "--algorithm", algorithm, "--log-every", "1", "--output", tmp_path / "run"]
    metrics = tmp_path / "run" / "metrics.jsonl"
    job = start(3, script(tmp_path, SLOW), *flags)
    job.wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 5)
    os.kill(job.process.pid, number)
    ended = job.wait(timeout=10)
    assert ended.code == CODES[number], ended
    assert "Traceback" not in ended.err
    stopped = json.loads((tmp_path / "run" / "summary.json").read_text())["steps"]
    assert 5 <= stopped < 200
    resumed = mpirun(3, *TRAIN, *flags, "--resume")
    assert resumed.code == 0 and f"from step {stopped}" in resumed.out, resumed
    unbroken = dsgd.run(**config() | dict(steps=200), simulate=3, algorithm=algorithm, log_every=1)
    assert (
        json.loads((tmp_path / "run" / "summary.json").read_text())["params_sha256"]
        == unbroken.summary["params_sha256"]
    )
    assert timeless(read_records(tmp_path / "run")) == timeless(unbroken.records)


def test_a_signal_ends_an_asynchronous_run(tmp_path):
    """Its ranks have no step in common to stop at: the last checkpoint stays, and nothing else is promised."""
    flags = [
        *TINY[:-3],
        "200",
        "--no-plot",
        "--algorithm",
        "parameter-server:consistency=asp",
        "--checkpoint-every",
        "5",
        "--output",
        tmp_path / "run",
    ]
    job = start(3, script(tmp_path, SLOW), *flags)
    job.wait_for(lambda: (tmp_path / "run" / "checkpoint.npz").exists())
    os.kill(job.process.pid, signal.SIGTERM)
    assert job.wait(timeout=10).code != 0
    ended = mpirun(3, *TRAIN, *flags, "--resume")
    assert ended.code == 0 and json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 200, ended


@pytest.mark.parametrize("number", CODES)
def test_a_signal_ends_a_simulated_run_and_saves(number, tmp_path):
    """The same without mpirun; the signal is raised in a step, so that no clock is needed."""
    body = f"""
import os
from dsgd.local import Local
gradient = Local.gradient
def signalled(self, x, t, scale):
    if self.comm.rank == 1 and t == 6 and "--resume" not in sys.argv:
        os.kill(os.getpid(), {int(number)})
    return gradient(self, x, t, scale)
Local.gradient = signalled
"""
    path = script(tmp_path, body)
    flags = [*TINY[:-3], "20", "--no-plot", "--simulate", "3", "--output", tmp_path / "run"]
    assert python(path, *flags).code == CODES[number]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 7
    assert python(path, *flags, "--resume").code == 0
    unbroken = dsgd.run(**config() | dict(steps=20), simulate=3)
    assert (
        json.loads((tmp_path / "run" / "summary.json").read_text())["params_sha256"]
        == unbroken.summary["params_sha256"]
    )


STUCK = """
import time
from dsgd.local import Local
def stuck(*args, **options):
    open("stuck", "w").close()
    while True:
        time.sleep(0.01)
Local.gradient = stuck
"""


def test_a_second_signal_ends_at_once(tmp_path):
    """A step that never ends must not make Ctrl-C useless."""
    job = Job(sys.executable, script(tmp_path, STUCK), *TINY, "--output", "run", cwd=tmp_path)
    job.wait_for((tmp_path / "stuck").exists)
    os.kill(job.process.pid, signal.SIGTERM)
    time.sleep(0.2)  # two signals at the same time may count as one
    assert job.process.poll() is None
    os.kill(job.process.pid, signal.SIGTERM)
    assert job.wait(timeout=5).code == -signal.SIGTERM


WAITING = """
from dsgd.local import Local
gradient = Local.gradient
def waiting(self, x, t, scale):
    if self.comm.rank == 1 and t == 3:
        open("stuck", "w").close()
        self.comm.recv(0, 99)
    return gradient(self, x, t, scale)
Local.gradient = waiting
"""


@pytest.mark.fault("P8")
@pytest.mark.parametrize("size, number", [*((2, number) for number in CODES), (3, signal.SIGTERM)])
def test_a_second_signal_ends_a_job_whose_ranks_all_wait(size, number, tmp_path):
    """Rank 1 waits for a message that nobody sends, the others for rank 1: inside MPI Python handles no signal.

    Three ranks outnumber two cores, and wait in another way.
    """
    job = start(size, script(tmp_path, WAITING), *TINY, "--output", "run", cwd=tmp_path)
    job.wait_for((tmp_path / "stuck").exists)
    os.kill(job.process.pid, number)
    time.sleep(0.3)  # two signals at the same time may count as one
    assert job.process.poll() is None
    os.kill(job.process.pid, number)
    job.wait(timeout=5)  # with a code of the launcher's own: MPICH's may be 0 after a second Ctrl-C
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_signal_after_the_last_step_stops_nothing(tmp_path):
    body = """
import os, signal
from dsgd import runner
finish = runner.finish
def late(*args):
    os.kill(os.getpid(), signal.SIGTERM)
    return finish(*args)
runner.finish = late
"""
    ended = python(script(tmp_path, body), *TINY, "--output", "run", cwd=tmp_path)
    assert ended.code == 0 and "stopped" not in ended.out and "6 steps done" in ended.out, ended
