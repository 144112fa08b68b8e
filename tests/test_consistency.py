"""The parameter server's consistency models against each other: where one is another, it is so to the bit."""

from itertools import permutations

import numpy as np
import pytest

import dsgd
from clocks import drawn, exponential
from dsgd.algorithms.consistency import MODELS, choose_model, ssp
from dsgd.algorithms.server import Server
from launching import table

# 242 training samples in batches of 30: the last batch of an epoch, the ninth, has 2 samples for all workers.
# 2984 parameters are twelve blocks of keys, enough for seven workers that serve.
DATA = dict(
    data="teacher:samples=302,features=12,hidden=8,classes=4", batch_size=30, hidden="100,16", dtype="float64", steps=11
)
FLAGS = [
    dict(optimizer="sgd:momentum=0.9", dropout=0.3),
    dict(optimizer="adam", clip_norm=0.05),
    dict(optimizer="lamb:weight_decay=0.01", clip_norm=0.05, dropout=0.2),
    dict(optimizer="sgd", partition="dirichlet:alpha=0.1", l2=1e-2),
]
PLACES = ("servers=1", "servers=2", "servers=3", "colocated=true")
STEPS = 11


def bulk(workers):
    """Every model in its case that is bsp."""
    return [
        "bsp",
        "ssp,bound=0,apply=clock",
        f"k-sync,k={workers}",
        "backup,b=0",
        "backup,b=0,cancel=true",
    ]


def free(workers, bound=STEPS * 7):
    """Every model in its case that is asp."""
    return [
        "asp",
        f"ssp,bound={bound}",
        "k-async,k=1",
        f"softsync,n={workers}",
        "sampled,sample=0,bound=0",
        f"sampled,sample={workers - 1},bound={bound}",
    ]


def size(place, workers):
    """Ranks for so many workers."""
    return workers if "colocated" in place else workers + int(place[-1])


def server(consistency, workers, place="servers=1", seed=1, **flags):
    """A run of the parameter server, on workers whose gradients take random times."""
    world = exponential(seed, mean=1e-4, latency=2e-5, bandwidth=1.25e9)
    algorithm = f"parameter-server:{place},consistency={consistency}"
    return dsgd.run(**DATA | dict(world=world) | flags, algorithm=algorithm, simulate=size(place, workers))


def possible(model, place):
    return not ("cancel" in model and "colocated" in place)  # a server must not be interrupted


def bits(result):
    return result.summary["params_sha256"]


def distance(result, reference):
    return np.linalg.norm(result.params - reference.params) / np.linalg.norm(reference.params)


# --- what is bsp


@pytest.mark.identity("bsp", "ssp", "backup", "k-sync")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 7])
def test_every_model_that_waits_for_all_is_data_parallel(workers, place):
    flags = FLAGS[(workers + PLACES.index(place)) % (len(FLAGS) if workers > 1 else 2)]
    reference = dsgd.run(**DATA | flags, algorithm="data-parallel", simulate=workers)
    hashes = {
        model: bits(server(model, workers, place, seed, **flags))
        for seed, model in enumerate(bulk(workers))
        if possible(model, place)
    }
    assert set(hashes.values()) == {bits(reference)}, hashes


@pytest.mark.parametrize("flags", FLAGS)
def test_data_parallel_of_each_kind_on_three_workers(flags):
    reference = dsgd.run(**DATA | flags, algorithm="data-parallel", simulate=3)
    assert {bits(server(model, 3, "servers=2", **flags)) for model in bulk(3)} == {bits(reference)}


@pytest.mark.parametrize("model", ["ssp,bound=1,apply=clock", "k-sync,k=2", "backup,b=1", "backup,b=1,cancel=true"])
def test_one_notch_further_is_not_bsp(model):
    """Otherwise the equalities above would be about nothing."""
    flags = FLAGS[0]
    assert distance(server(model, 3, **flags), server("bsp", 3, **flags)) > 1e-3


def rows(ranks):
    """The configurations of so many ranks whose bits cannot depend on who comes first."""
    for place in PLACES:
        workers = ranks if "colocated" in place else ranks - int(place[-1])
        for i, model in enumerate(bulk(workers) if workers > 0 else []):
            if possible(model, place) and "cancel" not in model:  # under MPI nobody abandons a gradient
                yield DATA | FLAGS[i % 2] | dict(algorithm=f"parameter-server:{place},consistency={model}"), workers
        if workers == 1 and "colocated" not in place:
            for model in free(1):
                yield DATA | dict(algorithm=f"parameter-server:{place},consistency={model}"), 1


@pytest.mark.parametrize("ranks", [3, 5])
def test_under_mpi_too(ranks):
    configurations = list(rows(ranks))
    outcomes = table(ranks, [row for row, _ in configurations])
    references = {}
    for (row, workers), outcome in zip(configurations, outcomes, strict=True):
        key = workers, row.get("optimizer")
        if key not in references:
            references[key] = bits(dsgd.run(**row | dict(algorithm="data-parallel", simulate=workers)))
        assert outcome["hash"] == references[key], row
    assert len(set(references.values())) == len(references) > 3


# --- what is asp, under one order of events


@pytest.mark.identity("ssp", "k-async", "softsync", "sampled")
@pytest.mark.parametrize("workers, flags", list(zip([5, 2, 3, 4], FLAGS)))
def test_every_model_that_waits_for_nobody_is_asp(workers, flags):
    """The network and the times are the same, so the order is, and the log says so."""
    if flags["optimizer"].startswith("lamb"):
        place = "servers=1"  # it needs whole layers, and of a push no server sees one
    else:
        place = PLACES[workers % 4]
    asp, *others = [server(model, workers, place, **flags) for model in free(workers)]
    assert {bits(other) for other in others} == {bits(asp)}
    assert all(other.order == asp.order for other in others)
    assert asp.summary["max_staleness"] > workers - 1 or workers == 2
    assert bits(server("asp", workers, place, seed=2, **flags)) != bits(asp)  # another order, other bits


@pytest.mark.identity("sampled")
@pytest.mark.parametrize("bound", [0, 1, 3])
@pytest.mark.parametrize("workers", [2, 5])
def test_sampling_everyone_is_ssp(workers, bound):
    everyone, ssp, asp = (
        server(model, workers) for model in (f"sampled,sample={workers - 1},bound={bound}", f"ssp,bound={bound}", "asp")
    )
    assert everyone.order == ssp.order != asp.order and bits(everyone) == bits(ssp) != bits(asp)


def test_a_sample_is_between_none_and_all():
    mean = {s: server(f"sampled,sample={s},bound=0", 5, steps=40).summary["virtual_seconds"] for s in (0, 1, 2, 4)}
    assert mean[0] < mean[1] < mean[2] < mean[4]


@pytest.mark.identity("asp")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("flags", FLAGS[:2] + FLAGS[3:])
def test_one_worker_is_sgd_whatever_the_model(place, flags):
    reference = bits(dsgd.run(**DATA | flags, algorithm="sgd"))
    models = [model for model in free(1) + bulk(1) if possible(model, place)]
    assert {bits(server(model, 1, place, **flags)) for model in models} == {reference}


ASYNCHRONOUS = [
    "asp",
    "ssp,bound=1",
    "ssp,bound=2,apply=clock",
    "k-async,k=2",
    "softsync,n=2",
    "sampled,sample=1,bound=1",
    "k-sync,k=3",
    "backup,b=1",
]


@pytest.mark.parametrize("model", ASYNCHRONOUS)
def test_any_number_of_servers_follows_one_order_to_the_same_bits(model, tmp_path):
    """The order is the log's of one server; the others are faster, slower, more, and have other times."""
    flags = FLAGS[0]
    log = tmp_path / "one"
    one = server(model, 5, output=log, no_plot=True, **flags)
    for seed, place in enumerate(PLACES[1:], 5):
        other = server(model, 5, place, seed, replay=log, **flags)
        assert bits(other) == bits(one) and other.order == one.order, place
    free_running = server(model, 5, "servers=2", seed=7, **flags)
    assert free_running.order != one.order and bits(free_running) != bits(one)


# --- what is not


def test_ssp_without_slack_is_a_bsp_step_n_times_as_large_for_sgd_and_equal_parts():
    """With bound=0 nobody goes on before all pushes of a clock are in x, so all of them were computed on one version.

    Applied one by one they are x − η Σ g_i(x), where g_i is the mean over part i: to rounding the step N·η of bsp on the
    mean of the g_i, which is the gradient of the batch if the parts are equal.  A momentum, or any state that N updates
    a clock change N times, parts it from bsp; so do unequal parts, whose samples it does not weigh alike.
    """
    n, equal = 5, dict(data="teacher:samples=400,features=12,hidden=8,classes=4", batch_size=20, steps=32)

    def apart(optimizer="sgd", factor=n, **flags):
        each = server("ssp,bound=0", n, optimizer=optimizer, lr=0.01, **flags)
        return distance(each, server("bsp", n, optimizer=optimizer, lr=0.01 * factor, **flags)), each

    rounding, each = apart(**equal)
    versions = np.array([pulled for _, _, pulled, _ in filter(lambda e: isinstance(e, list), each.order)])
    assert (versions == np.arange(len(versions)) // n * n).all()
    assert 0 < rounding < 1e-13
    assert apart(**equal, factor=1)[0] > 1e-2  # the mutant: without the N
    assert apart("sgd:momentum=0.9", **equal)[0] > 1e-2
    assert apart("adam", **equal)[0] > 1e-2
    assert apart(**equal | dict(batch_size=23))[0] > 1e-4  # parts of 4, 5, 4, 5, 5 samples


@pytest.mark.identity("softsync")
def test_one_softsync_is_not_bsp_even_on_workers_of_one_speed():
    """It takes N pushes for an update as bsp does, yet nobody waits for it: worker i's next gradient is computed on the
    version that was there when its push was the i-th of the group.  Only the last one has the new version, so the mean
    staleness is (N − 1)/N, and not 0.  And of workers of several speeds two pushes of one may be in an update."""
    one_speed = drawn(lambda rank, number: 1 + 1e-9 * rank)  # nearly: the pull of one comes before the push of the next
    n, same = 5, dict(steps=40, optimizer="sgd", world=one_speed)
    softsync, bsp = server("softsync,n=1", n, **same), server("bsp", n, **same)
    assert softsync.summary["updates"] == bsp.summary["updates"] == 40
    # the pushes of the first update are all fresh
    assert softsync.summary["mean_staleness"] == pytest.approx((n - 1) / n * 39 / 40)
    assert distance(softsync, bsp) > 1e-3
    several = server("softsync,n=1", n, steps=40)
    groups = {}
    for worker, _, _, into in filter(lambda e: isinstance(e, list), several.order):
        groups.setdefault(into, []).append(worker)
    assert all(len(group) == n for group in groups.values())
    assert any(len(set(group)) < n for group in groups.values())


# --- mutants: what must turn these red does


def forget_who_comes_first(self, key, samples):
    """A server that adds pushes in the order in which they came."""
    self.group.reverse()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsgd.algorithms.server.sorted", lambda group, key: group, raising=False)
        yield from update(self, key, samples)


update = Server._update


def test_a_sum_in_the_order_of_arrival_is_seen(monkeypatch):
    reference = dsgd.run(**DATA, algorithm="data-parallel", simulate=5)
    assert bits(server("k-sync,k=5", 5)) == bits(reference)
    monkeypatch.setattr(Server, "_update", forget_who_comes_first)
    assert bits(server("k-sync,k=5", 5)) != bits(reference)


def test_k_async_of_all_is_bsp_to_rounding_for_equal_parts(monkeypatch):
    """Then the mean of the pushes is the gradient of the batch.  The mutant: their sum."""
    equal = dict(data="teacher:samples=400,features=12,hidden=8,classes=4", batch_size=20, steps=16, optimizer="sgd")
    bsp = server("bsp", 5, **equal)
    assert 0 < distance(server("k-async,k=5", 5, **equal), bsp) < 1e-13
    monkeypatch.setattr("dsgd.algorithms.server.MEAN", None)  # then an update counts as one over a whole batch
    assert distance(server("k-async,k=5", 5, **equal), bsp) > 1e-2


def test_a_server_that_lets_one_go_early_is_seen(monkeypatch):
    reference = server("bsp", 3)
    monkeypatch.setitem(MODELS, "ssp", generous)
    assert bits(server("ssp,bound=0,apply=clock", 3)) != bits(reference)


def generous(workers, *, bound: int = None, apply: str = "each"):
    return ssp(workers, bound=bound + 1, apply=apply)


@pytest.mark.parametrize("order", list(permutations(["bound", "k", "b"])))
def test_of_several_wrong_options_the_first_is_named(order):
    with pytest.raises(ValueError, match=f"^{order[0]}= belongs to"):
        choose_model("asp", 4, **dict.fromkeys(order, 1))


def test_one_push_of_a_round_is_an_average_that_servers_may_share(tmp_path):
    """The first of each round alone: an optimizer of whole layers works on any number of servers, in one order."""
    flags = dict(optimizer="lamb", steps=8)
    one = server("k-sync,k=1", 4, **flags, output=str(tmp_path / "one"), no_plot=True)
    two = dsgd.run(
        replay=str(tmp_path / "one"), algorithm="parameter-server:servers=2,consistency=k-sync,k=1", simulate=6
    )
    assert bits(one) == bits(two)
