"""What is installed, what it needs, and in which order it is loaded: each in a process of its own."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import OPEN_MPI

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "dsgd", "simulator", "mpi", "plots")
TRAIN = ("-m", "dsgd.train", "--steps", "2", "--quiet", "--no-plot", "--output", "run")
needs_mpi = pytest.mark.skipif(
    not (shutil.which("mpirun") and importlib.util.find_spec("mpi4py")), reason="no mpirun or no mpi4py here"
)

# A sitecustomize.py: Python imports it before anything else, and here it makes an import fail.
POISON = """
import os, sys
class Poison:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r} and os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")) in {ranks!r}:
            raise {error}
sys.meta_path.insert(0, Poison())
"""


def python(*arguments, cwd, path, ranks=0, wrap=()):
    """A Python process, or an MPI job of them, with these folders in front of its path.  wrap: words in front of each."""
    launcher = ["mpirun", "-n", str(ranks), *wrap] if ranks else []
    environment = OPEN_MPI | {
        key: value for key, value in os.environ.items() if not key.startswith(("PMI", "PYTHON", "MPI"))
    }
    environment |= {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [*launcher, sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def poison(folder, module, error, ranks=("0", "1")):
    """A folder that makes `import module` fail on some ranks."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(POISON.format(module=module, error=error, ranks=ranks))
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what a wheel would put into site-packages, and nothing else.

    Built with setuptools alone: `pip wheel` would need the network, or the package `wheel`.
    """
    if not importlib.util.find_spec("setuptools"):
        pytest.skip("no setuptools here to build with, and fetching it would need the network")
    folder = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)
    build = python(
        "-c", "from setuptools import setup; setup()", "build", "--build-lib", "site-packages", cwd=folder, path=[]
    )
    assert build.returncode == 0, build.stderr
    return folder / "site-packages"


def test_an_installation_adds_one_package_with_all_of_its_files(installed):
    assert os.listdir(installed) == ["dsgd"]
    for folder, inside in (("dsgd", "."), ("simulator", "simulator"), ("mpi", "mpi"), ("plots", "plots")):
        expected = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py")}
        assert expected <= {
            path.relative_to(installed / "dsgd" / inside)
            for path in installed.rglob("*.py")
            if path.is_relative_to(installed / "dsgd" / inside)
        }
    assert {path.name for path in (installed / "dsgd" / "datasets").iterdir()} == {"README.md", "digits.npz"}


def test_an_installation_trains_from_any_folder(installed, tmp_path):
    where = python(
        "-c", "import dsgd, dsgd.mpi; print(dsgd.__file__, dsgd.mpi.__file__)", cwd=tmp_path, path=[installed]
    )
    assert where.stdout.count(str(installed)) == 2, where.stderr
    job = python(
        "-m", "dsgd.train", "--steps", "3", "--simulate", "2", "--output", "run", cwd=tmp_path, path=[installed]
    )
    assert job.returncode == 0, job.stderr
    assert "test accuracy" in job.stdout.splitlines()[-1]
    assert {"metrics.jsonl", "summary.json", "checkpoint.npz", "convergence.png"} <= set(os.listdir(tmp_path / "run"))


def test_importing_dsgd_loads_nothing(tmp_path):
    """MPI must come before NumPy, and `python -m dsgd.train` imports dsgd first."""
    code = "import sys, dsgd; print({'numpy', 'matplotlib', 'mpi4py', 'greenlet', 'sklearn'} & set(sys.modules)); print(dsgd.run, dsgd.Config)"
    result = python("-c", code, cwd=tmp_path, path=[ROOT])
    assert result.stdout.startswith("set()\n<function run"), result.stderr


@pytest.mark.fault(
    "P12",
    "no mpi4py, or no MPI library",
    "one rank and the simulator work without; under `mpirun` the job ends with one line that says what to install",
)
def test_training_alone_needs_no_mpi(tmp_path):
    blocked = poison(tmp_path / "blocked", "mpi4py", "ImportError('no mpi4py')")
    job = python(*TRAIN, "--simulate", "2", cwd=tmp_path, path=[blocked, ROOT])
    assert job.returncode == 0 and "test accuracy" in job.stdout, job.stderr


def test_training_in_the_simulator_loads_no_mpi_and_no_picture(tmp_path):
    result = python("-X", "importtime", *TRAIN, "--simulate", "2", cwd=tmp_path, path=[ROOT])
    assert result.returncode == 0
    assert not re.search(r"\| +(mpi4py|matplotlib|tqdm)", result.stderr)


@needs_mpi
def test_under_mpirun_mpi_is_imported_before_numpy(tmp_path):
    apart = ["sh", "-c", 'exec "$@" 2>imports-$$', "sh"]  # stderr of each rank in a file of its own
    job = python("-X", "importtime", *TRAIN, cwd=tmp_path, path=[ROOT], ranks=2, wrap=apart)
    assert job.returncode == 0, job.stderr
    files = list(tmp_path.glob("imports-*"))
    assert len(files) == 2
    for file in files:
        loaded = re.findall(r"^import time:.*\| +(\S+)$", file.read_text(), re.MULTILINE)
        before = loaded[: loaded.index("mpi4py.MPI")]
        assert "numpy" in loaded and not {"numpy", "dsgd.config"} & set(before)


@needs_mpi
def test_under_mpirun_a_rank_that_cannot_import_ends_the_job_at_once(tmp_path):
    broken = poison(tmp_path / "broken", "numpy", "ImportError('numpy is broken here')", ranks=("1",))
    began = time.monotonic()
    job = python(*TRAIN, cwd=tmp_path, path=[broken, ROOT], ranks=2)
    assert time.monotonic() - began < 5
    assert job.returncode != 0
    assert job.stderr.count("Traceback") == job.stderr.count("[rank 1] ImportError: numpy is broken here") == 1, (
        job.stderr
    )
    assert "[rank 0]" not in job.stderr


@pytest.mark.fault("P12")
@needs_mpi
def test_under_mpirun_without_mpi4py_the_message_says_what_to_install(tmp_path):
    blocked = poison(tmp_path / "blocked", "mpi4py", "ImportError('no mpi4py')")
    began = time.monotonic()
    job = python(*TRAIN, cwd=tmp_path, path=[blocked, ROOT], ranks=2)
    assert time.monotonic() - began < 5
    assert job.returncode != 0 and "Traceback" not in job.stderr
    assert "cannot use MPI (no mpi4py); pip install 'dsgd[mpich]'" in job.stderr
    assert "python -m dsgd.train --simulate 4" in job.stderr
