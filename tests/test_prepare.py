"""From a configuration to a job: what the linear-scaling rule makes of --lr, and which samples a rank gets."""

import pytest

import dsgd
from dsgd.arguments import make
from dsgd.prepare import prepare
from dsgd.simulator.backend import SimulatorBackend

DATA = dict(data="teacher:samples=320,features=12,hidden=8,classes=4", hidden="16", dtype="float64", steps=10)


def job(ranks, **flags):
    return prepare(make(DATA | flags), SimulatorBackend(ranks))


@pytest.mark.parametrize(
    "ranks, flags, expected",
    [
        (1, dict(lr=0.1), 0.1),
        (1, dict(lr=0.1, lr_scaling="linear"), 0.1),  # a batch of 32 is what --lr is meant for
        (4, dict(lr=0.1, lr_scaling="linear", batch_size=128), 0.4),
        (1, dict(lr=0.1, lr_scaling="linear", batch_size=8), 0.025),
        (4, dict(lr_scaling="linear", batch_size=64, optimizer="adam"), 0.002),
        # An asynchronous push is the average over its worker's own part of the batch.
        (5, dict(lr=0.1, lr_scaling="linear", batch_size=128, algorithm="parameter-server:consistency=asp"), 0.1),
        (5, dict(lr=0.1, lr_scaling="linear", batch_size=128, algorithm="parameter-server"), 0.4),
    ],
)
def test_the_linear_scaling_rule(ranks, flags, expected):
    assert job(ranks, **flags).lr == pytest.approx(expected, rel=1e-15)


def test_a_scaled_run_is_the_run_with_that_step_size():
    flags = DATA | dict(algorithm="data-parallel", simulate=4, batch_size=64, schedule="cosine", warmup_steps=3)
    scaled, plain = dsgd.run(**flags, lr=0.05, lr_scaling="linear"), dsgd.run(**flags, lr=0.1)
    assert scaled.summary["params_sha256"] == plain.summary["params_sha256"]
    assert plain.summary["params_sha256"] != dsgd.run(**flags, lr=0.05).summary["params_sha256"]


def test_a_schedule_changes_the_run_and_a_constant_one_does_not():
    flags = DATA | dict(algorithm="sgd", lr=0.05)
    hashes = {
        spec: dsgd.run(**flags, schedule=spec).summary["params_sha256"]
        for spec in ("constant", "step:step_size=100", "step:step_size=5", "exponential:gamma=1", "cosine")
    }
    assert hashes["constant"] == hashes["step:step_size=100"] == hashes["exponential:gamma=1"]
    assert len(set(hashes.values())) == 3


def test_the_network_of_a_binary_loss_has_one_output():
    two = dict(data="teacher:samples=320,features=12,hidden=8,classes=2")
    assert job(1, **two, loss="binary-cross-entropy").objective.net.widths == (12, 16, 1)
    assert job(1, **two).objective.net.widths == (12, 16, 2)
    assert job(1, **DATA | dict(data="linear:outputs=3")).objective.net.widths == (8, 16, 3)


def test_a_binary_loss_learns_and_is_evaluated():
    flags = dict(data="moons", loss="binary-cross-entropy", hidden="16", epochs=20, lr=0.1)
    result = dsgd.run(**flags, simulate=3)
    assert result.summary["test_accuracy"] > 0.95
    assert sum(map(sum, result.summary["confusion"])) == 200 and result.summary["labels"] == [0, 1]
