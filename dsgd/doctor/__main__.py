"""The command line of the doctor, the list of its checks, and how it speaks."""

import argparse
import os
import sys

from dsgd.command import run_command
from dsgd.mpi.launch import guard, launched


def main(argv, backend=None):
    """Examine, and print it on rank 0; returns the exit code.

    Args:
        backend: an MPIBackend under a launcher whose processes see each other, None otherwise.
    """
    from dsgd.errors import UsageError

    if backend and not backend.main:
        sys.stdout = open(os.devnull, "w")  # rank 0 speaks for all, --help included
    description = "What of this machine dsgd depends on, whether it is in order, and what to do where it is not."
    parser = argparse.ArgumentParser(prog="python -m dsgd.doctor", description=description)
    _, unknown = parser.parse_known_args(argv)
    if unknown:
        raise UsageError(f"unrecognized arguments: {' '.join(unknown)}")
    return report(findings(backend))


def findings(backend):
    """Of this machine on rank 0; then those for which every rank is asked."""
    from dsgd.doctor import machine, mpi, packages
    from dsgd.doctor.findings import examine

    if not backend or backend.main:
        yield from examine([mpi.mpi, mpi.scheduler, packages.packages])
        yield from examine([machine.processors, machine.shared_memory, machine.disk, machine.text])
    try:
        from dsgd.doctor import ranks, selftest
    except ImportError:  # which `packages` has named
        return
    if not backend or backend.main:
        yield from examine([machine.blas, machine.gpu, selftest.gradient, selftest.simulator])
    if backend:
        every = backend.texts(ranks.facts())
        yield from examine([ranks.ranks, ranks.hosts], every)
        yield from selftest.world(backend)  # what a rank raises here ends the job: the others wait for it
    else:
        yield from examine([selftest.processes])


def report(found):
    """Print findings as they come, then what to do; returns the exit code."""
    mends = []
    for finding in found:
        print(finding, flush=True)
        if finding.level == "wrong":
            mends.append(f"  {finding.about}: {finding.mend}")
    print("\n".join(["what to do:", *mends]) if mends else "nothing is wrong")
    return 1 if mends else 0


def mpi_main():
    """main() as one rank of an MPI job."""
    from dsgd.mpi.backend import MPIBackend

    return main(sys.argv[1:], MPIBackend())


def entry():
    """Under a launcher MPI comes first, unless its ranks could not find each other: then rank 0 says why, without MPI."""
    if not launched()[0]:
        return run_command(main)
    from dsgd.doctor.mpi import family, library, started_by

    found, _ = library()
    if found and started_by() in (None, family(found[0])):
        return guard(mpi_main)
    code = run_command(main)
    return code if found else guard(mpi_main)  # which ends the job, on whichever ranks MPI cannot be loaded


if __name__ == "__main__":
    sys.exit(entry())
