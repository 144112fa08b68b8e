"""How long gradients take: the distributions, that a draw depends on nothing but its key, and what is refused."""

import re
from math import erf, exp, log, sqrt
from types import SimpleNamespace

import numpy as np
import pytest

import dsgd
from dsgd.checks import check_backend
from dsgd.config import Config
from dsgd.errors import DataError, UsageError
from dsgd.follow import settings
from dsgd.simulator import World, simulate
from dsgd.timing import COMPUTE, make_timing, parse_compute, read_seconds
from launching import TRAIN, mpirun

DRAWS = 20_000
MEAN = 0.002
CDF = {
    f"exponential:mean={MEAN}": lambda t: 1 - exp(-t / MEAN),
    f"lognormal:mean={MEAN},sigma=0.5": lambda t: 0.5 + 0.5 * erf((log(t / MEAN) + 0.125) / 0.5 / sqrt(2)),
    f"pareto:mean={MEAN},alpha=3": lambda t: 1 - (MEAN * 2 / 3 / t) ** 3,
}
SMALL = dict(data="digits", hidden="8", batch_size=12, steps=4, simulate=4, no_plot=True)


def draws(spec, seed=0, workers=4, n=DRAWS):
    timing = make_timing(spec, seed, workers)
    return np.array([timing(i % workers, i // workers, 1e9) for i in range(n)])


# --- the models


@pytest.mark.parametrize("spec", CDF, ids=lambda spec: spec.partition(":")[0])
def test_draws_follow_their_distribution(spec):
    """Kolmogorov-Smirnov: √n · D exceeds 1.95 with a probability of 0.001."""
    times = np.sort(draws(spec))
    expected = np.array([CDF[spec](t) for t in times])
    apart = max(np.abs(expected - np.arange(k, DRAWS + k) / DRAWS).max() for k in (0, 1))
    assert sqrt(DRAWS) * apart < 1.95
    assert times.mean() == pytest.approx(MEAN, rel=0.03)


def test_neighbouring_draws_have_nothing_to_do_with_each_other():
    times = draws(f"exponential:mean={MEAN}").reshape(-1, 4)
    by_worker, by_number = np.corrcoef(times.T), np.corrcoef(times[1:, 0], times[:-1, 0])
    assert np.abs(by_worker - np.eye(4)).max() < 0.06 and abs(by_number[0, 1]) < 0.06


@pytest.mark.parametrize("spec", [*CDF, "constant:seconds=1,stragglers=0.5"], ids=lambda spec: spec.partition(":")[0])
def test_a_draw_is_a_function_of_seed_worker_and_number(spec):
    """Asked in another order, by another process's object, beside more workers: the same; another seed: another."""
    keys = [(worker, number) for worker in range(3) for number in range(50)]
    first, again = make_timing(spec, 7, 3), make_timing(spec, 7, 100)
    times = {key: first(*key, 0) for key in keys}
    assert times == {key: again(*key, 0) for key in reversed(keys)}
    assert times != {key: make_timing(spec, 8, 3)(*key, 0) for key in keys}


def test_flops_and_constant():
    assert make_timing("flops")(0, 0, 3e9) == 0.3
    assert make_timing("flops:speed=1e9")(0, 0, 3e9) == 3
    assert make_timing("constant:seconds=0.5")(0, 9, 3e9) == 0.5


def test_factors_are_those_of_the_workers():
    timing = make_timing("constant:seconds=0.5,factors=1/1/4", workers=3)
    assert [timing(worker, 0, 0) for worker in range(3)] == [0.5, 0.5, 2]
    assert make_timing("constant:seconds=0.5,factors=3", workers=9)(8, 0, 0) == 1.5


def test_stragglers_come_as_often_as_asked():
    times = draws("constant:seconds=1,stragglers=0.1,slowdown=5")
    assert set(times) == {1, 5} and np.mean(times == 5) == pytest.approx(0.1, abs=0.01)
    assert set(draws("constant:seconds=1,stragglers=1")) == {10}


def test_who_straggles_has_nothing_to_do_with_how_long_it_would_have_taken():
    times = draws("exponential:mean=1,stragglers=0.1,slowdown=5")
    assert times.mean() == pytest.approx(0.9 + 0.1 * 5, rel=0.05)


def test_a_trace_is_read_line_by_line_and_starts_over(tmp_path):
    one, each = tmp_path / "one.txt", tmp_path / "each.csv"
    one.write_text("# seconds\n0.1\n\n0.2\n0.3\n")
    each.write_text("1,2\n3, 4\n")
    timing = make_timing(f"trace:file={one}", workers=5)
    assert [timing(4, number, 0) for number in range(5)] == [0.1, 0.2, 0.3, 0.1, 0.2]
    timing = make_timing(f"trace:file={each},factors=1/10", workers=2)
    assert [timing(worker, number, 0) for worker in range(2) for number in range(3)] == [1, 3, 1, 20, 40, 20]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("0.1\n# no\n0.2 0.3\n", "line 3: has 2 columns, and the lines before have 1"),
        ("0.1\nsoon\n", "line 2: 'soon' is not a number of seconds"),
        ("0.1\n-1\n", "line 2: seconds are numbers from 0"),
        ("nan\n", "line 1: seconds are numbers from 0"),
        ("# nothing\n\n", "holds no times"),
        ("1,2,3\n", "has 3 columns, and there are 2 workers"),
        (b"\xff\xfe0\x00", "is no text"),
        (None, "No such file"),
    ],
)
def test_a_bad_trace_is_refused_with_line_and_reason(text, reason, tmp_path):
    path = tmp_path / "times.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=re.escape(reason)) as caught:
        make_timing(f"trace:file={path}", workers=2)
    assert str(path) in str(caught.value)


def test_a_trace_is_floats(tmp_path):
    path = tmp_path / "times.csv"
    path.write_text("1e-3, 2\n")
    assert read_seconds(path) == [(0.001, 2.0)]


# --- what cannot be meant


@pytest.mark.parametrize(
    "spec, reason",
    [
        ("normal:mean=1", "unknown compute 'normal'"),
        ("exponential", "mean= has to be given"),
        ("exponential:mean=0", "mean=0.0 must be above 0"),
        ("exponential:mean=nan", "mean=nan must be above 0"),
        ("pareto:mean=1,alpha=1", "alpha=1.0 must be above 1"),
        ("flops:speed=inf", "speed=inf must be above 0, and finite"),
        ("flops:mean=1", "has no option 'mean'"),
        ("flops:stragglers=1.5", "stragglers=1.5 is not a probability"),
        ("flops:slowdown=0.5", "slowdown=0.5 must be at least 1"),
        ("flops:factors=1/0", "factors=1/0 is no list of positive numbers"),
        ("flops:factors=1/x", "factors=1/x is no list of positive numbers"),
    ],
)
def test_what_cannot_be_is_refused(spec, reason):
    with pytest.raises(UsageError, match=re.escape(reason)):
        Config(compute=spec)


def test_every_model_takes_the_common_options():
    needed = {"constant": "seconds=1", "trace": "file=x", "pareto": "mean=1,alpha=2", "exponential": "mean=1"}
    needed |= {"lognormal": "mean=1,sigma=1"}
    for name in COMPUTE:
        options = ",".join(filter(None, [needed.get(name), "factors=1/2,stragglers=0.25,slowdown=3"]))
        everywhere = parse_compute(f"{name}:{options}")[2]
        assert everywhere == {"factors": (1, 2), "stragglers": 0.25, "slowdown": 3}


def test_factors_for_other_workers_are_refused():
    with pytest.raises(UsageError, match="2 factors, and there are 4 workers"):
        dsgd.run(**SMALL, compute="flops:factors=1/4")


@pytest.mark.parametrize("algorithm", ["sgd", "overlapped:bucket=1", "model-parallel"])
def test_the_parts_of_a_gradient_share_its_time(algorithm):
    """In proportion to their operations; one layer after the other, on one rank or on a rank for each."""
    layers = SMALL | dict(hidden="8,8", simulate=3 if algorithm == "model-parallel" else 1)
    result = dsgd.run(**layers, algorithm=algorithm, compute="constant:seconds=1", network="uniform:latency=0")
    assert result.summary["virtual_seconds"] == pytest.approx(4, rel=1e-4)


def test_under_mpirun_it_is_refused_in_words():
    pytest.importorskip("mpi4py")
    ended = mpirun(2, *TRAIN, "--compute=constant:seconds=1", "--steps=1")
    assert ended.code == 2 and len(ended.lines) == 1
    assert "under mpirun time passes by itself" in ended.lines[0] and "--faults" in ended.lines[0]
    with pytest.raises(UsageError, match="--network uniform:jitter=1 is about the virtual clock"):
        check_backend(Config(network="uniform:jitter=1"), SimpleNamespace(virtual=False))
    check_backend(Config(), SimpleNamespace(virtual=False))


# --- in a run


def test_a_gradient_takes_its_time_and_the_slow_rank_longer():
    from dsgd.faults import read_faults

    def program(comm):
        for step in (5, 6):
            comm.compute(int, step, 0)
        return comm.clock()

    timing = make_timing("exponential:mean=1", 3, 3)
    expected = [timing(w, 5, 0) + timing(w, 6, 0) for w in range(3)]
    assert simulate(program, 3, timing=timing) == pytest.approx(expected)
    assert World(3).timing(0, 0, 1e10) == 1
    expected[1] *= 2
    assert simulate(program, 3, timing=timing, faults=read_faults("slow:rank=1,x=2")) == pytest.approx(expected)


def test_a_synchronous_run_keeps_its_bits_and_waits_for_the_slowest():
    plain, slow = dsgd.run(**SMALL), dsgd.run(**SMALL, compute="constant:seconds=1,factors=1/1/5/1")
    assert plain.summary["params_sha256"] == slow.summary["params_sha256"]
    assert slow.summary["virtual_seconds"] == pytest.approx(4 * 5, rel=1e-3)


def test_an_asynchronous_run_is_resumed_to_the_same_bits_and_the_same_time(tmp_path):
    """Times are drawn anew from where the clock stands: the draws know only their gradients, the jitter only the time."""
    flags = SMALL | dict(algorithm="parameter-server:consistency=asp", checkpoint_every=4, optimizer="sgd", lr=0.01)
    flags |= dict(compute="pareto:mean=1e-3,alpha=1.5,stragglers=0.2", network="uniform:jitter=1e-4", quiet=True)
    whole = dsgd.run(**flags | dict(steps=8, output=str(tmp_path / "whole")))
    dsgd.run(**flags | dict(output=str(tmp_path / "parts")))
    parts = dsgd.run(**flags | dict(steps=8, output=str(tmp_path / "parts"), resume=True))
    for key in ("params_sha256", "virtual_seconds", "mean_staleness"):
        assert whole.summary[key] == parts.summary[key]
    with pytest.raises(UsageError, match="was trained with compute"):
        dsgd.run(**flags | dict(steps=9, output=str(tmp_path / "parts"), resume=True, compute="flops"))


def test_a_file_that_changed_is_refused_by_a_run_that_goes_on(tmp_path):
    times, net = tmp_path / "times.txt", tmp_path / "net.toml"
    times.write_text("0.1\n"), net.write_text("latency = 1e-3")
    flags = SMALL | dict(compute=f"trace:file={times}", network=f"file:path={net}", output=str(tmp_path / "run"))
    dsgd.run(**flags)
    net.write_text("latency = 2e-3")
    with pytest.raises(UsageError, match="followed the clock of .*net.toml as it was then"):
        dsgd.run(**flags | dict(steps=5, resume=True))
    net.write_text("latency = 1e-3")
    assert dsgd.run(**flags | dict(steps=5, resume=True)).summary["virtual_seconds"] == pytest.approx(0.5, rel=0.2)


def test_measured_is_settled_to_the_speed_of_this_machine(tmp_path):
    run = dsgd.run(**SMALL, compute="measured:factors=1/1/1/4", output=str(tmp_path / "run"))
    name, speed, everywhere = parse_compute(run.config.compute)
    assert name == "flops" and 1e6 < speed["speed"] < 1e13 and everywhere["factors"] == (1, 1, 1, 4)
    again = dsgd.run(**SMALL, compute=run.config.compute)
    assert again.summary["virtual_seconds"] == run.summary["virtual_seconds"]
    assert run.config.compute in (tmp_path / "run" / "config.json").read_text()


def test_a_replay_under_mpirun_leaves_the_virtual_clock_behind(tmp_path):
    flags = SMALL | dict(algorithm="parameter-server:consistency=asp", output=str(tmp_path / "run"), quiet=True)
    dsgd.run(**flags, compute="exponential:mean=1e-3", network="uniform:latency=1e-4")
    assert settings(tmp_path / "run", launched=False)["compute"] == "exponential:mean=1e-3"
    assert not {"compute", "network"} & settings(tmp_path / "run", launched=True).keys()
