"""The doctor: a healthy machine, every sickness that it knows injected, and both kinds of start."""

import configparser
import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from dsgd.doctor import findings, machine, mpi, packages, ranks, selftest
from dsgd.doctor.__main__ import report
from launching import OPEN_MPI, ROOT, Job, mpirun, python

DOCTOR = ["-m", "dsgd.doctor"]
MPICH, OPEN = ("MPICH", "5.0.2"), ("Open MPI", "5.0.11")
# What they print.
HYDRA = "HYDRA build details:\n    Version:                                 5.0.2\n    Release Date:  Fri\n"
ORTE, PRTE = "mpirun (Open MPI) 4.1.4\n\nReport bugs to", "mpirun (Open MPI) 5.0.11\n\nReport bugs to"
INTEL = "Intel(R) MPI Library for Linux* OS, Version 2021.18 Build 20260325"


def levels(found):
    return [finding.level for finding in found]


def program(folder, name, text="", code=0, err=""):
    """A program in `folder` that prints this."""
    path = folder / name
    folder.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\necho '{err}' >&2\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def on_path(monkeypatch, *folders):
    """Only these folders are on the PATH, and sh's."""
    monkeypatch.setenv("PATH", os.pathsep.join([*map(str, folders), "/usr/bin", "/bin"]))


# --- real ones


def test_alone_it_finds_this_machine_in_order_and_tells_no_secret(tmp_path):
    ended = python(*DOCTOR, cwd=tmp_path, env={"API_TOKEN": "s3cr3t", "SLURM_JWT": "s3cr3t"})
    assert ended.code == 0 and ended.err == "" and ended.out.splitlines()[-1] == "nothing is wrong", ended
    about = [line[7:21].strip() for line in ended.out.splitlines()[:-1] if line.startswith("ok")]
    assert {"MPI library", "mpirun", "packages", "BLAS", "gradient", "simulator", "mpirun -n 2"} <= set(about), ended
    assert re.search(r"ok     mpirun -n 2   the simulator's bits, sha256 [0-9a-f]{16}", ended.out)
    assert list(tmp_path.iterdir()) == [] and "s3cr3t" not in ended.out


def test_without_any_package_it_says_which_are_missing(tmp_path):
    ended = python("-S", *DOCTOR, cwd=tmp_path)
    assert ended.code == 1 and ended.err == "" and "  packages: pip install 'numpy>=2'" in ended.out.splitlines(), ended


def test_under_mpirun_rank_0_speaks_for_all(tmp_path):
    ended = mpirun(2, *DOCTOR, cwd=tmp_path, env={"PYTHONIOENCODING": "utf-8"})
    assert ended.code == 0 and ended.out.count("\n") == len(set(ended.out.splitlines())), ended
    assert "ok     2 ranks       the simulator's bits" in ended.out and "2 on " in ended.out, ended


def test_a_foreign_launcher_is_told_before_mpi_is_started(tmp_path):
    """MPICH would end the process in MPI_Init, with a message of its own."""
    env = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0"}
    ended = python(*DOCTOR, cwd=tmp_path, env=env)
    assert ended.code == 1 and ended.err == "", ended
    assert "wrong  launcher      2 processes were started as Open MPI does it, mpi4py has loaded MPICH" in ended.out
    assert f"  launcher: export PATH={Path(sys.executable).parent}:$PATH" in ended.out.splitlines()
    assert python(*DOCTOR, env=env | {"OMPI_COMM_WORLD_RANK": "1"}) == (0, "", "")


@pytest.mark.skipif(not os.environ.get("DSGD_OPENMPI"), reason="DSGD_OPENMPI names no environment with Open MPI")
def test_the_same_with_open_mpi(tmp_path):
    place = os.environ["DSGD_OPENMPI"]
    ended = Job(f"{place}/bin/mpirun", "-n", 2, sys.executable, *DOCTOR, env=OPEN_MPI, cwd=tmp_path).wait()
    assert ended.code == 1 and "wrong  launcher" in ended.out, ended


def test_what_is_no_flag_is_refused():
    ended = python(*DOCTOR, "--fast")
    assert ended.code == 2 and ended.lines == ["dsgd: unrecognized arguments: --fast"], ended


# --- the library and the launcher


@pytest.mark.parametrize(
    "text, known, expected",
    [
        (HYDRA, mpi.LAUNCHERS, MPICH),
        (ORTE, mpi.LAUNCHERS, ("Open MPI", "4.1.4")),
        (PRTE, mpi.LAUNCHERS, OPEN),
        ("mpirun (OpenRTE) 4.1.4", mpi.LAUNCHERS, ("Open MPI", "4.1.4")),
        (INTEL, mpi.LAUNCHERS, ("Intel MPI", "2021.18")),
        ("a script of this site", mpi.LAUNCHERS, None),
        ("MPICH Version:      5.0.2\nMPICH Release date:", mpi.LIBRARIES, MPICH),
        ("Open MPI v5.0.11, package: Open MPI root@x", mpi.LIBRARIES, OPEN),
        ("Intel(R) MPI Library 2021.18 for Linux* OS", mpi.LIBRARIES, ("Intel MPI", "2021.18")),
        ("MPI VERSION    : CRAY MPICH version 8.1.28.29 (ANL base 3.4a2)", mpi.LIBRARIES, ("Cray MPICH", "8.1.28.29")),
    ],
)
def test_who_they_say_they_are(text, known, expected):
    assert mpi.recognise(text, known) == expected


@pytest.mark.parametrize(
    "library, text, level, said",
    [
        (MPICH, HYDRA, "ok", "MPICH 5.0.2"),
        (MPICH, PRTE, "wrong", "is of Open MPI 5.0.11, mpi4py has loaded MPICH 5.0.2: each process would be alone"),
        (OPEN, HYDRA, "wrong", "is of MPICH 5.0.2, mpi4py has loaded Open MPI 5.0.11"),
        (("MPICH", "4.0.2"), HYDRA, "note", "the library MPICH 4.0.2: mostly this works"),
        (MPICH, INTEL, "note", "is of Intel MPI 2021.18, the library MPICH 5.0.2"),
        (MPICH, "a script of this site", "note", "a kind that is not known"),
    ],
)
def test_the_launcher_is_compared_with_the_library(library, text, level, said, tmp_path, monkeypatch):
    program(tmp_path / "bin", "mpirun", text)
    on_path(monkeypatch, tmp_path / "bin")
    found = mpi.first_launcher(library, mpi.launchers())
    assert found.level == level and said in found.text and f"{tmp_path}/bin/mpirun" in found.text


def test_the_mend_is_an_mpirun_that_is_here(tmp_path, monkeypatch):
    program(tmp_path / "a", "mpirun", PRTE)
    program(tmp_path / "b", "mpirun", HYDRA)
    on_path(monkeypatch, tmp_path / "a", tmp_path / "b")
    assert mpi.first_launcher(MPICH, mpi.launchers()).mend == f"export PATH={tmp_path}/b:$PATH"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "a"))
    assert "pip install --force-reinstall mpich" in mpi.first_launcher(MPICH, {f"{tmp_path}/a/mpirun": OPEN}).mend


def test_without_mpirun(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mpi.first_launcher(MPICH, {"/x/bin/mpirun": MPICH})[0::3] == ("wrong", "export PATH=/x/bin:$PATH")
    program(tmp_path, "srun")
    assert mpi.first_launcher(MPICH, {}).level == "note"


def test_without_mpi4py_or_without_a_library(tmp_path, monkeypatch):
    monkeypatch.setattr(mpi, "library", lambda: (None, "cannot load MPI library"))
    (found,) = mpi.mpi()
    assert (
        found.level == "wrong" and "cannot load MPI library" in found.text and "pip install 'dsgd[mpich]'" in found.mend
    )
    monkeypatch.setattr(mpi.importlib.util, "find_spec", lambda name: None)
    (found,) = mpi.mpi()
    assert found.level == "note" and "no mpi4py" in found.text


def test_what_a_broken_library_says_is_quoted(monkeypatch):
    monkeypatch.setattr(
        mpi, "ask", lambda *_, **__: findings.Answer(1, "", "Traceback\nRuntimeError: cannot load MPI library\n")
    )
    assert mpi.library() == (None, "RuntimeError: cannot load MPI library")


def test_a_scheduler_is_named(monkeypatch):
    assert list(mpi.scheduler()) == []
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("PBS_JOBID", "18.host")
    slurm, how, pbs = mpi.scheduler()
    assert "job 17: 8 tasks" in slurm.text and "--mpi=pmi2" in how.text and "18.host" in pbs.text


# --- the machine


@pytest.mark.parametrize(
    "name, value, level",
    [
        ("OMP_NUM_THREADS", "1", None),
        ("OMP_NUM_THREADS", "8", "note"),
        ("MKL_NUM_THREADS", "many", "wrong"),
        ("OPENBLAS_NUM_THREADS", "0", "wrong"),
        ("OPENBLAS_CORETYPE", "Haswell", "note"),
    ],
)
def test_variables_of_the_blas(name, value, level, monkeypatch):
    for other in (*machine.THREADS, *machine.KERNELS):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    first, *others = machine.blas()
    assert first.level == "ok" and levels(others) == [level] * (level is not None)
    assert all(f"{name}={value}" in finding.text for finding in others)


@pytest.mark.parametrize("libraries", [[], [{"user_api": "blas", "num_threads": 4}]])
def test_a_blas_that_cannot_be_held(libraries, monkeypatch):
    import threadpoolctl

    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: libraries)
    assert next(machine.blas()).level == "wrong"


@pytest.mark.parametrize(
    "smi, cupy, level, said",
    [
        (None, False, "ok", "on the CPU"),
        ("NVIDIA H100, 570.1", False, "note", "NVIDIA H100, driver 570.1; --device gpu needs CuPy"),
        ("NVIDIA H100, 570.1", True, "ok", "NVIDIA H100, driver 570.1; CuPy 13.0"),
        ("broken", False, "wrong", "nvidia-smi: exit code 9: no driver"),
        (None, OSError("no card"), "wrong", "no card"),
    ],
)
def test_cards(smi, cupy, level, said, tmp_path, monkeypatch):
    if smi:
        broken = smi == "broken"
        program(tmp_path / "bin", "nvidia-smi", "" if broken else smi, code=9 * broken, err="no driver" * broken)
    on_path(monkeypatch, tmp_path / "bin")

    def open_device(name):
        if cupy is True:
            return SimpleNamespace(__version__="13.0")
        raise cupy

    monkeypatch.setattr("dsgd.device.open_device", open_device)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: cupy or None)
    (found,) = machine.gpu()
    assert found.level == level and said in found.text, found


def test_little_shared_memory():
    (found,) = machine.shared_memory(1 << 20)
    assert found.level == "wrong" and "1.0 MiB are free" in found.text and "--shm-size" in found.mend
    assert levels(machine.shared_memory(1 << 30)) == levels(machine.shared_memory(float("inf"))) == ["ok"]


def test_a_folder_that_cannot_be_written_to(monkeypatch):
    monkeypatch.chdir("/proc")
    (found,) = machine.disk()
    assert (
        found.level == "wrong" and found.text.startswith("/proc: no file can be written") and "--output" in found.mend
    )


@pytest.mark.parametrize(
    "free, seconds, kind, level",
    [(1e9, 0.01, "ext4", "ok"), (1e6, 0.01, "ext4", "wrong"), (1e9, 2.0, "ext4", "note"), (1e9, 0.01, "nfs4", "note")],
)
def test_disks(free, seconds, kind, level, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clock = iter([0.0, seconds])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setattr(machine, "file_system", lambda path: kind)
    (found,) = machine.disk()
    assert found.level == level and kind in found.text and list(tmp_path.iterdir()) == []


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text("a / ext4 rw 0 0\nb /home nfs4 rw 0 0\nc /home/my\\040own lustre rw 0 0\n")
    kinds = [machine.file_system(Path(path), mounts) for path in ("/tmp", "/home/x", "/homely", "/home/my own/x")]
    assert kinds == ["ext4", "nfs4", "ext4", "lustre"]
    assert machine.file_system(tmp_path, tmp_path / "none") == "unknown file system"


def test_output_that_knows_few_letters(monkeypatch):
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(encoding="ascii"))
    (found,) = machine.text()
    assert found.level == "note" and "export LC_ALL=C.UTF-8" in found.text


# --- packages, ranks, the self-test


def test_packages_that_are_old_or_missing(monkeypatch):
    versions = {"numpy": "1.26.4", "matplotlib": "3.10.0", "threadpoolctl": "3.0", "tqdm": "4.1", "mpi4py": "4.0rc1"}

    def version(name):
        if name in versions:
            return versions[name]
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "version", version)
    found = list(packages.packages())
    assert [(f.text, f.mend) for f in found if f.level == "wrong"] == [
        ("numpy 1.26.4 is older than 2", "pip install 'numpy>=2'"),
        ("no greenlet", "pip install 'greenlet>=3'"),
    ]
    assert "matplotlib 3.10.0" in found[-2].text and "scikit-learn (pip install 'dsgd[sklearn]')" in found[-1].text


def test_the_least_versions_are_those_of_setup_cfg():
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    core = dict(line.split(">=") for line in config["options"]["install_requires"].split())
    assert core == packages.CORE
    extras = config["options.extras_require"]
    assert all(f"{name}{least and '>='}{least}" in extras[extra] for name, (least, extra) in packages.EXTRAS.items())
    assert config["options"]["python_requires"] == f">={'.'.join(map(str, packages.PYTHON))}"


def rank(host="a", cores=(0, 1), free=1 << 30, **versions):
    return {"host": host, "cores": list(cores), "free": free, "versions": {"numpy": "2.4", "blas": "x"} | versions}


def test_ranks_are_compared():
    assert levels(ranks.ranks([rank(), rank("b")])) == ["ok"]
    (found,) = ranks.ranks([rank(), rank("b", numpy="2.5")])
    assert found.level == "wrong" and found.text == "rank 1 on b: numpy 2.5 (rank 0: 2.4)"


def test_hosts_are_looked_at():
    bound = [rank(cores=[0]), rank(cores=[1])]
    assert levels(ranks.hosts(bound)) == levels(ranks.hosts([rank(), rank()])) == ["ok"]
    assert levels(ranks.hosts([rank(cores=[0]), rank(cores=[0])])) == ["note"]
    first, second, memory = ranks.hosts([rank(), rank("b"), rank("b", free=0)])
    assert levels([first, second, memory]) == ["ok", "ok", "ok"]
    assert levels(ranks.hosts([rank(), rank("b", free=1 << 20)])) == ["ok", "ok", "wrong"]


def test_a_wrong_gradient_is_seen(monkeypatch):
    from dsgd.objectives import Supervised

    assert levels(selftest.gradient()) == ["ok"]
    right = Supervised.gradient

    def wrong(self, params, grads, batch, scale):
        loss = right(self, params, grads, batch, scale)
        grads["layer 0 bias"][0] *= 1.001
        return loss

    monkeypatch.setattr(Supervised, "gradient", wrong)
    assert levels(selftest.gradient()) == ["wrong"]


def test_bits_that_differ_are_seen(monkeypatch):
    hashes = iter("abcd")
    monkeypatch.setattr(selftest, "simulated", lambda ranks: next(hashes) * 64)
    (found,) = selftest.simulator()
    assert found.level == "wrong" and "sha256 aaaa" in found.text and "bbbb" in found.text
    assert selftest.compared("x", "a", "b").level == "wrong" and selftest.compared("x", "a", "a").level == "ok"


@pytest.mark.parametrize(
    "err, mend",
    [("an attempt to run as root.", "OMPI_ALLOW_RUN_AS_ROOT=1"), ("not enough slots available", "oversubscribe"), ("oh", "said above")],
)  # fmt: skip
def test_a_launcher_that_refuses(err, mend, tmp_path, monkeypatch):
    program(tmp_path / "bin", "mpirun", err=err, code=3)
    on_path(monkeypatch, tmp_path / "bin")
    (found,) = selftest.processes()
    assert found.level == "wrong" and f"exit code 3: {err}" in found.text and mend in found.mend


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(findings, "GRACE", 0.05)
    script = tmp_path / "hangs"
    script.write_text("#!/bin/sh\ntrap '' TERM\nsleep 1000 & echo $! > child\nwait\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    answer = findings.ask([str(script)], limit=0.3)
    assert answer.code is None and answer.complaint == "no answer in time: it said nothing"
    child, end = int((tmp_path / "child").read_text()), time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end


def test_a_child_knows_no_launcher(monkeypatch):
    for name in ("PMI_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "HYDI_CONTROL_FD"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    assert findings.ask(["sh", "-c", "env | grep -c =7; echo $OMPI_ALLOW_RUN_AS_ROOT"]).out == "0\n1\n"


def test_a_check_that_fails_is_a_line_and_hides_no_other(capsys):
    def first_check():
        yield findings.note("x", "seen")
        raise RuntimeError("of\nthe check")

    found = list(findings.examine([first_check, packages.packages]))
    assert found[0].text == "seen" and "RuntimeError: of the check" in found[1].text and found[1].about == "first check"
    assert report(found) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == ["what to do:", "  first check: report this line"]
