"""Data of awkward sizes on real ranks, files that lie about their size, and numbers with nothing in them."""

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dsgd
from dsgd.checkpoint import load
from dsgd.data import load as load_data
from dsgd.errors import DataError
from dsgd.layout import Layout
from dsgd.norms import Norms
from dsgd.optimizers import OPTIMIZERS
from dsgd.update import Update
from launching import TRAIN, mpirun, python, table

# --- sizes


def made(path, n):
    """n training samples, and ten for the test, in a file."""
    rng = np.random.default_rng(n)
    X, y = rng.standard_normal((n + 10, 5)), np.arange(n + 10) % 2
    np.savez(path, X=X[:n], y=y[:n], X_test=X[n:], y_test=y[n:])
    return str(path)


AWKWARD = {"uneven": (101, 101), "indivisible": (101, 7), "empty": (3, 3)}  # n, batch


@pytest.fixture(scope="module")
def awkward(tmp_path_factory):
    """awkward(ranks, name): (x, samples of each worker) after a few steps; one mpirun for all data of a number of ranks."""
    folder, done = tmp_path_factory.mktemp("awkward"), {}

    def on(ranks, name):
        if ranks not in done:
            rows = [
                dict(
                    data=made(folder / f"{case}.npz", n),
                    batch_size=batch,
                    hidden="6",
                    dtype="float64",
                    steps=12,
                    algorithm="data-parallel",
                    no_plot=True,
                    output=str(folder / f"{case}-{ranks}"),
                )
                for case, (n, batch) in AWKWARD.items()
            ]
            done[ranks] = dict(zip(AWKWARD, table(ranks, rows)))
        shares = [samples for _, samples in done[ranks][name]["shares"]]
        return load(folder / f"{name}-{ranks}")[0]["x"], shares

    return on


@pytest.mark.fault("D1", "shards of unequal size", "the average over all samples, exactly: 1, 2, 3 and 4 ranks agree")
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_uneven_parts_give_the_average_over_all_samples(awkward, ranks):
    """n = 101, whole batches; a mean of means would be off by 1e-3 (tests/test_identities.py)."""
    x, shares = awkward(ranks, "uneven")
    np.testing.assert_allclose(x, awkward(1, "uneven")[0], rtol=0, atol=1e-10)
    assert sum(shares) == 12 * 101 and len(set(shares)) > 1


@pytest.mark.fault("D2", "more ranks than samples", "ranks without a sample join every collective, and change nothing")
def test_a_rank_without_a_sample_changes_nothing(awkward):
    x, shares = awkward(4, "empty")
    np.testing.assert_allclose(x, awkward(1, "empty")[0], rtol=0, atol=1e-10)
    assert sorted(shares) == [0, 12, 12, 12]


@pytest.mark.fault("D3", "a batch that the ranks do not divide, or that does not divide the data", "allowed, and exact")
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_a_batch_that_does_not_divide(awkward, ranks):
    x, shares = awkward(ranks, "indivisible")
    np.testing.assert_allclose(x, awkward(1, "indivisible")[0], rtol=0, atol=1e-10)
    assert sum(shares) == 12 * 7


# --- promises

PROMISE = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}  # 8 TB


def npy():
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, PROMISE)
    return buffer.getvalue() + bytes(64)


def npz(name="X"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.npy", npy())
        archive.writestr("y.npy", npy())
    return buffer.getvalue()


BOMBS = {
    "X.npy": (npy(), ("--data", "npy:X=X.npy,y=X.npy")),
    "X.npz": (npz(), ("--data", "X.npz")),
    "X.idx": (b"\0\0\x0e\x02" + struct.pack(">II", 10**6, 10**6), ("--data", "idx:images=X.idx,labels=X.idx")),
    "run/checkpoint.npz": (npz(), ("--data", "moons", "--hidden", "4", "--resume", "--output", "run")),
}


@pytest.mark.fault("D7", "a small file claims to hold terabytes", "refused by its header, before memory is taken")
@pytest.mark.parametrize("name", BOMBS)
def test_a_promise_of_terabytes_is_refused(name, tmp_path):
    """With 2 GB of address space for all of Python, NumPy and its BLAS."""
    content, flags = BOMBS[name]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    (tmp_path / name).with_name("config.json").write_text('{"steps": 5, "epochs": 40}')
    limited = "import resource, runpy; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)); "
    ended = python("-c", limited + "runpy.run_module('dsgd.train', run_name='__main__')", *flags, cwd=tmp_path)
    assert ended.code == 65 and len(ended.err.splitlines()) == 1, ended
    assert name in ended.err and "8000000000000 bytes" in ended.err, ended


@pytest.mark.fault(
    "D5",
    "a data file is cut off or damaged",
    "one line with the file and the reason, from one rank, and code 65; the same error on every rank",
)
@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.csv", "a.idx"])
def test_a_file_cut_off_is_one_error_on_all_ranks(name, tmp_path):
    X, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 2
    path = tmp_path / name
    if name == "a.npz":
        np.savez(path, X=X, y=y)
    elif name == "a.npy":
        np.save(path, X)
    elif name == "a.csv":
        path.write_text("a,b,y\n1,2,0\n3,4,1\n5,")
    else:
        path.write_bytes(b"\0\0\x08\x02" + struct.pack(">II", 20, 3) + bytes(60))
    if name != "a.csv":
        path.write_bytes(path.read_bytes()[:-9])
    spec = {"a.npy": f"npy:X={path},y={path}", "a.idx": f"idx:images={path},labels={path}"}.get(name, str(path))
    with pytest.raises(DataError) as error:
        load_data(spec, seed=0, dtype="float32")
    if name in ("a.npz", "a.idx"):
        ended = mpirun(2, *TRAIN, "--data", spec, cwd=tmp_path)
        assert (ended.code, ended.lines) == (65, [f"dsgd: {error.value}"]), ended
    assert str(error.value).startswith(f"{path}: ")


# --- nothing in it

LAYOUT = Layout({"W": (4, 3), "b": (3,), "V": (3, 2), "c": (2,)})


@pytest.mark.fault(
    "N6",
    "a gradient of zeros, a constant feature, one class only",
    "no division by zero: nothing moves that has no reason to, a constant feature becomes 0, one class is refused",
)
@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    zeros=st.sets(st.sampled_from(list(LAYOUT.shapes))),
    x_zeros=st.sets(st.sampled_from(list(LAYOUT.shapes))),
    optimizer=st.sampled_from(list(OPTIMIZERS)),
    clip=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 9),
)
def test_arrays_of_zeros_make_no_number_that_is_not_finite(zeros, x_zeros, optimizer, clip, seed):
    """Zeros in any arrays of the gradient, of the parameters, or of both."""
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal(LAYOUT.size), rng.standard_normal(LAYOUT.size)
    for v, names in ((x, x_zeros), (g, zeros)):
        for name in names:
            v[slice(*LAYOUT.span([name]))] = 0
    update = Update(OPTIMIZERS[optimizer](), Norms(LAYOUT), clip)
    start = x.copy()
    with np.errstate(all="raise", under="ignore"):
        for _ in range(3):
            update.step(x, g, 0.1)
    assert np.isfinite(x).all()
    for name in zeros & x_zeros:
        assert (x[slice(*LAYOUT.span([name]))] == 0).all()
    for name in set(LAYOUT.shapes) - zeros:  # biases start as zeros, and must be able to leave
        assert (x != start)[slice(*LAYOUT.span([name]))].all()


@pytest.mark.fault("N6")
@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    value=st.floats(-1e30, 1e30),
    constant=st.sets(st.integers(0, 2)),
    scale=st.sampled_from(["standard", "range"]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_a_constant_feature_becomes_zero(value, constant, scale, dtype, tmp_path_factory):
    X = np.random.default_rng(0).standard_normal((30, 3))
    X[:, sorted(constant)] = value
    path = tmp_path_factory.getbasetemp() / "constant.npz"
    np.savez(path, X=X, y=np.arange(30) % 2)
    data = load_data(f"{path}:scale={scale}", seed=0, dtype=dtype)
    for part in (data.X, data.X_test):
        assert np.isfinite(part).all() and (part[:, sorted(constant)] == 0).all()


@pytest.mark.fault("N6")
def test_one_class_only_is_refused_and_a_constant_target_is_learnt(tmp_path):
    X = np.random.default_rng(0).standard_normal((30, 3))
    np.savez(tmp_path / "a.npz", X=X, y=np.ones(30, int))
    with pytest.raises(DataError, match="y holds one class only"):
        load_data(str(tmp_path / "a.npz"), seed=0, dtype="float32")
    np.savez(tmp_path / "a.npz", X=np.zeros((30, 3)), y=np.ones(30))
    result = dsgd.run(data=str(tmp_path / "a.npz"), steps=20, optimizer="lamb", clip_norm=1, log_every=1, no_plot=True)
    assert np.isfinite(result.params).all() and result.summary["test_r2"] is None
