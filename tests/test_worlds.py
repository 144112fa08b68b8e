"""One source, two worlds: the simulator and mpirun give the same bits, records, shares, messages and bytes."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import dsgd
from dsgd.errors import UsageError
from dsgd.network import Network
from launching import table
from pairwise import pairwise
from table import run_row

SIZES = (1, 2, 3, 4, 5, 7)
# 320 training samples in batches of 30: an epoch is ten of them and one of 20, and neither divides by most sizes.
DATA = dict(
    data="teacher:samples=400,features=12,hidden=8,classes=4", hidden="16,12,8,8", batch_size=30, steps=13, log_every=5
)
LAYERS = 5
OPTIMIZERS = ("sgd", "sgd:momentum=0.9", "adam")
PIPELINED = ("model-parallel", "pipeline")
WIDE = "teacher:samples=400,features=784,hidden=8,classes=4"  # sums of 784 products, which two threads add otherwise
BLAS = dict(data=WIDE, hidden="256", batch_size=128, steps=3)


def names(size):
    """The algorithms that exist on so many ranks and follow --optimizer."""
    found = ["data-parallel", "overlapped:bucket=400", "sharded-update", "dsgd", "top-k"]
    found += ["sgd"] if size == 1 else ["parameter-server"]
    found += ["grouped"] if size > 1 else []
    found += ["parameter-server:servers=2"] if size > 2 else []
    return found + (list(PIPELINED) if size <= LAYERS else [])


# Every two of these meet in some row, whatever the number of ranks; `numbers` is a row's part of the configuration.
BREADTH = dict(
    optimizer=[
        "sgd:momentum=0.9,nesterov=true,weight_decay=0.01",
        "sgd:momentum=0.8,dampening=0.5",
        "adagrad",
        "rmsprop:centered=true,momentum=0.5",
        "adam:amsgrad=true",
        "adamw",
        "lars",
        "lamb:weight_decay=0.01",
    ],
    schedule=[
        "constant",
        "step:step_size=2",
        "multi-step:milestones=2/5",
        "exponential:gamma=0.9",
        "polynomial:power=2",
        "cosine",
        "plateau:patience=0,threshold=0.5",
    ],
    activation=["identity", "relu", "leaky-relu", "tanh", "sigmoid", "gelu"],
    task=[("teacher:samples=400,features=12,hidden=8,classes=4", "auto"),
          ("teacher:samples=400,features=12,hidden=8,classes=2", "binary-cross-entropy"),
          ("linear:samples=300,features=6,outputs=2", "auto")],
    partition=["shuffled", "iid", "contiguous", "by-label", "dirichlet:alpha=0.2"],
    numbers=[
        {},
        {"dropout": 0.4},
        {"clip_norm": 0.05, "warmup_steps": 3},
        {"clip_norm": 0.5, "dropout": 0.2, "l1": 1e-3},
        {"l2": 0.05, "tolerance": 1.0, "patience": 2, "lr_scaling": "linear"},
    ],
    dtype=["float32", "float64"],
    algorithm=range(8),  # the number of one of names(size), counted round
)  # fmt: skip
COUPLED = ("sgd:momentum=0.9,n", "rmsprop:w")  # whose weight_decay is what l2 is


def breadth(size):
    """The pairs of BREADTH as configurations that can be meant."""
    algorithms = [name for name in names(size) if name != "pipeline"]
    algorithms += ["data-parallel"] * (8 - len(algorithms))
    for row in pairwise(BREADTH):
        (data, loss), algorithm = row.pop("task"), algorithms[row.pop("algorithm") % len(algorithms)]
        numbers = row.pop("numbers")
        if data.startswith("linear") and row["partition"] in ("by-label", "dirichlet:alpha=0.2"):
            row["partition"] = "iid"  # the others need classes
        if "l2" in numbers and row["optimizer"].startswith(COUPLED):
            numbers = numbers | {"l2": 0.0}
        reduction = ["tree", "ring", "recursive-doubling", "star"][size % 4 if algorithm == "data-parallel" else 0]
        yield (
            DATA
            | dict(steps=7, log_every=3, algorithm=algorithm, data=data, loss=loss, reduction=reduction)
            | row
            | numbers
        )


def rows(size, regression):
    """The table of so many ranks; the same in both worlds."""
    found = [
        DATA | dict(algorithm=a, dtype=d, optimizer=o)
        for a, d, o in product(names(size), ("float32", "float64"), OPTIMIZERS)
    ]
    if size > 3:  # stages in a row wait for the only core that is not spinning: of the probe, adam speaks for all
        found = [row for row in found if row["algorithm"] != "pipeline" or row["optimizer"] == "adam"]
    found += [DATA | dict(algorithm=a, dtype=d) for a, d in product(("local-sgd", "gossip"), ("float32", "float64"))]
    found += [
        DATA | dict(algorithm=a, batch_size=3) for a in names(size) + ["local-sgd", "gossip"]
    ]  # fewer samples than workers
    found += [DATA | dict(algorithm=a, data=regression, activation="tanh", init="glorot") for a in names(size)[:2]]
    return found + [BLAS | dict(algorithm="data-parallel", dtype="float32"), *breadth(size)]


def spec(row):
    return row["algorithm"], row.get("dtype"), row.get("optimizer"), row["batch_size"], row["data"]


def basic(rows):
    """The rows of a table without those of BREADTH."""
    return [entry for entry in rows if "schedule" not in entry[0]]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """worlds(size): [(row, outcome in the simulator, outcome under mpirun)], computed once."""
    path = tmp_path_factory.mktemp("regression") / "curve.npz"
    X = np.random.default_rng(0).standard_normal((100, 3))
    np.savez(path, X=X, y=np.sin(X[:, 0]) + X[:, 1] * X[:, 2])
    # Neither a wait for every receive nor the order of simultaneous events may show in the result.
    hostile = [dict(check=True, network=Network(eager_limit=0)), dict(check=True, shuffle=1)]

    @cache
    def both(size):
        plain = rows(size, f"{path}:test=0.3")
        mpi = table(size, plain)
        simulated = [run_row(row | dict(simulate=size, world=hostile[i % 2])) for i, row in enumerate(plain)]
        assert len(mpi) == len(plain)
        return list(zip(plain, simulated, mpi))

    return both


def without_pids(outcome):
    return {key: value for key, value in outcome.items() if key != "pids"}


@pytest.mark.parametrize("size", SIZES)
def test_both_worlds_give_the_same(worlds, size):
    differing = [
        (row, key, simulated[key], mpi[key])
        for row, simulated, mpi in worlds(size)
        for key in without_pids(mpi)
        if simulated[key] != mpi[key]
    ]
    assert not differing


@pytest.mark.parametrize("size", SIZES)
def test_the_table_tells_configurations_apart(worlds, size):
    """Equal hashes prove something only if other configurations have other hashes."""
    hashes = {spec(row)[1:]: mpi["hash"] for row, _, mpi in basic(worlds(size)) if row["algorithm"] == "data-parallel"}
    assert len(set(hashes.values())) == len(hashes) == 9
    wide = [mpi["hash"] for row, _, mpi in worlds(size) if "schedule" in row]
    assert len(wide) > 60 and len(set(wide)) > 0.9 * len(wide)
    assert all(len(mpi["records"]) >= 3 or row["steps"] == 3 for row, _, mpi in basic(worlds(size)))


def shares(n, batch, workers, steps):
    """Samples that each worker computes: its cut of every batch, the last batch of an epoch being the rest."""
    batches = [min(batch, n - lo) for lo in range(0, n, batch)]
    sizes = [batches[t % len(batches)] for t in range(steps)]
    return [sum(m * (i + 1) // workers - m * i // workers for m in sizes) for i in range(workers)]


@pytest.mark.parametrize("size", SIZES)
def test_every_worker_computed_its_share_in_a_process_of_its_own(worlds, size):
    for row, simulated, mpi in basic(worlds(size)):
        workers = len(mpi["shares"])
        servers = size - workers
        assert (simulated["pids"], mpi["pids"]) == (1, workers)
        served = row["algorithm"].startswith(("parameter-server", "grouped"))
        assert servers == served + ("servers=2" in row["algorithm"])
        if not row["data"].startswith("teacher") or row["data"] == WIDE:
            continue
        total = shares(320, row["batch_size"], 1, row["steps"])
        per_worker = (
            total * workers if row["algorithm"] in PIPELINED else shares(320, row["batch_size"], workers, row["steps"])
        )
        assert mpi["shares"] == [[i, share] for i, share in enumerate(per_worker)], spec(row)
        assert row["algorithm"] in PIPELINED or sum(per_worker) == total[0] == mpi["records"][-1]["samples"]


def test_some_workers_had_nothing_to_compute(worlds):
    """The table holds what it is for: batches with fewer samples than workers, and messages on every size but 1."""
    outcomes = basic(worlds(7))
    assert any(share == 0 for row, _, mpi in outcomes for _, share in mpi["shares"])
    assert all(mpi["messages"] > 0 and mpi["bytes"] > 0 for _, _, mpi in outcomes)


# --- mutants: what must turn the table red does


def hash_of(worlds, size, dtype):
    wanted = ("data-parallel", dtype, "sgd", 30)
    return next(mpi["hash"] for row, _, mpi in basic(worlds(size)) if spec(row)[:4] == wanted)


def in_rank_order(parts, out):
    out[:] = parts[0]
    for part in parts[1:]:
        out += part
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sum_in_rank_order_is_seen_from_four_ranks_on(worlds, dtype, monkeypatch):
    monkeypatch.setattr("dsgd.simulator.collectives.tree_sum", in_rank_order)
    mutant = {
        size: run_row(DATA | dict(algorithm="data-parallel", dtype=dtype, optimizer="sgd", simulate=size))["hash"]
        for size in SIZES[1:]
    }
    assert {size: mutant[size] == hash_of(worlds, size, dtype) for size in mutant} == {
        2: True,
        3: True,
        4: False,
        5: False,
        7: False,
    }


def test_two_blas_threads_in_one_world_are_seen(worlds):
    """Why --threads is part of what ranks must have in common: a product on two threads has other bits."""
    with threadpool_limits(limits=2, user_api="blas"):
        if not any(lib["num_threads"] == 2 for lib in threadpool_info() if lib["user_api"] == "blas"):
            pytest.skip("this BLAS does not run on two threads")
    mpi = next(mpi for row, _, mpi in worlds(2) if row["data"] == WIDE)
    row = BLAS | dict(algorithm="data-parallel", dtype="float32", simulate=2)
    assert run_row(row)["hash"] == mpi["hash"]
    assert run_row(row | dict(threads=2))["hash"] != mpi["hash"]


def test_the_librarys_sum_is_seen():
    """--reduction native leaves the order to the library: at five ranks no MPI library's is the written tree."""
    pair = [DATA | dict(algorithm="data-parallel", reduction=r) for r in ("tree", "native")]
    tree, native = table(5, pair)
    assert tree["hash"] == run_row(pair[0] | dict(simulate=5))["hash"]
    with pytest.raises(UsageError, match="have no library"):
        run_row(pair[1] | dict(simulate=5))
    assert native["hash"] != tree["hash"]
    loss = [outcome["records"][-1]["train_loss"] for outcome in (tree, native)]
    assert loss[0] == pytest.approx(loss[1], rel=1e-3)  # another rounding, not another sum


def test_the_single_worker_is_the_default():
    """Without simulate and without mpirun: sgd, the same bits as both."""
    assert (
        dsgd.run(**DATA).summary["params_sha256"]
        == dsgd.run(simulate=1, algorithm="sgd", **DATA).summary["params_sha256"]
    )
