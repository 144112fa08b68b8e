"""The contract suite in both worlds: in the simulator check by check, under mpirun as a whole."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import contract
import pytest

from dsgd.collectives import REDUCTIONS
from dsgd.simulator import Network, simulate

SCRIPT = Path(__file__).with_name("contract.py")
WORLDS = {  # what may not matter to a rank
    "default": {},
    "check": {"check": True},
    "rendezvous": {"network": Network(eager_limit=0)},  # every message waits for its receive
    "shuffle": {"shuffle": 1, "check": True},
}


@pytest.mark.parametrize("options", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("carrier", ["greenlet", "thread"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("check", contract.CHECKS.values(), ids=contract.CHECKS)
def test_simulator(check, size, carrier, options):
    simulate(check, size, carrier=carrier, **options)


@pytest.mark.parametrize("world", ["rendezvous", "shuffle"])
@pytest.mark.parametrize("size", [1, 2, 4, 7])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("check", contract.SUMS.values(), ids=contract.SUMS)
def test_simulator_with_other_reductions(check, reduction, size, world):
    simulate(check, size, reduction=reduction, **WORLDS[world])


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("reduction", contract.SUITES)
def test_simulator_in_a_row(reduction, size):
    """All checks on one communicator, as under MPI: none leaves anything behind that disturbs the next."""
    checks = contract.SUITES[reduction].values()
    simulate(lambda comm: [contract.run_one(check, comm) for check in checks], size, reduction=reduction)


def mpirun():
    """The mpirun beside this Python, whose MPI is the one that mpi4py loads, or else the PATH's."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    found = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
    assert found, "mpi4py is installed, but there is no mpirun"
    return found


@pytest.mark.parametrize("size, kind", [(1, []), (2, []), (3, []), (4, []), (4, ["crowded"]), (3, ["checked"])])
def test_mpi(size, kind):
    command = [mpirun(), "-n", str(size), sys.executable, str(SCRIPT), *kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [f"{name}: {check}" for name, suite in contract.SUITES.items() for check in suite]
