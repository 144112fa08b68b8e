"""Controllers: what they may set, that the log and a checkpoint hold it, and that they do what they are for."""

import math
from statistics import mean, median

import numpy as np
import pytest

import dsgd
from benchmarks.controllers import reached, settled, throughput, trained
from dsgd.chaos_plan import Ledger
from dsgd.controllers import balance, bound, step_size
from dsgd.errors import ControllerError, DataError, UsageError
from dsgd.order import log, read_order
from dsgd.sampling import Shuffled
from launching import table

SLOW = dict(faults="slow:rank=4,x=4")
DATA = dict(
    data="teacher:samples=300,features=6,hidden=4,classes=3",
    batch_size=40,
    hidden="128",
    steps=12,
    dtype="float64",
    quiet=True,
    no_plot=True,
)
CLOCK = dict(compute="flops:speed=1e8", network="uniform:latency=1e-7")
SERVER = "parameter-server:consistency="


def run(algorithm, controller=None, ranks=5, **flags):
    return dsgd.run(**DATA | flags, algorithm=algorithm, controller=controller, simulate=ranks, **CLOCK)


def changes(result):
    return [entry for entry in result.order if isinstance(entry, dict) and "set" in entry]


def at(step, settings):
    """A controller that changes this after this step."""

    def controller(records):
        return settings if records[-1]["step"] == step else None

    return controller


# --- the split of a batch


@pytest.mark.parametrize("shares", [(0.25,) * 4, (0.4, 0.3, 0.2, 0.1), (0.001, 0.997, 0.001, 0.001)])
def test_any_shares_split_a_batch_into_parts_that_are_the_batch(shares):
    sampler = Shuffled(n=103, batch=40, seed=3, workers=4)
    for t in range(6):
        parts, whole = [sampler.part(t, i, np.array(shares)) for i in range(4)], sampler.part(t)
        assert np.array_equal(np.concatenate([part.rows for part in parts]), whole.rows)
        assert [part.first for part in parts] == [sum(map(len, parts[:i])) for i in range(4)]
        assert all(abs(len(part) - share * len(whole)) <= 1 for part, share in zip(parts, shares))


@pytest.mark.parametrize("algorithm", [SERVER + "bsp", SERVER + "k-sync,k=4", "parameter-server:servers=2"])
def test_a_split_by_speed_applies_every_sample_once_an_epoch(algorithm):
    ledger, ranks = Ledger("float64"), 6 if "servers" in algorithm else 5
    flags = dict(simulate=ranks, batch_size=12, optimizer="sgd", lr=1.0, dtype="float64", **CLOCK)
    epochs = 3
    result = dsgd.run(
        objective=ledger,
        **flags,
        algorithm=algorithm,
        epochs=epochs,
        controller="balance",
        faults=f"slow:rank={ranks - 1},x=4",
    )
    even = dsgd.run(objective=ledger, **flags, algorithm="data-parallel", epochs=epochs)
    assert changes(result) and np.allclose(result.params, even.params, rtol=1e-12)
    assert (result.params[-ledger.SAMPLES :] == -epochs).all(), "how often each sample was applied"
    counted = [w["samples"] for w in result.summary["samples_per_worker"]]
    assert sum(counted) == epochs * ledger.samples and counted[-1] < min(counted[:-1]) / 2


def test_a_batch_that_is_split_by_speed_has_the_average_of_sgd():
    """And m samples in every step; no bits are lost but by the order of the sum."""
    seen = []

    def watched(records):
        seen.append(records[-1])
        return control(records)

    control = balance()
    result, alone = run(SERVER + "bsp", watched, **SLOW), run("sgd", ranks=1)
    assert changes(result) and np.allclose(result.params, alone.params, rtol=0, atol=1e-12)
    whole = Shuffled(n=240, batch=40, seed=0, workers=4)
    assert [record["samples"].sum() for record in seen] == [whole.samples(t) for t in range(12)]


def test_a_split_by_speed_reaches_the_ideal_rate_in_20_steps():
    speed, ideal = throughput("balance")
    assert 0.9 * ideal <= speed <= ideal
    speed, ideal = throughput(None)
    assert speed < 0.35 * ideal, "where the slow one has as much to do as the others"


# --- what is recorded


def test_a_record_says_what_a_clock_took():
    """Four workers, one of them 4 × slower, by rounds: the others wait for it three quarters of their time."""
    seen = []
    run(SERVER + "bsp", lambda records: seen.append(records[-1]), steps=3, batch_size=80, **SLOW)
    assert [record["step"] for record in seen] == [1, 2, 3]
    for before, record in zip([None, *seen], seen):
        assert record["samples"].tolist() == [20] * 4 and record["staleness"] == 0 and record["bound"] is None
        assert np.allclose(record["seconds"] / record["seconds"][0], [1, 1, 1, 4], rtol=0.02)
        assert np.allclose(record["waited"][:3] / record["seconds"][3], 0.75, rtol=0.02) and record["waited"][3] < 1e-5
        assert (
            record["time"] > (before["time"] if before else 0) and record["lr"] == 1 and math.isfinite(record["loss"])
        )


def test_the_records_of_asp_have_its_staleness():
    """Behind the first clock, it is N − 1 for workers that are as fast as each other."""
    seen = []
    result = run(SERVER + "asp", lambda records: seen.append(records[-1]))
    pushes = [entry for entry in result.order if isinstance(entry, list)]
    for record, clock in zip(seen, np.reshape(pushes, (12, 4, 4))):
        assert record["staleness"] == np.mean(clock[:, 3] - 1 - clock[:, 2])
    assert seen[-1]["staleness"] == 3


# --- what a setting does


def test_a_factor_of_the_step_size_is_a_schedule_to_the_bit():
    for algorithm, ranks in ((SERVER + "bsp", 5), (SERVER + "asp,servers=2", 6)):
        halved = run(algorithm, at(4, {"lr": 0.5}), ranks)
        assert halved.summary["params_sha256"] != run(algorithm, None, ranks).summary["params_sha256"]
        same = run(algorithm, None, ranks, schedule="multi-step:milestones=4,gamma=0.5")
        assert halved.summary["params_sha256"] == same.summary["params_sha256"]
        assert changes(halved) == [{"set": {"lr": 0.5}, "step": 4}]


def ahead(order, workers=4):
    """[how many pushes the fastest was ahead of the slowest] after each push."""
    clocks, result = [0] * workers, []
    for entry in order:
        if isinstance(entry, list):
            clocks[entry[0]] += 1
            result.append(max(clocks) - min(clocks))
    return result


def test_a_bound_can_rise_and_fall_while_the_run_goes_on():
    flags = dict(steps=30, faults="slow:rank=4,x=20")
    controls = [at(10, {"bound": 4}), at(20, {"bound": 1})]
    result = run(SERVER + "ssp,bound=1", lambda records: controls[0](records) or controls[1](records), **flags)
    assert [entry["set"] for entry in changes(result)] == [{"bound": 4}, {"bound": 1}]
    gaps = ahead(result.order)
    assert max(gaps[:40]) == 2 and max(gaps[40:80]) == 5 and max(gaps[100:]) == 2


def test_who_waits_goes_on_as_soon_as_the_bound_rises():
    result = run(SERVER + "ssp,bound=2", at(10, {"bound": 6}), steps=20, faults="slow:rank=4,x=20")
    pushes = result.order[result.order.index(changes(result)[0]) + 1 :]
    workers = [push[0] for push in pushes[:-1]]
    assert min(workers[: workers.index(3)].count(fast) for fast in range(3)) >= 4, "before the slow one pushes again"


# --- the log and the checkpoint hold it


def halfway(records):
    """Two settings at once, before and after the cut."""
    return {"lr": 0.5, "shares": [1, 2, 3, records[-1]["step"]]} if records[-1]["step"] in (3, 6, 9) else None


MODELS = (
    (SERVER + "bsp", "balance", 5),
    ("parameter-server:colocated=true", "balance", 4),
    (SERVER + "k-sync,k=3,cancel=true", halfway, 5),
    (SERVER + "backup,b=1", "balance", 5),
    (SERVER + "ssp,bound=1", "bound:clocks=1,waiting=0.1", 5),
    (SERVER + "ssp,bound=1,apply=clock,servers=2", "balance:deadband=0.01", 6),
    (SERVER + "asp", "balance:deadband=0.01", 5),
    (SERVER + "asp", "step-size:clocks=2", 5),
    (SERVER + "softsync,n=2,servers=2", halfway, 6),
)


def never(records):
    raise AssertionError("a replay asks its log")


@pytest.mark.parametrize("algorithm, controller, ranks", MODELS)
def test_a_replay_takes_the_settings_from_the_log(algorithm, controller, ranks, tmp_path):
    """To the bit, with the same log, and without a word to the controller."""
    result = run(algorithm, controller, ranks, output=str(tmp_path / "run"), faults=f"slow:rank={ranks - 1},x=3")
    assert changes(result)
    for flags in ({}, dict(controller=never)):
        again = dsgd.run(replay=str(tmp_path / "run"), no_plot=True, **flags)
        assert again.summary["params_sha256"] == result.summary["params_sha256"] and again.order == result.order
    head, entries = read_order(tmp_path / "run")
    without = [entry for entry in entries if isinstance(entry, list) or "set" not in entry]
    (tmp_path / "without").write_bytes(log(head, without))
    if controller != "bound:clocks=1,waiting=0.1":  # which changes the order alone
        assert dsgd.run(replay=str(tmp_path / "without")).summary["params_sha256"] != result.summary["params_sha256"]


@pytest.mark.parametrize("controller", ["balance:deadband=0.01", halfway])
def test_a_controller_goes_on_without_a_worker_that_was_given_up(controller, tmp_path):
    faults = "kill:rank=4,step=3; slow:rank=3,x=2"
    result = run(SERVER + "asp,patience=0.002", controller, faults=faults, output=str(tmp_path / "run"))
    at = result.order.index({"lost": 3})
    assert changes(result)
    assert controller != halfway or result.order.index(changes(result)[-1]) > at
    assert dsgd.run(replay=str(tmp_path / "run")).summary["params_sha256"] == result.summary["params_sha256"]


@pytest.mark.parametrize("algorithm, controller, ranks", MODELS)
def test_a_resumed_run_goes_on_with_its_settings_and_records(algorithm, controller, ranks, tmp_path):
    flags = dict(checkpoint_every=6, faults=f"slow:rank={ranks - 1},x=3")
    whole = run(algorithm, controller, ranks, **flags, output=str(tmp_path / "whole"))
    run(algorithm, controller, ranks, **flags | dict(steps=6), output=str(tmp_path / "run"))
    again = run(algorithm, controller, ranks, **flags, output=str(tmp_path / "run"), resume=True)
    assert again.summary["params_sha256"] == whole.summary["params_sha256"]
    assert changes(whole) and again.order == whole.order
    if "colocated" not in algorithm:  # whose start, too, is a message
        assert again.summary["virtual_seconds"] == whole.summary["virtual_seconds"]


def test_another_controller_does_not_go_on_with_a_run(tmp_path):
    run(SERVER + "asp", step_size(), steps=6, output=str(tmp_path))
    with pytest.raises(UsageError, match="controller = 'control', not ''"):
        run(SERVER + "asp", output=str(tmp_path), resume=True)


@pytest.mark.parametrize(
    "entry",
    [
        {"set": {"speed": 1}, "step": 1},
        {"set": {"bound": -1}, "step": 1},
        {"set": {"bound": 1e400}, "step": 1},
        {"set": {"lr": "fast"}, "step": 1},
        {"set": {"shares": [1, 2, 3]}, "step": 1},
        {"set": {"lr": 1}},
        {"set": 5, "step": 1},
        {"set": {}, "step": 1},
    ],
)
def test_a_log_with_impossible_settings_is_refused(entry, tmp_path):
    result = run(SERVER + "asp", at(2, {"lr": 0.5}), steps=4, output=str(tmp_path))
    head, entries = read_order(tmp_path)
    entries[entries.index(changes(result)[0])] = entry
    (tmp_path / "order.jsonl").write_bytes(log(head, entries))
    with pytest.raises(DataError, match="is damaged, or no log"):
        dsgd.run(replay=str(tmp_path))


# --- bad input


def broken(records):
    raise ZeroDivisionError("no luck")


@pytest.mark.fault(
    "U3",
    "a controller raises an error, or sets what cannot be",
    "the run ends with the controller's name, the step and the reason, in one line",
)
@pytest.mark.parametrize(
    "consistency, partition, settings, words",
    [
        ("bsp", "shuffled", broken, "controller broken, step 1: ZeroDivisionError: no luck"),
        ("bsp", "shuffled", {"speed": 2}, "step 1: there is no setting 'speed', but lr, bound, shares"),
        ("asp", "shuffled", {"bound": 2}, "step 1: only consistency=ssp and sampled have a bound="),
        ("ssp,bound=1", "shuffled", {"bound": -1}, "bound=-1 is no whole number"),
        ("ssp,bound=1", "shuffled", {"bound": 1.5}, "bound=1.5 is no whole number"),
        ("bsp", "shuffled", {"lr": math.nan}, "lr=nan is no factor over 0"),
        ("bsp", "shuffled", {"lr": 0}, "lr=0 is no factor"),
        ("bsp", "shuffled", {"shares": [1, 2, -3, 4]}, "are not 4 finite numbers over 0"),
        ("bsp", "shuffled", {"shares": [1, 2, math.nan, 4]}, "are not 4 finite numbers over 0"),
        ("bsp", "shuffled", {"shares": [1, 2, 3]}, "are not 4 finite numbers over 0"),
        ("bsp", "shuffled", {"shares": "abc"}, "ValueError|could not convert"),
        ("bsp", "iid", {"shares": [1, 2, 3, 4]}, "the data stay on the workers, .* use --partition shuffled"),
        ("bsp", "shuffled", 7, "TypeError: 'int' object is not iterable"),
    ],
)
def test_a_controller_that_wants_nonsense_ends_the_run(consistency, partition, settings, words):
    controller = settings if callable(settings) else at(1, settings)
    with pytest.raises(ControllerError, match=words) as error:
        run(SERVER + consistency, controller, partition=partition)
    assert "\n" not in str(error.value) and "step 1: " in str(error.value) and error.value.code == 70


@pytest.mark.parametrize(
    "algorithm, controller, partition, words",
    [
        (
            "data-parallel",
            "balance",
            "shuffled",
            "data-parallel has no settings that change; it is for parameter-server",
        ),
        ("easgd", "step-size", "shuffled", "easgd has no settings that change"),
        (SERVER + "asp", "bound", "shuffled", "only consistency=ssp and sampled have a bound="),
        (SERVER + "bsp", "balance", "iid", "the data stay on the workers"),
        (SERVER + "bsp", "ballance", "shuffled", "did you mean 'balance'"),
        (SERVER + "bsp", "balance:clocks=0", "shuffled", "clocks=0 must be at least 1"),
        (SERVER + "bsp", "balance:deadband=nan", "shuffled", "deadband=nan must be at least 0"),
        ("dsgd", lambda records: None, "shuffled", "dsgd has no settings that change"),
    ],
)
def test_a_controller_that_has_nothing_to_set_is_refused(algorithm, controller, partition, words):
    with pytest.raises(UsageError, match=words):
        run(algorithm, controller, partition=partition)


# --- what the controllers do


def record(step, loss=1.0, waited=0.0, bound=4, staleness=0.0, samples=(10, 10), seconds=(1.0, 1.0)):
    numbers = dict(step=step, loss=loss, bound=bound, staleness=staleness, shares=np.array([0.5, 0.5]))
    return numbers | {"waited": np.full(2, waited), "samples": np.array(samples), "seconds": np.array(seconds)}


def test_balance_goes_by_the_samples_a_second():
    assert np.allclose(balance()([record(1, seconds=(1, 4))])["shares"], [0.8, 0.2])
    assert balance()([record(1, seconds=(1, 1.04))]) == {}, "within the dead band"
    assert balance(deadband=0)([record(1, seconds=(1, 1.04))]) != {}
    assert balance()([record(1, seconds=(1, 0))]) == {}, "who has pushed nothing keeps its share"
    assert np.allclose(balance()([record(1, samples=(10, 0))])["shares"], [10 / 11, 1 / 11])


def test_the_bound_follows_loss_and_waiting():
    control, worse = bound(clocks=1), [record(1), record(2, loss=1.1, waited=9)]
    assert control(worse) == {"bound": 2}, "half"
    assert control([record(1), record(2, loss=0.9, waited=9)]) == {"bound": 5}
    assert control([record(1), record(2, loss=0.9, waited=0.1)]) == {}
    assert control([record(1)]) == {}, "nothing to compare with"
    assert bound(clocks=1, most=4)([record(1), record(2, loss=0.9, waited=9)]) == {"bound": 4}


def test_the_step_size_is_divided_by_the_mean_staleness():
    control = step_size(clocks=2)
    assert control([record(1, staleness=2), record(2, staleness=4)]) == {"lr": 1 / 3}
    assert control([record(1, staleness=0.5), record(2, staleness=0)]) == {"lr": 1.0}
    assert control([record(1, staleness=9)]) == {}, "not yet"


def test_the_bound_settles_within_one_of_the_best_fixed_one():
    """16 workers with exponential times, an update a clock; `python -m benchmarks controllers` has more of the sweep."""
    seeds, lr = range(2), 1.0
    fixed = {b: mean(reached(trained(lr, b, seed, 90)) for seed in seeds) for b in (0, 1, 2, 3)}
    runs = [trained(lr, 1, seed, 90, bound()) for seed in seeds]
    assert abs(median(map(settled, runs)) - min(fixed, key=fixed.get)) <= 1
    assert fixed[3] > 1.3 * min(fixed.values()), "it matters"
    blind = [trained(lr, 1, seed, 90, lambda records: bound()([r | {"loss": 0} for r in records])) for seed in seeds]
    assert median(map(settled, blind)) > 2, "one that does not look at the loss goes too far"


# --- under MPI


def test_a_controller_and_its_replays_under_mpi(tmp_path):
    """A slow rank of a real run gets less to do; its log in the simulator, and a simulated log under MPI, have the same bits."""
    work = DATA | dict(
        data="teacher:samples=2500,features=100,hidden=8,classes=3", batch_size=1000, hidden="256", steps=8
    )
    asp = dict(algorithm=SERVER + "asp", controller="balance", **SLOW)
    simulated = run(**work | asp, output=str(tmp_path / "simulated"))
    assert changes(simulated)
    live = work | dict(
        faults="slow:rank=4,x=8", algorithm=SERVER + "bsp", controller="balance", output=str(tmp_path / "live")
    )
    slow, forced = table(5, [live, dict(replay=str(tmp_path / "simulated"))])
    samples = [count for _, count in slow["shares"]]
    assert sum(samples) == 8 * 1000 and samples[3] < 0.6 * mean(samples[:3]), samples
    assert forced["hash"] == simulated.summary["params_sha256"]
    assert dsgd.run(replay=str(tmp_path / "live")).summary["params_sha256"] == slow["hash"]
