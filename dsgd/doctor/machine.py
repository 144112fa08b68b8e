"""What a rank computes with and writes to: processors, BLAS, GPU, memory, disk, text."""

import locale
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from dsgd.doctor.findings import ask, note, ok, one_line, wrong
from dsgd.mpi.launch import ROOM
from dsgd.mpi.segments import FOLDER, free_bytes

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
KERNELS = ("OPENBLAS_CORETYPE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "NPY_DISABLE_CPU_FEATURES")
SPACE = 200 << 20  # bytes on the disk: a few checkpoints of a large network
SLOW = 0.5  # s to write a small file safely; a checkpoint takes three such waits
REMOTE = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "fuse", "9p", "ceph")


def cores():
    """The numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def processors():
    """Cores, and whether this process may use them all."""
    mine, all_of_them = len(cores()), os.cpu_count() or 1
    yield ok("cores", f"{mine} of {all_of_them}: mpirun -n {mine} gives each rank one")


def blas():
    """NumPy's BLAS, and the variables that change its threads or its bits."""
    from threadpoolctl import threadpool_info, threadpool_limits

    from dsgd import versions

    with threadpool_limits(limits=1, user_api="blas"):
        threads = {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}
    if threads == {1}:
        yield ok("BLAS", f"{versions.blas()}; dsgd holds it at --threads, 1 by default")
    else:
        text = "threadpoolctl finds none" if not threads else f"its threads cannot be held at 1: {max(threads)} run"
        mend = (
            "export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1, or pip install --force-reinstall numpy"
        )
        yield wrong("BLAS", f"{text}; ranks that share cores would be many times slower", mend)
    for name in THREADS:
        value = os.environ.get(name)
        if value and not (value.isdigit() and int(value) > 0):
            yield wrong("BLAS", f"{name}={value} is no number of threads", f"unset {name}")
        elif value and value != "1":
            yield note("BLAS", f"{name}={value} counts for other programs; a rank of dsgd has --threads, 1 by default")
    for name in filter(os.environ.get, KERNELS):
        yield note(
            "BLAS", f"{name}={os.environ[name]} chooses other kernels: hashes need not agree with those of others"
        )


def gpu():
    """The cards, their driver, and CuPy."""
    import importlib.util

    from dsgd.device import open_device

    smi, cards = shutil.which("nvidia-smi"), []
    if smi:
        answer = ask([smi, "--query-gpu=name,driver_version", "--format=csv,noheader"], limit=20)
        if answer.code:
            yield wrong("GPU", f"nvidia-smi: {answer.complaint}", "load the driver, or ask who runs this machine")
            return
        cards = [", driver ".join(line.split(", ")) for line in answer.out.splitlines()]
    has_cupy = importlib.util.find_spec("cupy") is not None
    if not cards and not has_cupy:
        yield ok("GPU", "none; runs compute on the CPU")
    elif not has_cupy:
        yield note("GPU", f"{'; '.join(cards)}; --device gpu needs CuPy: pip install 'dsgd[cuda12]', or dsgd[cuda13]")
    else:
        try:
            cupy = open_device("gpu")
        except Exception as error:
            yield wrong(
                "GPU",
                one_line(error),
                "nvidia-smi says which CUDA the driver has; pip install 'dsgd[cuda12]', or dsgd[cuda13]",
            )
            return
        yield ok("GPU", f"{'; '.join(cards)}; CuPy {cupy.__version__}: --device gpu")


def shared_memory(free=None, about="memory"):
    """What MPI's ranks share on a host.   free: bytes; of this host if left out"""
    free = free_bytes() if free is None else free
    if free >= ROOM:
        yield ok(about, f"{min(free, 1 << 60) / 2**20:,.0f} MiB may be shared, in {FOLDER}")
    else:
        text = f"{free / 2**20:.1f} MiB are free in {FOLDER}; with less than {ROOM >> 20} MPI may crash as it starts"
        yield wrong(about, text, "docker run --shm-size=1g, or mount -o remount,size=1g /dev/shm")


def disk():
    """The working folder: whether files can be written there safely, how fast, on what, and how much room there is."""
    from dsgd.records import write_bytes

    here = Path.cwd()
    elsewhere = "cd to a folder of yours, or give each run --output FOLDER"
    try:
        with tempfile.TemporaryDirectory(prefix=".dsgd-doctor-", dir=here) as folder:
            began = time.perf_counter()
            write_bytes(Path(folder) / "probe", bytes(4096))  # fsync and rename, as a checkpoint
            seconds = time.perf_counter() - began
    except OSError as error:
        yield wrong("disk", f"{here}: no file can be written safely ({error.strerror or error})", elsewhere)
        return
    kind, free = file_system(here), shutil.disk_usage(here).free
    text = f"{here}: {kind}, {free / 1e9:,.1f} GB free, a file is written, synchronised and renamed in {seconds * 1e3:.0f} ms"
    if free < SPACE:
        yield wrong("disk", text, f"make room, or {elsewhere}")
    elif seconds > SLOW:
        yield note("disk", f"{text}: slow; a larger --checkpoint-every waits for it less often")
    elif kind.startswith(REMOTE):
        yield note("disk", f"{text}; over a network, so that the node's own disk may be faster")
    else:
        yield ok("disk", text)


def file_system(path, mounts=Path("/proc/mounts")):
    """The kind of file system that a folder lies on, such as ext4 or nfs4."""
    try:
        lines = [line.split()[1:3] for line in mounts.read_text(errors="replace").splitlines()]
    except OSError:  # no Linux
        return "unknown file system"
    on = [(len(where), kind) for where, kind in lines if path.is_relative_to(where.replace("\\040", " "))]
    return max(on, key=lambda item: item[0], default=(0, "unknown file system"))[1]


def text():
    """Whether messages may have any letter, and paths any byte."""
    encoding = (getattr(sys.stdout, "encoding", None) or "none").lower()
    if encoding.replace("-", "") == "utf8" and sys.getfilesystemencoding() == "utf-8":
        yield ok("text", f"UTF-8 ({locale.setlocale(locale.LC_CTYPE)})")
    else:
        yield note(
            "text", f"output is {encoding}: other letters come out as \\u…; export LC_ALL=C.UTF-8, or PYTHONUTF8=1"
        )
