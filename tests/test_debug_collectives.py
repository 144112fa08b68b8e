"""--debug-collectives: calls that do not belong together are named before they can hang or add up to garbage."""

import numpy as np
import pytest

import dsgd
from dsgd.errors import CollectiveMismatch
from dsgd.simulator import simulate
from launching import TRAIN, mpirun, script

TINY = ["--data", "teacher:samples=120,features=6,hidden=4,classes=3", "--hidden", "8", "--steps", "3"]
TINY += ["--no-plot", "--quiet", "--output", "run"]

# An algorithm whose ranks agree twice, and then each makes a call of its own.
DIVERGES = """
import numpy as np
from dsgd.algorithms import ALGORITHMS, Algorithm

def diverges(comm, local, state, *, optimizer, schedule, steps):
    for _ in range(2):
        comm.allreduce(np.ones(5))
    {setup}
    if comm.rank == 1:
        {odd}
    else:
        {even}
    state.t = steps
    yield

ALGORITHMS["diverges"] = Algorithm(diverges)
"""

CASES = {  # setup, what rank 1 calls, what the others call, what is said of each
    "operation": ("", "comm.barrier()", "comm.allreduce(np.ones(5))", "barrier 2", "allreduce 2, shape (5,), float64"),
    "dtype": (
        "",
        "comm.allreduce(np.ones(5, 'int64'))",
        "comm.allreduce(np.ones(5))",
        "allreduce 2, shape (5,), int64",
        "allreduce 2, shape (5,), float64",
    ),
    "length": (
        "",
        "comm.bcast(np.ones(4))",
        "comm.bcast(np.ones(5))",
        "bcast 2, root 0, shape (4,), float64",
        "bcast 2, root 0, shape (5,), float64",
    ),
    "root": ("", "comm.gather(np.ones(5), 1)", "comm.gather(np.ones(5))", "gather 2, root 1", "gather 2, root 0"),
    "counts": (
        "",
        "comm.reduce_scatter(np.ones(6), [3, 2, 1])",
        "comm.reduce_scatter(np.ones(6), [2, 2, 2])",
        "reduce_scatter 2, shape (6,), float64, counts [3, 2, 1]",
        "reduce_scatter 2, shape (6,), float64, counts [2, 2, 2]",
    ),
    "in a group": (
        "comm = comm.split(comm.rank // 2)",
        "comm.barrier()",
        "comm.allgather(np.ones(5))",
        "barrier 0",
        "allgather 0",
    ),
}


@pytest.mark.fault(
    "C4",
    "ranks call different collectives, or the same with other roots, lengths or dtypes",
    "`--debug-collectives` names both calls with their lines, before any data are sent; the simulator always does",
)
@pytest.mark.fault("C3", "a length or a dtype differs between ranks", "named before the first step for the parameters, and by `--debug-collectives` for every collective")  # fmt: skip
@pytest.mark.parametrize("case", CASES)
def test_calls_that_differ_are_named(case, tmp_path):
    setup, odd, even, said_odd, said_even = CASES[case]
    body = DIVERGES.format(setup=setup, odd=odd, even=even)
    path = script(tmp_path, body)
    ended = mpirun(3, path, *TINY, "--algorithm", "diverges", "--debug-collectives", cwd=tmp_path)
    assert ended.code == 70 and "Traceback" not in ended.err, ended
    [line] = ended.lines
    assert f"rank 1 calls {said_odd}, but rank 0 calls {said_even}" in line, ended
    [first, second] = [line for line in ended.err.splitlines() if line.startswith("  rank ")]
    assert first.startswith(f"  rank 0: {path}:") and first.endswith(f": {even}"), ended
    assert second.startswith(f"  rank 1: {path}:") and second.endswith(f": {odd}"), ended


def test_the_bits_are_the_same_with_and_without(tmp_path):
    """The checks add messages of their own, and the algorithm's are counted as before."""
    flags = [*TINY, "--algorithm", "parameter-server:servers=2", "--clip-norm", "0.1"]  # its servers are a group
    flags[flags.index("8")] = "64"
    ended = mpirun(4, *TRAIN, *flags, "--debug-collectives", cwd=tmp_path)
    assert ended.code == 0, ended
    plain = dsgd.run(
        simulate=4, data=TINY[1], hidden="64", steps=3, algorithm="parameter-server:servers=2", clip_norm=0.1
    )
    assert plain.summary["params_sha256"][:16] in ended.out, ended


@pytest.mark.fault("C4")
@pytest.mark.parametrize("case", CASES)
def test_the_simulator_always_compares(case):
    setup, odd, even, *_ = CASES[case]

    def program(comm):
        if setup:
            comm = comm.split(comm.rank // 2)
        exec(odd if comm.world_rank == 1 else even, {"comm": comm, "np": np})

    with pytest.raises(CollectiveMismatch, match="rank 1"):
        simulate(program, 3)
