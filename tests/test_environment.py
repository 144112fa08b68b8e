"""Where a job runs: odd paths, no home, a folder it may not write to, BLAS threads, other versions, no GPU."""

import json
import os
import sys

import numpy as np
import pytest
from launching import TRAIN, Job, each, mpirun, python, script

from dsgd.records import read_records

TINY = ["--data", "teacher:samples=120,features=6,hidden=4,classes=3", "--hidden", "8", "--steps", "6"]
ODD = ["-a b'\"$x ü 漢", os.fsdecode(b"\xff\xfe")]  # the last is no text


@pytest.mark.fault(
    "U2",
    "paths with spaces, quotes, letters of any script or bytes that are no text; no home; a current folder that is read-only",
    "a run trains, saves, draws and resumes as anywhere else, and errors name the path",
)
@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_any_path_will_do(name, tmp_path):
    """For the data, the output, and the file of flags, under mpirun and without."""
    folder = tmp_path / name
    folder.mkdir()
    X = np.random.default_rng(0).standard_normal((40, 3))
    np.savez(folder / "points.npz", X=X, y=np.arange(40) % 2)
    flags = ["--data", f"./{name}/points.npz", "--hidden", "4", "--output", f"./{name}/run"]
    ended = mpirun(2, *TRAIN, *flags, "--steps", "6", cwd=tmp_path)
    assert ended.code == 0 and ended.lines == [], ended
    ended = mpirun(2, *TRAIN, "--resume", "--output", f"./{name}/run", "--steps", "9", cwd=tmp_path)
    assert ended.code == 0 and ended.lines == [] and "from step 6" in ended.out, ended
    assert read_records(folder / "run")[-1]["step"] == 9 and (folder / "run" / "convergence.png").exists()
    (folder / "points.npz").write_bytes(b"no data")
    for ended in (mpirun(2, *TRAIN, *flags[:-1], f"./{name}/new", cwd=tmp_path), python(*TRAIN, *flags, cwd=tmp_path)):
        shown = name.encode(errors="backslashreplace").decode()
        assert ended.code == 65 and len(ended.lines) == 1 and f"{shown}/points.npz: not a readable" in ended.lines[0], (
            ended
        )


@pytest.mark.fault("U2")
def test_no_home_and_a_current_folder_that_is_read_only(tmp_path):
    command = ["env", "-u", "HOME", "mpirun", "-n", 2, sys.executable, *TRAIN, *TINY, "--output", tmp_path / "run"]
    ended = Job(*command, cwd="/proc").wait()
    assert ended.code == 0 and ended.lines == [] and (tmp_path / "run" / "convergence.png").exists(), ended


# --- BLAS threads

THREADS = """
import json, os
from threadpoolctl import threadpool_info
from dsgd.local import Local
gradient = Local.gradient
def noted(self, *args, **options):
    found = [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]
    with open(f"threads-{self.comm.rank}", "w") as file:
        json.dump(found, file)
    return gradient(self, *args, **options)
Local.gradient = noted
"""


@pytest.mark.fault(
    "P14",
    "every rank's BLAS starts a thread on every core",
    "it has `--threads` of them, 1 by default, whatever the environment says; the first line says how many",
)
@pytest.mark.parametrize("flags, threads, said", [([], 1, "1 BLAS thread a rank"), (["--threads", "2"], 2, "2 BLAS threads a rank")])  # fmt: skip
def test_blas_threads_are_what_was_asked_for_on_every_rank(flags, threads, said, tmp_path):
    env = {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    ended = mpirun(2, script(tmp_path, THREADS), *TINY, *flags, "--no-plot", env=env, cwd=tmp_path)
    assert ended.code == 0 and said in ended.out.splitlines()[0], ended
    for rank in (0, 1):
        found = json.loads((tmp_path / f"threads-{rank}").read_text())
        assert found and set(found) == {threads}


# --- versions

DIFFERS = """
import sys, numpy, platform, dsgd
{changes}
sys.argv[1:] = {flags}
from dsgd.train import entry
sys.exit(entry())
"""


def rank_with(changes):
    return ["-c", "from mpi4py import MPI" + DIFFERS.format(changes=changes, flags=[*TINY, "--no-plot", "--quiet"])]


@pytest.mark.fault("C2")
def test_another_numpy_or_python_on_a_rank_is_told_once(tmp_path):
    other = rank_with("numpy.__version__ = '1.26.4'; platform.python_version = lambda: '3.9.0'")
    ended = each(rank_with(""), rank_with(""), other, cwd=tmp_path)
    assert ended.code == 0 and len(ended.lines) == 1, ended
    assert ended.lines[0].startswith("dsgd: rank 2 has python 3.9.0 (rank 0: 3."), ended
    assert f"numpy 1.26.4 (rank 0: {np.__version__}): hashes need not agree" in ended.lines[0], ended


@pytest.mark.fault("C2")
def test_another_dsgd_on_a_rank_is_refused(tmp_path):
    ended = each(rank_with(""), rank_with("dsgd.__version__ = '0.0.1'"), cwd=tmp_path)
    assert ended.code == 2 and len(ended.lines) == 1, ended
    assert ended.lines[0].startswith("dsgd: rank 1 differs: dsgd '0.0.1' (rank 0: '"), ended
    assert not (tmp_path / "runs").exists()
