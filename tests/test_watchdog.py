"""Jobs that no longer go on are ended by their own watchdog, with code 75, the stacks, and one line that says who waits."""

import os
import signal
import time

import psutil
import pytest

from launching import SLOW, TRAIN, mpirun, script, start

LONG = ["--data", "teacher:samples=120,features=6,hidden=4,classes=3", "--hidden", "8", "--no-plot", "--quiet"]
LONG += ["--log-every", "1", "--checkpoint-every", "5", "--output", "run"]
TIMEOUT = ["--timeout", "2"]

# Rank 1 goes its own way in step 5; the gradients of the others wait for it in an all-reduce.
ALONE = """
from dsgd.local import Local
gradient = Local.gradient
def alone(self, x, t, scale):
    if self.comm.rank == 1 and t == 4:
        {act}
    return gradient(self, x, t, scale)
Local.gradient = alone
"""


def ranks(job):
    """{rank: psutil.Process} of the job's ranks, once all say who they are."""
    found = {}
    for process in job.processes():
        try:
            environment = process.environ()
            rank = environment.get("PMI_RANK") or environment.get("OMPI_COMM_WORLD_RANK")
            if rank is not None and "python" in process.name():
                found[int(rank)] = process
        except psutil.Error:
            pass
    return found


def under_way(folder, size, *flags):
    """A job of slow steps, of which some are done."""
    job = start(size, script(folder, SLOW), *LONG, "--steps", "100000", *flags, cwd=folder)
    metrics = folder / "run" / "metrics.jsonl"
    job.wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 6)
    return job


def summary(ended):
    """The one line that is for all ranks; each of the others speaks for one rank."""
    assert ended.code == 75, ended
    [line] = [line for line in ended.lines if not line.startswith("[rank ")]
    assert "no progress for 2 s (--timeout)" in line and "--resume goes on" in line, ended
    return line


def shown(ended):
    """The ranks that printed a stack."""
    return {line.partition("]")[0] for line in ended.lines if "in _run" in line or "in run" in line}


@pytest.mark.fault(
    "P5",
    "a rank is stopped (SIGSTOP), loops for ever or waits for a call that never comes",
    "once the flags are read: after `--timeout` every rank that still runs prints its stack, one line names who waits in what and who was not heard, and the job ends with code 75",
)
def test_a_stopped_rank_is_named(tmp_path):
    job = under_way(tmp_path, 3, *TIMEOUT)
    ranks(job)[1].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    ended = job.wait(timeout=15)
    assert time.monotonic() - began < 8
    line = summary(ended)
    assert "ranks 0, 2 wait in allreduce" in line and ", step " in line, line
    assert "; rank 1 was last heard " in line, line
    assert shown(ended) >= {"[rank 0", "[rank 2"}, ended  # Open MPI wakes the stopped one up to end it
    assert any(line.startswith("[rank 2] rank 2 waits in allreduce ") for line in ended.lines), ended
    resumed = mpirun(3, *TRAIN, *LONG, "--steps", "300", "--resume", cwd=tmp_path)
    assert resumed.code == 0 and "300 steps done" in resumed.out, resumed


@pytest.mark.fault("P5")
def test_when_rank_0_is_stopped_the_next_one_speaks(tmp_path):
    job = under_way(tmp_path, 3, *TIMEOUT)
    ranks(job)[0].send_signal(signal.SIGSTOP)
    ended = job.wait(timeout=20)
    line = summary(ended)
    assert "rank 0 did not answer; rank 1 waits in allreduce " in line, line
    assert shown(ended) >= {"[rank 1", "[rank 2"}, ended


@pytest.mark.fault("P5")
def test_a_rank_that_loops_is_named_with_its_line(tmp_path):
    body = ALONE.format(act="while True: pass")
    ended = mpirun(2, script(tmp_path, body), *LONG, *TIMEOUT, cwd=tmp_path, timeout=20)
    line = summary(ended)
    assert "rank 0 waits in allreduce 4, step 5; rank 1 has been in no communicator call for " in line, line
    assert " s, after allreduce 3, step 4; the job ends" in line, line
    assert any(line.startswith("[rank 1]") and "while True: pass" in line for line in ended.lines), ended


@pytest.mark.fault("P5")
def test_ranks_that_wait_for_each_other_are_named(tmp_path):
    """Rank 1 asks for a message that nobody sends."""
    ended = mpirun(2, script(tmp_path, ALONE.format(act="self.comm.recv(0, 5)")), *LONG, *TIMEOUT, cwd=tmp_path)
    assert "rank 0 waits in allreduce 4, step 5; rank 1 waits in recv from rank 0" in summary(ended)


def test_a_rank_that_leaves_early_is_named(tmp_path):
    """Rank 1 takes itself for done, and waits where the run is put together."""
    body = """
from dsgd.algorithms import ALGORITHMS, Algorithm
from dsgd.algorithms.data_parallel import data_parallel
def early(comm, local, state, *, optimizer, schedule, steps):
    yield from data_parallel(comm, local, state, optimizer=optimizer, schedule=schedule, steps=4 + (comm.rank == 0))
ALGORITHMS["early"] = Algorithm(early)
"""
    flags = [*LONG, "--algorithm", "early", *TIMEOUT]
    ended = mpirun(2, script(tmp_path, body), *flags, cwd=tmp_path)
    assert "rank 0 waits in allreduce 4, step 5; rank 1 waits in gather 0" in summary(ended), ended


DRAWING = """
import time
import dsgd.plots.convergence
def draw(*args):
    open("drawing", "w").close()
    time.sleep({seconds})
dsgd.plots.convergence.draw = draw
"""
DRAWN = [flag for flag in LONG if flag != "--no-plot"] + ["--steps", "6"]


@pytest.mark.fault("P5")
@pytest.mark.parametrize("size", [2, 3])
def test_rank_0_is_watched_until_it_has_drawn_its_picture(size, tmp_path):
    """The others wait for it; stopped, it is named by the next one."""
    job = start(size, script(tmp_path, DRAWING.format(seconds=60)), *DRAWN, *TIMEOUT, cwd=tmp_path)
    job.wait_for((tmp_path / "drawing").exists)
    ranks(job)[0].send_signal(signal.SIGSTOP)
    assert "rank 0 did not answer; rank 1 " in summary(job.wait(timeout=20))


@pytest.mark.fault("P5")
def test_a_rank_that_stops_behind_its_last_step_is_named(tmp_path):
    """Rank 0 has its picture, and waits for the others to leave."""
    job = start(2, script(tmp_path, DRAWING.format(seconds=1)), *DRAWN, *TIMEOUT, cwd=tmp_path)
    job.wait_for((tmp_path / "drawing").exists)
    ranks(job)[1].send_signal(signal.SIGSTOP)
    assert "; rank 1 was last heard " in summary(job.wait(timeout=20))


def test_a_picture_may_take_longer_than_the_timeout(tmp_path):
    body = DRAWING.format(seconds=4)
    ended = mpirun(2, script(tmp_path, body), *DRAWN, "--timeout", "1", cwd=tmp_path)
    assert ended.code == 0 and not ended.lines, ended


@pytest.mark.fault("P7")
def test_ranks_that_wait_for_a_picture_do_not_outlive_their_launcher(tmp_path):
    job = start(2, script(tmp_path, DRAWING.format(seconds=60)), *DRAWN, cwd=tmp_path)
    job.wait_for((tmp_path / "drawing").exists)
    for process in job.processes():
        if process.pid not in {rank.pid for rank in ranks(job).values()}:
            process.kill()
    psutil.wait_procs(job.processes(), timeout=15)
    job.wait(timeout=1)


def test_a_run_that_goes_on_is_left_alone(tmp_path):
    """It takes longer than the timeout, and is stopped for longer, as a whole, in a long step: that time does not count."""
    flags = [*LONG, "--steps", "6", "--timeout", "1"]
    job = start(2, script(tmp_path, SLOW.replace("0.005", "0.5")), *flags, cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    job.wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 2)
    time.sleep(0.25)  # in the middle of a step
    for number, pause in ((signal.SIGSTOP, 1.5), (signal.SIGCONT, 0)):
        for process in ranks(job).values():
            process.send_signal(number)
        time.sleep(pause)
    ended = job.wait(timeout=20)
    assert ended.code == 0 and not ended.lines, ended


def test_without_threads_in_mpi_each_rank_looks_after_itself(tmp_path):
    """It cannot ask the others, but a job that stands still ends all the same."""
    env = {"MPI4PY_RC_THREAD_LEVEL": "funneled"}
    body = ALONE.format(act="self.comm.recv(0, 5)")
    ended = mpirun(2, script(tmp_path, body), *LONG, *TIMEOUT, cwd=tmp_path, env=env)
    assert "rank 0 waits in allreduce 4, step 5; this MPI lets no thread ask the others" in summary(ended), ended


AGAIN = """
import sys, dsgd
for steps in (2, 3):
    dsgd.run(data="teacher:samples=60", hidden="4", steps=steps, backend="mpi", timeout=1)
try:
    dsgd.run(data="no such data", backend="mpi", timeout=1)
except dsgd.errors.DsgdError as error:
    assert error.agreed
    sys.exit(3)
"""


def test_run_after_run_and_an_agreed_error(tmp_path):
    """Each run has a thread of its own, and none is left, whether the run ends well or with an error of all ranks."""
    path = tmp_path / "again.py"
    path.write_text("import dsgd.errors" + AGAIN)
    ended = mpirun(3, "-m", "mpi4py", path, cwd=tmp_path)
    assert ended.code == 3 and "Traceback" not in ended.err, ended


@pytest.mark.fault(
    "P7",
    "the launcher is killed (SIGKILL)",
    "the ranks end by themselves within 15 s, also when nothing else ends them",
)
@pytest.mark.parametrize("all_of_it", [False, True], ids=["mpirun", "mpirun and its proxies"])
def test_ranks_do_not_outlive_their_launcher(all_of_it, tmp_path):
    """MPICH's proxy kills the ranks when mpirun has gone; without the proxy only the watchdog does, whatever its timeout."""
    job = under_way(tmp_path, 3, "--timeout", "0")
    of_the_job = {process.pid for process in ranks(job).values()}
    for process in [job.process, *job.processes()] if all_of_it else [job.process]:
        if process.pid not in of_the_job:
            os.kill(process.pid, signal.SIGKILL)
    began = time.monotonic()
    job.wait(timeout=15, grace=15)
    assert time.monotonic() - began < 15
