"""Vanishing and exploding gradients: three deep networks, and each remedy on a case that it mends and one that it does not."""

import json
from contextlib import suppress
from math import sqrt

import numpy as np
import pytest

import dsgd
from dsgd.errors import NonFiniteGradient
from dsgd.records import read_records
from dsgd.watch import EXPLODING, RUNNING, VANISHING
from launching import TRAIN, python, table
from table import run_row

DATA = dict(data="teacher:samples=400,features=12,hidden=8,classes=4", algorithm="sgd", optimizer="sgd", lr=0.01)
DEEP = DATA | dict(hidden=",".join(["16"] * 20), log_every=1, steps=200)
SIGMOID = DEEP | dict(activation="sigmoid", init="glorot")
SATURATED = DATA | dict(hidden="16,16,16,16", activation="tanh", init="glorot:gain=300", lr=0.05)


@pytest.fixture
def verdicts(tmp_path):
    """verdicts(**flags): those on the records of a run, in order, of one that ended for a gradient that is not finite too."""

    def found(**flags):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with suppress(NonFiniteGradient):
            dsgd.run(**flags, output=folder, no_plot=True)
        return [row["verdict"] for row in read_records(folder) if "verdict" in row]

    return found


def test_twenty_layers_of_sigmoid_vanish(verdicts):
    found = verdicts(**SIGMOID)
    assert len(found) == 200
    assert found[: RUNNING - 1] == [None] * (RUNNING - 1) and set(found[RUNNING - 1 :]) == {"vanishing"}


def test_twenty_layers_of_relu_at_three_times_he_explode(verdicts):
    assert verdicts(**DEEP, init="he:gain=3")[-1] == "exploding"


def test_the_verdict_comes_while_the_gradient_is_still_finite(tmp_path):
    with pytest.raises(NonFiniteGradient):
        dsgd.run(**DEEP, init="he:gain=1.4", output=tmp_path, no_plot=True)
    first, second, last = read_records(tmp_path)
    assert first["verdict"] is None
    assert second["verdict"] == "exploding" and EXPLODING * first["gradient_norm"] < second["gradient_norm"] < 1e30
    assert last["verdict"] == "exploding" and last["gradient_rms"] is None


def test_twenty_layers_of_relu_with_he_do_neither(verdicts):
    assert verdicts(**DEEP) == [None] * 200


# --- the remedies that the article names: regularisation, another optimizer, a schedule

REMEDIES = {  # name: (a case and what mends it, a case that it leaves as it is)
    # Weights decay until the units leave saturation; sigmoid's slope is at most 1/4 in every layer, whatever the weights.
    "regularisation": ((SATURATED | dict(log_every=10, steps=800), dict(l2=0.1)), (SIGMOID, dict(l2=0.1))),
    # A step of a size of its own does not follow the gradient's; a gradient of 1e-13 carries no direction either way.
    "another optimizer": ((DEEP | dict(init="he:gain=1.4"), dict(optimizer="adam", lr=0.001)), (SIGMOID, dict(optimizer="adam"))),
    # Small first steps lead out of the steep region, unless the region is too steep for any of them.
    "a schedule": ((DEEP | dict(init="he:gain=1.4"), dict(warmup_steps=100)), (DEEP | dict(init="he:gain=2"), dict(warmup_steps=100))),
}  # fmt: skip


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_mends(name, verdicts):
    case, remedy = REMEDIES[name][0]
    assert verdicts(**case)[-1] in ("vanishing", "exploding")
    assert verdicts(**case | remedy)[-1] is None


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_does_not_mend_everything(name, verdicts):
    case, remedy = REMEDIES[name][1]
    before = verdicts(**case)[-1]
    assert before in ("vanishing", "exploding")
    assert verdicts(**case | remedy)[-1] == before


# --- what the records hold


def test_the_records_hold_the_root_mean_square_of_the_averaged_gradient():
    """Against the gradient computed here, of a full batch at the start."""
    from dsgd.arguments import make
    from dsgd.prepare import network
    from dsgd.sampling import Batch

    flags = DATA | dict(hidden="8,6", dtype="float64", batch_size=320, steps=1, log_every=1)
    row = dsgd.run(**flags).records[0]
    objective, _ = network(make(flags))
    x = objective.start(0, np.float64)
    g = np.empty_like(x)
    objective.gradient(objective.views(x), objective.views(g), Batch(np.arange(320), 0), 1 / 320)
    layers = [np.concatenate([views[l].ravel(), views[l + 1].ravel()]) for views in [list(objective.views(g).values())] for l in (0, 2, 4)]  # fmt: skip
    assert row["gradient_rms"] == pytest.approx([sqrt(np.mean(layer**2)) for layer in layers], rel=1e-12)
    assert row["gradient_norm"] == pytest.approx(np.linalg.norm(g), rel=1e-12)


@pytest.mark.parametrize(
    "algorithm", ["data-parallel", "dsgd", "parameter-server:servers=2", "model-parallel", "grouped"]
)
def test_every_algorithm_watches_the_same_gradient_in_both_worlds(algorithm):
    flags = DATA | dict(algorithm=algorithm, hidden="40,16,8", steps=25, log_every=4, dtype="float64", clip_norm=0.1)
    (mpi,), ours = table(4, [flags]), run_row(flags | dict(simulate=4))
    assert mpi["records"] == ours["records"]
    reference = dsgd.run(**flags | dict(algorithm="sgd")).records
    assert [row["step"] for row in reference] == [row["step"] for row in ours["records"]]
    assert all(len(row["gradient_rms"]) == 4 for row in ours["records"])
    for key in ("gradient_norm", "gradient_rms"):
        np.testing.assert_allclose(
            [row[key] for row in ours["records"]], [row[key] for row in reference], rtol=1e-9, err_msg=key
        )


def test_an_asynchronous_server_of_all_keys_watches_its_pushes():
    flags = DATA | dict(hidden="40", steps=20, log_every=5)
    one = dsgd.run(**flags | dict(algorithm="parameter-server:consistency=asp", simulate=4))
    assert all(row["gradient_norm"] > 0 for row in one.records)
    two = dsgd.run(**flags | dict(algorithm="parameter-server:consistency=asp,servers=2", simulate=5))
    assert not any("gradient_norm" in row for row in two.records)  # no server sees a whole push


@pytest.mark.parametrize("algorithm", ["parameter-server", "parameter-server:consistency=asp"])
def test_what_is_watched_is_never_the_clipped_gradient(algorithm):
    """A worker of asp clips its own push before the server sees it: such a push is not watched."""
    flags = DATA | dict(hidden="40", steps=20, log_every=5, algorithm=algorithm, simulate=2, clip_norm=0.05)
    norms = [row.get("gradient_norm") for row in dsgd.run(**flags).records]
    assert norms == [None] * len(norms) if "asp" in algorithm else min(norms) > 0.05


def test_the_verdict_is_printed_once_and_kept(tmp_path):
    flags = {key: value for key, value in SIGMOID.items() if key != "steps"} | dict(steps=60, output=tmp_path / "run")
    words = [word for key, value in flags.items() for word in (f"--{key.replace('_', '-')}", value)]
    ended = python(*TRAIN, *words)
    assert ended.code == 0
    (line,) = [line for line in ended.err.splitlines() if "vanishing" in line]
    assert line.startswith(f"dsgd: step {RUNNING}: vanishing gradients: the first layer's root mean square gradient is")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["gradients"] == "vanishing"
    assert VANISHING == 1e-4 and EXPLODING == 1000
