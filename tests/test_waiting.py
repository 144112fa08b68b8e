"""Ranks that outnumber their cores wait without one; and ranks that are slow on purpose are waited for."""

import json
import os

import pytest

import dsgd
from launching import ROOT, SLOW, mpirun, script

waiting = pytest.importorskip("dsgd.mpi.waiting")


class Clock:
    """Stands in for the module `time`: every question takes 10 µs, a sleep takes what it should."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def monotonic(self):
        self.now += 10e-6
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append((self.now, seconds))


def test_the_first_300_microseconds_are_not_slept(monkeypatch):
    """And after 50 of them the core is offered to others."""
    clock, yielded = Clock(), []
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(waiting.os, "sched_yield", lambda: yielded.append(clock.now))
    assert waiting.wait_until(lambda: clock.now > 290e-6)
    assert clock.slept == [] and 20 < len(yielded) < 26 and yielded[0] > 50e-6


def test_then_an_eighth_of_the_time_waited_is_slept_up_to_a_millisecond(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    assert waiting.wait_until(lambda: clock.now > 0.1)
    assert all(slept <= clock.now / 8 for _, slept in clock.slept)
    assert clock.slept[-1][1] == max(slept for _, slept in clock.slept) == 1e-3
    assert 100 < len(clock.slept) < 200  # not much more than one a millisecond


def test_what_does_not_come_is_given_up_in_time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    assert not waiting.wait_until(lambda: False, end=0.01)
    assert 0.01 <= clock.now < 0.0115


CROWDED = """
import os, sys
os.sched_setaffinity(0, {cores})
from mpi4py import MPI
from dsgd.mpi.waiting import crowded
sys.stdout.write(f"{{crowded(MPI.COMM_WORLD)}} ")
"""


@pytest.mark.parametrize(
    "size, cores, expected",
    [(1, "[0]", False), (2, "[0]", True), (2, "[0, 1]", False), (3, "[0, 1]", True)]
    + [(2, "[int(os.environ['PMI_RANK'])]", False)],
)
def test_ranks_are_counted_against_the_cores_that_they_may_use(size, cores, expected, tmp_path):
    """All of them together: a launcher may bind each rank to a core of its own."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    path = tmp_path / "crowded.py"
    path.write_text(CROWDED.format(cores=cores))
    ended = mpirun(size, path)
    assert ended.code == 0 and ended.out.split() == [str(expected)] * size, ended


def test_crowded_ranks_wait_without_a_core():
    """For messages and sums, long ones too, of which the sender has to wait for the receiver."""
    ended = mpirun(4, ROOT / "tests" / "waits.py", "crowded")
    assert ended.code == 0, ended
    parts = json.loads(ended.out)
    assert len(parts) == 6
    assert all(part < 0.15 for way in parts.values() for part in way), parts


# --- late on purpose

FLAGS = ["--data", "teacher:samples=120,features=6,hidden=4,classes=3", "--hidden", "8", "--steps", "6"]
FLAGS += ["--no-plot", "--output", "run"]


@pytest.mark.fault(
    "P6",
    "a rank is ten times slower than the others",
    "synchronous algorithms wait for it, end with the same bits, and the timeline names it; a parameter server's ssp, asp and backup do not: each is as fast as its model says, to the event in the simulator",
)
@pytest.mark.parametrize("faults", ["slow:rank=1,x=10", "delay:rank=1,s=0.05", "slow:rank=1,x=5; delay:rank=1,s=0.03"])
@pytest.mark.parametrize("algorithm", ["data-parallel", "parameter-server"])
def test_a_late_rank_changes_the_time_and_nothing_else(faults, algorithm, tmp_path):
    """A gradient takes 5 ms, so that each of the 6 steps takes 45 ms or more."""
    flags = [*FLAGS, "--algorithm", algorithm, "--faults", faults, "--debug-collectives"]
    computes = SLOW.replace("Local.gradient", "Local._gradient")  # inside comm.compute
    ended = mpirun(3, script(tmp_path, computes), *flags, cwd=tmp_path)
    assert ended.code == 0 and f"faults on purpose: {faults}" in ended.out, ended
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["wall_seconds"] > 6 * 0.045, summary
    plain = dsgd.run(simulate=3, data=FLAGS[1], hidden="8", steps=6, algorithm=algorithm)
    for fact in ("params_sha256", "messages_sent", "bytes_sent"):
        assert summary[fact] == plain.summary[fact]


def test_no_fault_no_cost():
    """Without faults and checks the communicator is the plain one."""
    from dsgd.faults import read_faults
    from dsgd.mpi.backend import communicator
    from dsgd.mpi.comm import MPIComm

    assert communicator(read_faults(""), 1, debug=False, trace=False) is MPIComm
    assert communicator(read_faults("slow:rank=0,x=3; delay:rank=2,s=1"), 1, debug=False, trace=False) is MPIComm
    late = communicator(read_faults("slow:rank=1,x=3; slow:rank=1,x=2"), 1, debug=False, trace=False)
    assert issubclass(late, MPIComm) and (late.slowness, late.lateness) == (6, 0)
