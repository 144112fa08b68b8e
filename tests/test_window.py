"""Ranks of one host that sum in shared memory: the bits of the plain path, and what happens where there is none."""

import json
import time

import pytest
from contract import CHECKS

import dsgd
from launching import ROOT, TRAIN, mpirun, script

segments = pytest.importorskip("dsgd.mpi.segments")

CASES = ("steps", "a_rank_that_lags", "arrays_from_elsewhere", "other_dtypes_and_lengths", "groups_have_no_window")
CASES += ("hosts_that_are_no_nodes_of_the_tree",)


@pytest.mark.parametrize("size, kind", [(2, ["once"]), (3, []), (4, ["once", "crowded"]), (8, ["hosts", "crowded"])])
def test_the_contract_holds_over_a_window(size, kind):
    """And its own checks: rank programs, see windows.py."""
    ended = mpirun(size, ROOT / "tests" / "windows.py", *kind)
    assert ended.code == 0, ended
    assert json.loads(ended.out) == [*CASES, *(() if "hosts" in kind else CHECKS)]


FLAGS = ["--data", "teacher:samples=120,features=6,hidden=4,classes=3", "--hidden", "8", "--steps", "4", "--no-plot"]
TINY = "import dsgd.mpi.window\ndsgd.mpi.window.free_bytes = lambda: 4096.0"
REFUSED = """
import dsgd.mpi.window
from mpi4py import MPI
def refuse(*args):
    raise MPI.Exception(MPI.ERR_NO_MEM)
dsgd.mpi.window.Window = refuse
"""


@pytest.mark.fault(
    "P15",
    "the ranks' shared memory has no room (a container's small `/dev/shm`), or the MPI library gives none",
    "rank 0 says so in one line, with the bytes wanted and free, and how to get more; sums go by messages, with the same bits",
)
@pytest.mark.parametrize("body, why", [(TINY, "4096 free in"), (REFUSED, "MPI gives")], ids=["no room", "refused"])
@pytest.mark.parametrize("algorithm", ["data-parallel", "sharded-update"])
def test_without_shared_memory_sums_go_by_messages(body, why, algorithm, tmp_path):
    flags = [*FLAGS, "--algorithm", algorithm, "--output", tmp_path / "run"]
    ended = mpirun(2, script(tmp_path, body), *flags)
    assert ended.code == 0, ended
    [line] = ended.lines
    assert why in line and "sums go by messages" in line and ("--shm-size" in line) == (body == TINY), line
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    plain = dsgd.run(simulate=2, data=FLAGS[1], hidden="8", steps=4, algorithm=algorithm)
    for fact in ("params_sha256", "messages_sent", "bytes_sent"):
        assert summary[fact] == plain.summary[fact]


KILLED = """
import os, signal, time
import dsgd.mpi.shared
from mpi4py import MPI
add, calls = dsgd.mpi.shared.tree_sum, []
def add_and_die(parts, out):
    calls.append(len(parts))
    if MPI.COMM_WORLD.rank == 1 and len(calls) == 3:
        with open("killed", "w") as file:
            file.write(repr(time.monotonic()))  # one clock for all processes of a machine
        os.kill(os.getpid(), signal.SIGKILL)
    return add(parts, out)
dsgd.mpi.shared.tree_sum = add_and_die
"""


@pytest.mark.fault(
    "P16",
    "a rank is killed (SIGKILL) while the ranks add in shared memory",
    "the job ends within 5 s with a code other than 0, no process and no segment is left once the next run has begun",
)
def test_a_rank_that_is_killed_between_two_barriers_takes_the_job_with_it(tmp_path):
    ended = mpirun(3, script(tmp_path, KILLED), *FLAGS, cwd=tmp_path)
    assert ended.code != 0 and time.monotonic() - float((tmp_path / "killed").read_text()) < 5, ended
    left = segments.dead()
    assert mpirun(2, *TRAIN, *FLAGS).code == 0
    assert not left.keys() & segments.segments().keys()
