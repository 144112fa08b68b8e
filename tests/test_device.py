"""Runs on a device, on the strict array type: the same bits as on the host, and nothing goes back that need not."""

import sys
import threading
import weakref
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from launching import ROOT, mpirun, python, script
from strict import Namespace, StrictArray

import dsgd
from benchmarks import gpu
from dsgd import arrays, device, prepare
from dsgd.arguments import make
from dsgd.comm import require
from dsgd.data import Dataset
from dsgd.device import Room, cpu_command, open_device
from dsgd.errors import NonFiniteGradient, OutOfDeviceMemory, UsageError
from dsgd.graph import Replay
from dsgd.mlp import MLP
from dsgd.objectives import Quadratic, Supervised
from dsgd.optimizers.blocks import BLOCK, blocks
from dsgd.runner import packet_of
from dsgd.sampling import Batch
from dsgd.simulator.backend import SimulatorBackend
from dsgd.state import HEAD

FEW = {"data": "digits", "hidden": "16", "steps": 4, "quiet": True}
RUNS = [
    # An epoch ends in a smaller batch.
    {"dropout": 0.3, "optimizer": "adam", "l1": 1e-4, "l2": 1e-4, "batch_size": 500},
    {"data": "moons", "loss": "binary-cross-entropy", "activation": "gelu", "optimizer": "lars"},
    {"simulate": 3, "data": "linear", "activation": "tanh", "check_replicas": 2, "optimizer": "rmsprop"},
    {"simulate": 3, "reduction": "ring", "activation": "sigmoid", "optimizer": "adagrad"},
    {"simulate": 2, "partition": "dirichlet:alpha=1"},  # one worker's parts differ in size, and the batches do not
    {"simulate": 3, "algorithm": "sharded-update", "clip_norm": 0.1, "activation": "leaky-relu"},
    {"simulate": 2, "algorithm": "dsgd", "dropout": 0.3, "clip_norm": 0.1},
    {"simulate": 4, "algorithm": "grouped", "dtype": "float64"},
    {"simulate": 3, "algorithm": "overlapped:bucket=1", "activation": "tanh"},
    {"simulate": 2, "algorithm": "model-parallel", "optimizer": "lamb", "dropout": 0.3},
]


@pytest.fixture
def strict(monkeypatch):
    """--device gpu is the strict type; what it copied to the host is counted from 0."""
    monkeypatch.setattr(prepare, "open_device", lambda name, local_rank: np if name == "cpu" else Namespace)
    monkeypatch.setattr(StrictArray, "copied", [])
    return StrictArray


def both(**flags):
    """The result of a run on the host and on the device, once they are seen to be equal."""
    host, there = dsgd.run(**FEW | flags), dsgd.run(**FEW | flags, device="gpu")
    assert there.params.tobytes() == host.params.tobytes()
    for what in ("test_loss", "test_accuracy", "confusion"):
        assert there.summary.get(what) == host.summary.get(what)
    assert [row | {"time": 0} for row in there.records] == [row | {"time": 0} for row in host.records]
    return there


@pytest.mark.parametrize("flags", RUNS, ids=range(len(RUNS)))
def test_a_run_on_a_device_is_the_run_on_the_host(strict, flags):
    both(**flags)
    assert strict.copied


# --- captured steps, by a stand-in: a launch is the work once more, and its result goes where the first one's was


class Tape:
    """A card that runs what it should launch.  While it runs, nothing may pass between device and host."""

    failed = False

    def __init__(self):
        self.captured = self.launched = 0

    @contextmanager
    def running(self):
        moved, StrictArray.sealed = StrictArray.transfers, True
        try:
            yield
        finally:
            StrictArray.sealed = False
        assert StrictArray.transfers == moved

    def capture(self, work):
        self.captured += 1
        result = work()

        def launch():
            self.launched += 1
            with self.running():
                again = work()
                if again is not None:
                    result[...] = again

        return launch, result


@pytest.fixture
def tape(strict, monkeypatch):
    card = Tape()
    monkeypatch.setattr(device, "probe", lambda xp: Replay(card))
    return card


@pytest.mark.parametrize("flags", RUNS[:8], ids=range(8))
def test_a_replayed_step_is_the_step(tape, flags):
    both(**flags | {"steps": 12})
    assert tape.launched >= tape.captured > 0


def test_each_shape_of_each_worker_is_captured_once(tape):
    both(simulate=2, steps=12, batch_size=500)  # 1437 samples: batches of 500, 500 and 437, with halves of 218 and 219
    assert tape.captured == 8  # 250 and 218 samples of worker 0, 250 and 219 of worker 1: the gradient, and its numbers


def test_a_gradient_goes_where_it_is_wanted_whatever_was_captured(tape, rng=np.random.default_rng(0)):
    X, y = rng.random((6, 4)), np.arange(6) % 3
    objective = Supervised(MLP((4, 5, 3)), Dataset(X, y, X, y, 3), loss="cross-entropy")
    objective.place(Namespace)
    objective.replay = Replay(tape)
    x = objective.views(Namespace.asarray(objective.start(0, np.float64)))
    first, second = (Namespace.zeros(objective.layout.size) for _ in range(2))
    for _ in range(3):
        objective.gradient(x, objective.views(first), Batch(np.arange(6), 0), 1 / 6)
    objective.gradient(x, objective.views(second), Batch(np.arange(6), 0), 1 / 6)
    assert tape.launched == 2 and second.get().any() and second.get().tobytes() == first.get().tobytes()


def test_a_captured_step_keeps_all_that_it_computes_with(tape, monkeypatch, rng=np.random.default_rng(0)):
    """An evaluation takes larger zeros, and a larger batch larger arrays: a launch still knows the first ones' addresses."""
    monkeypatch.setattr(arrays, "_zeros", {})
    monkeypatch.setattr(arrays, "_scratch", threading.local())
    X, y = rng.random((40, 4)), np.arange(40) % 3
    objective = Supervised(MLP((4, 5, 3)), Dataset(X, y, X, y, 3), loss="cross-entropy")
    objective.place(Namespace)
    objective.replay = Replay(tape)
    x, g = (Namespace.asarray(objective.start(0, np.float64)) for _ in range(2))
    for _ in range(2):  # it runs, and is captured
        objective.gradient(objective.views(x), objective.views(g), Batch(np.arange(6), 0), 1 / 6)
    batch, targets, _ = objective._passes[6]
    used = [weakref.ref(array) for array in (batch, targets, *arrays._zeros.values())]
    del batch, targets
    objective.evaluate(x)
    objective.gradient(objective.views(x), objective.views(g), Batch(np.arange(40), 0), 1 / 40)
    assert len(used) == 3 and all(array() is not None for array in used)
    assert not {id(array()) for array in used} & {id(array) for array in arrays._zeros.values()}, "nothing was replaced"


def test_a_pass_over_a_vector_is_one_call_on_a_device():
    x = np.zeros(2 * BLOCK + 5)
    assert [len(v) for _, _, v in blocks(x)] == [BLOCK, BLOCK, 5]
    assert [len(v) for _, _, v in blocks(StrictArray(x))] == [2 * BLOCK + 5]
    assert not list(blocks(StrictArray(x[:0])))  # of a rank whose slice is empty


def test_a_step_copies_the_packet_and_the_agreed_numbers_to_the_host_and_nothing_else(tape):
    n = both(simulate=2).params.size
    StrictArray.copied.clear()
    counts = []
    for steps in (4, 9):
        dsgd.run(**FEW | {"steps": steps, "simulate": 2}, device="gpu")
        counts.append(Counter(StrictArray.copied))
        StrictArray.copied.clear()
    assert counts[1] - counts[0] == Counter({n + HEAD: 2 * 5, HEAD: 2 * 5})


# --- devices and checkpoints


@pytest.mark.parametrize("first, then", [("gpu", "cpu"), ("cpu", "gpu")])
def test_a_run_saved_on_one_device_goes_on_on_another(strict, tmp_path, first, then):
    flags = FEW | {"simulate": 2, "optimizer": "adam", "no_plot": True}
    whole = dsgd.run(**flags | {"steps": 6})
    dsgd.run(**flags | {"steps": 3, "output": str(tmp_path / "run"), "device": first})
    gone_on = dsgd.run(**flags | {"steps": 6, "output": str(tmp_path / "run"), "device": then, "resume": True})
    assert gone_on.params.tobytes() == whole.params.tobytes()


@pytest.mark.parametrize("algorithm", ["data-parallel", "overlapped"])  # whose sum comes to lie where its gradient was
def test_a_gradient_that_is_not_finite_is_found_there_and_named(tape, algorithm):
    flags = FEW | {"simulate": 2, "faults": "nan:rank=1,step=3", "algorithm": algorithm}
    with pytest.raises(NonFiniteGradient, match="rank 1, step 3, layer 0 weight: the gradient has a value") as error:
        dsgd.run(**flags, device="gpu")
    with pytest.raises(NonFiniteGradient) as same:
        dsgd.run(**flags)
    assert str(error.value) == str(same.value)


def test_a_loss_that_is_not_finite_is_found_there_and_named(strict):
    # A square overflows, a slope does not.
    flags = FEW | {"data": "linear", "lr": 1e20, "optimizer": "sgd", "hidden": ""}
    with pytest.raises(NonFiniteGradient, match="the loss is not finite") as error:
        dsgd.run(**flags, device="gpu")
    with pytest.raises(NonFiniteGradient) as same:
        dsgd.run(**flags)
    assert str(error.value) == str(same.value)


# --- messages

STAGED = """
import sys
sys.path.insert(0, {tests!r})
import dsgd, numpy as np
from dsgd import prepare
from strict import Namespace
prepare.open_device = lambda name, local_rank: np if name == "cpu" else Namespace
def final(**flags):
    return dsgd.run(backend="mpi", **{few!r} | flags)
for flags in {rows!r}:
    done = final(**flags, device="gpu")
    if done:
        print(done.summary["params_sha256"], flush=True)
return 0
"""


def test_staged_arrays_under_mpirun_give_the_bits_of_the_simulator(tmp_path):
    """Real processes, one mpirun: what each of them sends goes through the host."""
    rows = [{"algorithm": name} for name in ("data-parallel", "sharded-update", "overlapped", "model-parallel", "dsgd")]
    body = STAGED.format(tests=str(ROOT / "tests"), few=FEW, rows=rows)
    ended = mpirun(2, script(tmp_path, body))
    expected = [dsgd.run(**FEW, simulate=2, **row).summary["params_sha256"] for row in rows]
    assert (ended.code, ended.out.split()) == (0, expected), ended


@pytest.mark.parametrize("name, summed", [("cpu", True), ("gpu", False)])
def test_packets_on_a_card_ask_for_no_memory_that_ranks_share(strict, name, summed):
    job = prepare.prepare(make(FEW | {"device": name}), SimulatorBackend(2))
    assert packet_of(job) == summed * (HEAD + job.objective.layout.size)


@pytest.mark.fault("G3", "a GPU array and an MPI that knows no cards", "it is refused before MPI sees it")
def test_an_array_on_a_card_is_never_sent():
    with pytest.raises(TypeError, match=r"an array \(3,\) on a card may not be sent: wrap the communicator"):
        require(StrictArray(np.ones(3)))


# --- what may be missing


def card(**runtime):
    """A stand-in for cupy, with these functions in its runtime."""
    made = {"alloc_pinned_memory": bytearray, "Device": lambda number: SimpleNamespace(use=lambda: None)}
    return SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(**runtime), **made))


def no_driver():
    raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")


@pytest.mark.fault(
    "G1", "`--device gpu` where there is none", "one line: what is missing, and the command for the CPU; code 2"
)
def test_without_cupy_one_line_says_so_and_how_to_train_on_the_cpu(tmp_path):
    ended = python(script(tmp_path, 'sys.modules["cupy"] = None'), "--device", "gpu", "--steps", 3, cwd=tmp_path)
    assert (ended.code, ended.out, len(ended.lines), ended.err.count("\n")) == (2, "", 1, 1), ended
    assert "--device gpu needs CuPy (" in ended.err and "pip install 'dsgd[cuda12]', or dsgd[cuda13]" in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["script.py"]


@pytest.mark.fault("G1")
def test_without_a_driver_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", card(getDeviceCount=no_driver))
    monkeypatch.setattr(sys, "argv", ["/x/dsgd/train.py", "--device", "gpu", "--data", "my file.csv"])
    with pytest.raises(UsageError, match="no card answers .cudaErrorInsufficientDriver: ") as error:
        open_device("gpu")
    assert error.value.code == 2
    assert str(error.value).endswith("; on the CPU: python -m dsgd.train --data 'my file.csv'")


def test_the_processes_of_a_host_are_dealt_to_its_cards_in_turn(monkeypatch):
    used, answer = [], SimpleNamespace(sum=lambda: SimpleNamespace(get=lambda: 0))
    cupy = card(getDeviceCount=lambda: 2)
    cupy.cuda.Device = lambda number: SimpleNamespace(use=lambda: used.append(number))
    cupy.arange = lambda n: answer
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert [open_device("gpu", local_rank) for local_rank in range(3)] == [cupy] * 3 and used == [0, 1, 0]


NUMBERED = """
from mpi4py import MPI
from dsgd.mpi import backend
rank = MPI.COMM_WORLD.rank
assert backend.MPIBackend().local_rank == rank
backend.hosts = lambda world: world.Split(world.rank // 2, rank)  # two ranks are taken for a host
assert backend.MPIBackend().local_rank == rank % 2
return 0
"""


def test_under_mpirun_a_process_knows_its_number_on_its_host(tmp_path):
    ended = mpirun(3, script(tmp_path, NUMBERED))
    assert ended.code == 0, ended


def test_the_command_for_the_cpu_is_the_same_one_without_the_device():
    assert cpu_command(["train.py", "--device=gpu", "--lr", "1"]) == "on the CPU: python -m dsgd.train --lr 1"
    assert cpu_command(["my.py", "--device", "gpu"]) == "leave device out to train on the CPU"


def test_cupy_itself_without_a_driver_is_told_in_one_line():
    cupy = pytest.importorskip("cupy")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except Exception:
        with pytest.raises(UsageError, match="--device gpu: no card answers"):
            open_device("gpu")
    else:
        pytest.skip("there is a card")


def test_what_computes_on_the_host_alone_is_refused(strict):
    with pytest.raises(UsageError, match="the servers of easgd look into what they receive"):
        dsgd.run(**FEW, simulate=3, algorithm="easgd", device="gpu")
    with pytest.raises(UsageError, match="this objective computes on the CPU alone"):
        dsgd.run(steps=2, objective=Quadratic(), device="gpu")


# --- memory


@pytest.mark.fault("G2", "out of GPU memory", "one line: bytes asked and free, and a batch that fits")
def test_too_large_a_batch_is_refused_with_one_that_fits(strict, monkeypatch):
    flags = FEW | {"simulate": 2, "batch_size": 1000}
    monkeypatch.setattr(device, "free", lambda xp: 800_000)
    with pytest.raises(
        OutOfDeviceMemory, match="the run takes about 1,0.* bytes on the card; 800,000 bytes are"
    ) as error:
        dsgd.run(**flags, device="gpu")
    fits = int(str(error.value).split("--batch-size ")[1].split()[0])
    assert error.value.code == 70 and 0 < fits < 1000
    dsgd.run(**flags | {"batch_size": fits}, device="gpu")
    with pytest.raises(OutOfDeviceMemory):
        dsgd.run(**flags | {"batch_size": fits + 2}, device="gpu")


def test_no_batch_may_fit():
    assert Room(fixed=100, row=10, workers=3).advice(99) == (
        "99 bytes are free there, and no batch fits: use a smaller network or data set"
    )
    assert Room(fixed=100, row=10, workers=3).fits(129) == 6


@pytest.mark.fault("G2")
def test_memory_that_runs_out_in_a_step_is_told_with_rank_and_step(tape, monkeypatch):
    def capture(work):
        raise MemoryError("Out of memory allocating 512 bytes (allocated so far: 2,048 bytes).")

    monkeypatch.setattr(tape, "capture", capture)
    monkeypatch.setattr(device, "free", lambda xp: 10**7)
    with pytest.raises(OutOfDeviceMemory) as error:
        dsgd.run(**FEW, simulate=2, device="gpu")
    said = "rank 0, step 2: Out of memory allocating 512 bytes (allocated so far: 2,048 bytes); 10,000,000 bytes are free there"
    assert str(error.value).startswith(said) and "--batch-size" in str(error.value)


# --- the benchmark


def test_the_benchmark_says_that_there_is_no_card(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert list(gpu.main()) == []
    assert capsys.readouterr().out.startswith("  left out: --device gpu needs CuPy")


def test_the_benchmark_steps_on_a_device_and_finds_the_trajectory(strict, monkeypatch):
    step = gpu.steps(Namespace, (6, 5, 10), 4, types=None, count=3)
    step()
    before = len(strict.copied)
    step()
    assert strict.copied[before:] == [HEAD] * 3
    monkeypatch.setattr(gpu, "TRAJECTORY", FEW)
    assert 0 < gpu.apart() < 1e-5
