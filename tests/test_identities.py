"""What the algorithms compute, against each other: on N workers all of them follow sgd on one."""

from functools import cache

import numpy as np
import pytest

import dsgd
import probes
from dsgd.algorithms import ALGORITHMS
from dsgd.local import Local
from dsgd.sampling import Shuffled, make_sampler

# 242 training samples in batches of 30: no batch divides by 4 or 7, and the last of an epoch has 2 samples for all workers.
DATA = dict(data="teacher:samples=302,features=12,hidden=8,classes=4", batch_size=30, hidden="16,8", dtype="float64")
# 884 parameters are four blocks of keys, so that parameter-server may have three servers.
WIDE = DATA | dict(hidden="40,8")
STEPS = 200
OPTIMIZERS = ("sgd", "sgd:momentum=0.9", "adam", "lamb")
SIZES = range(1, 8)


@pytest.fixture(autouse=True)
def with_probes(monkeypatch):
    for name, algorithm in probes.ALGORITHMS.items():
        monkeypatch.setitem(ALGORITHMS, name, algorithm)


@cache
def trained(algorithm, ranks, steps=STEPS, optimizer="sgd:momentum=0.9", **more):
    return dsgd.run(**DATA, algorithm=algorithm, simulate=ranks, steps=steps, optimizer=optimizer, **more)


def same_bits(*results):
    return len({result.summary["params_sha256"] for result in results}) == 1


def distance(result, reference):
    return np.linalg.norm(result.params - reference.params) / np.linalg.norm(reference.params)


# name of the test -> (algorithm, ranks for N workers)
DISTRIBUTED = {
    "data-parallel": ("data-parallel", lambda n: n),
    "overlapped": ("overlapped:bucket=500", lambda n: n),
    "sharded-update": ("sharded-update", lambda n: n),
    "dsgd": ("dsgd", lambda n: n),
    "groups of 2": ("grouped", lambda n: n + 1),
    "groups of 3": ("grouped:size=3", lambda n: n + 1),
    "one server": ("parameter-server", lambda n: n + 1),
    "two servers": ("parameter-server:servers=2", lambda n: n + 2),
}


@pytest.mark.identity("data-parallel")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("workers", SIZES)
@pytest.mark.parametrize("name", DISTRIBUTED)
def test_n_workers_follow_one(name, workers, optimizer):
    algorithm, ranks = DISTRIBUTED[name]
    for steps, bound in ((1, 1e-12), (STEPS, 1e-10)):
        result = trained(algorithm, ranks(workers), steps, optimizer)
        reference = trained("sgd", 1, steps, optimizer)
        assert result.summary["workers"] == workers
        assert distance(result, reference) <= bound


@pytest.mark.identity("sharded-update")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("workers", (*SIZES, 40))  # 40: more workers than there are blocks to share out
def test_sharded_update_is_data_parallel(workers, optimizer):
    flags = DATA | dict(optimizer=optimizer, clip_norm=0.05, simulate=workers, steps=50)
    shared = dsgd.run(**flags, algorithm="sharded-update")
    apart = dsgd.run(**flags, algorithm="sharded-update", world={"check": True})  # every rank has an x of its own
    assert same_bits(dsgd.run(**flags, algorithm="data-parallel"), shared, apart)


@pytest.mark.parametrize("optimizer", ["adagrad", "rmsprop", "adamw", "lars", "sgd:momentum=0.9,nesterov=true"])
@pytest.mark.parametrize("name", DISTRIBUTED)
def test_n_workers_follow_one_whatever_the_optimizer(name, optimizer):
    algorithm, ranks = DISTRIBUTED[name]
    assert distance(trained(algorithm, ranks(7), STEPS, optimizer), trained("sgd", 1, STEPS, optimizer)) <= 1e-10


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_reference_learns(optimizer):
    """Following it means something: it moves, and its training loss falls."""
    result = trained("sgd", 1, STEPS, optimizer)
    losses = [row["train_loss"] for row in result.records]
    assert len(losses) > 20 and losses[-1] < 0.8 * losses[0]
    assert distance(trained("sgd", 1, 1, optimizer), result) > 0.1


@pytest.mark.identity("dsgd")
@pytest.mark.parametrize("workers", SIZES)
def test_a_server_changes_no_bit(workers):
    reference = trained("data-parallel", workers)
    assert same_bits(
        reference,
        trained("dsgd", workers),
        trained("parameter-server", workers + 1),
        trained("parameter-server:servers=2", workers + 2),
    )


@pytest.mark.identity("grouped")
@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("workers", SIZES)
def test_groups_of_a_power_of_two_change_no_bit(workers, size):
    """Each group is a node of the written tree, the last and smaller one too."""
    assert same_bits(trained("data-parallel", workers), trained(f"grouped:size={size}", workers + 1))


def test_groups_of_three_change_the_order_of_the_sum():
    assert not same_bits(trained("data-parallel", 7), trained("grouped:size=3", 8))


# name of the test -> flags that need norms over all of x, random masks, or the parameters beside the gradient
WHOLE = {
    "clipping": dict(clip_norm=0.05),
    "lars": dict(optimizer="lars:weight_decay=0.01"),
    "lamb": dict(optimizer="lamb:weight_decay=0.01", clip_norm=0.05),
    "all of it": dict(
        optimizer="adamw",
        clip_norm=0.05,
        dropout=0.3,
        activation="gelu",
        l1=1e-3,
        l2=1e-2,
        schedule="cosine",
        warmup_steps=5,
    ),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("servers", [1, 2, 3])
def test_what_looks_at_the_whole_gradient_is_the_same_on_any_number_of_servers(servers, name):
    flags = WIDE | dict(steps=30, log_every=1) | WHOLE[name]
    reference = dsgd.run(**flags, algorithm="data-parallel", simulate=5)
    result = dsgd.run(**flags, algorithm=f"parameter-server:servers={servers}", simulate=5 + servers)
    assert same_bits(reference, result)
    norms = [row["gradient_norm"] for row in reference.records]
    assert norms == pytest.approx([row["gradient_norm"] for row in result.records], rel=1e-12)
    assert len(norms) == 30 and min(norms) > WHOLE[name].get("clip_norm", 0)  # clipping was active in every step


@pytest.mark.parametrize("name", WHOLE)
def test_what_looks_at_the_whole_gradient_is_sgd_on_split_layers_and_follows_it_on_workers(name):
    flags = WIDE | dict(steps=30) | WHOLE[name]
    reference = dsgd.run(**flags, algorithm="sgd")
    assert same_bits(reference, dsgd.run(**flags, algorithm="model-parallel", simulate=3))
    assert same_bits(reference, dsgd.run(**flags, algorithm="data-parallel", simulate=1))
    for algorithm, ranks in (("data-parallel", 5), ("dsgd", 3), ("grouped:size=3", 8)):
        assert distance(dsgd.run(**flags, algorithm=algorithm, simulate=ranks), reference) <= 1e-10
    plain = dsgd.run(**WIDE, steps=30, algorithm="sgd")
    assert distance(plain, reference) > 1e-3


def test_a_norm_of_each_servers_own_range_is_seen(monkeypatch):
    """Clipping per shard, the classic mistake, gives other bits."""
    flags = WIDE | dict(steps=30, clip_norm=0.05)
    reference = dsgd.run(**flags, algorithm="data-parallel", simulate=5)
    monkeypatch.setattr("dsgd.norms.Norms.whole", lambda self, sums, among=None: sums)
    mutant = dsgd.run(**flags, algorithm="parameter-server:servers=2", simulate=7)
    assert distance(mutant, reference) > 1e-3


@pytest.mark.parametrize("partition", ["iid", "contiguous", "by-label", "dirichlet:alpha=0.1"])
@pytest.mark.parametrize("workers", [2, 3, 7])
def test_shards_follow_sgd_that_is_fed_their_union(workers, partition, monkeypatch):
    flags = DATA | dict(partition=partition, steps=60, dropout=0.2)
    results = [
        dsgd.run(**flags, algorithm=algorithm, simulate=ranks(workers)) for algorithm, ranks in DISTRIBUTED.values()
    ]
    monkeypatch.setattr(
        "dsgd.prepare.make_sampler", lambda spec, **values: Union(spec, **values | {"workers": workers})
    )
    reference = dsgd.run(**flags, algorithm="sgd")
    assert reference.records[-1]["samples"] == results[0].records[-1]["samples"]
    assert all(distance(result, reference) <= 1e-10 for result in results)
    assert distance(trained("sgd", 1, 60), reference) > 1e-3  # other batches than shuffled ones


class Union:
    """Gives its one worker what `workers` workers have together."""

    def __init__(self, spec, **values):
        self.sampler = make_sampler(spec, **values)
        self.steps_per_epoch = self.sampler.steps_per_epoch

    def samples(self, t):
        return self.sampler.samples(t)

    def part(self, t, worker=None, shares=None):
        return self.sampler.part(t)


@pytest.mark.identity("parameter-server")
@pytest.mark.parametrize("servers", [1, 2, 3])
def test_any_number_of_servers_changes_no_bit(servers):
    reference = dsgd.run(**WIDE, algorithm="data-parallel", simulate=5, steps=30)
    result = dsgd.run(**WIDE, algorithm=f"parameter-server:servers={servers}", simulate=5 + servers, steps=30)
    assert reference.params.size == 884
    assert same_bits(reference, result)


def test_the_number_of_workers_changes_bits():
    """Otherwise the equalities above would be about nothing."""
    assert not same_bits(trained("data-parallel", 2), trained("data-parallel", 3))


@pytest.mark.identity("data-parallel")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_data_parallel_on_one_rank_is_sgd(optimizer):
    assert same_bits(trained("data-parallel", 1, optimizer=optimizer), trained("sgd", 1, optimizer=optimizer))


@pytest.mark.identity("model-parallel")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_model_parallel_is_sgd(ranks, optimizer):
    assert same_bits(trained("model-parallel", ranks, optimizer=optimizer), trained("sgd", 1, optimizer=optimizer))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_model_parallel_is_sgd_on_digits(ranks):
    """The network of the README, 64-64-32-10 in float32."""
    digits = dict(data="digits", hidden="64,32", dtype="float32", steps=60)
    assert same_bits(
        dsgd.run(algorithm="model-parallel", simulate=ranks, **digits), dsgd.run(algorithm="sgd", **digits)
    )


@pytest.mark.identity("parameter-server")
@pytest.mark.parametrize("servers", [1, 2])
def test_asynchronous_with_one_worker_is_sgd(servers):
    for algorithm in (f"parameter-server:servers={servers},consistency=asp", f"downpour:servers={servers}"):
        assert same_bits(trained(algorithm, servers + 1), trained("sgd", 1))


@pytest.mark.parametrize("servers", [1, 2])
def test_an_asynchronous_worker_clips_its_push(servers):
    """Before it is cut into key ranges."""
    asp = f"parameter-server:servers={servers},consistency=asp"
    flags = WIDE | dict(steps=30, clip_norm=0.05, dropout=0.2, l2=0.01)
    assert same_bits(dsgd.run(**flags, algorithm=asp, simulate=servers + 1), dsgd.run(**flags, algorithm="sgd"))


def test_a_worker_that_is_a_server_clips_its_push_whole(tmp_path):
    """And not by the norm of the key range that it serves."""
    flags = WIDE | dict(steps=30, clip_norm=0.05, no_plot=True)
    for algorithm in ("parameter-server:consistency=asp", "downpour:push=2,fetch=2", "easgd"):
        run = str(tmp_path / algorithm[:4])
        apart = dsgd.run(**flags, algorithm=algorithm, simulate=4, output=run)
        places = ",colocated=true" if ":" in algorithm else ":colocated=true"
        assert same_bits(apart, dsgd.run(replay=run, algorithm=algorithm + places, simulate=3))


def test_asynchronous_with_several_workers_is_not_bsp():
    asp, bsp = (
        trained("parameter-server:consistency=asp", 5, optimizer="sgd"),
        trained("parameter-server", 5, optimizer="sgd"),
    )
    assert distance(asp, bsp) > 1e-3
    assert asp.summary["train_loss"] < asp.records[0]["train_loss"]


# --- probes


@pytest.mark.parametrize("probe", ["local-sgd", "gossip"])
def test_an_averaging_probe_on_one_rank_is_sgd(probe):
    """It averages one vector: sgd without momentum, up to the rounding of (x + x + x) / 3."""
    assert distance(trained(probe, 1, 1, "sgd"), trained("sgd", 1, 1, "sgd")) <= 1e-12
    assert distance(trained(probe, 1, STEPS, "sgd"), trained("sgd", 1, STEPS, "sgd")) <= 1e-12


@pytest.mark.parametrize("probe", ["local-sgd", "gossip"])
def test_an_averaging_probe_on_several_ranks_is_not(probe):
    assert distance(trained(probe, 3, STEPS, "sgd"), trained("sgd", 1, STEPS, "sgd")) > 1e-6


@pytest.mark.parametrize("ranks", [1, 2, 5, 7])
def test_top_k_of_everything_is_data_parallel(ranks):
    assert same_bits(trained("top-k:ratio=1", ranks), trained("data-parallel", ranks))
    assert not same_bits(trained("top-k:ratio=0.5", ranks), trained("data-parallel", ranks))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_pipeline_of_one_part_is_model_parallel(ranks):
    assert same_bits(trained("pipeline:parts=1", ranks), trained("model-parallel", ranks))
    assert 0 < distance(trained("pipeline:parts=3", ranks), trained("model-parallel", ranks)) < 1e-10


# --- mutant: the mean of the workers' means


def uneven(self, t, worker=None, shares=None):
    """Parts of 1, 5 and 58 samples of every batch of 64."""
    batch = whole(self, t)
    return batch if worker is None else batch.part([0, 1, 6][worker], [1, 6, 64][worker])


whole = Shuffled.part
gradient = Local.gradient


def mean_of_means(self, x, t, scale, **options):
    """Every worker divides by its own samples, and the server by the number of workers."""
    return gradient(self, x, t, scale=1 / (self.share(t) * len(self.comm.workers)), **options)


@pytest.mark.parametrize("steps, bound", [(1, 1e-12), (20, 1e-10)])
@pytest.mark.parametrize("algorithm, ranks", [("data-parallel", 3), ("dsgd", 3), ("parameter-server", 4)])
def test_a_mean_of_means_misses_the_bound(algorithm, ranks, steps, bound, monkeypatch):
    batches = DATA | dict(
        data="teacher:samples=320,features=12,hidden=8,classes=4", batch_size=64, steps=steps
    )  # 4 × 64 samples
    reference = dsgd.run(algorithm="sgd", **batches)
    monkeypatch.setattr(Shuffled, "part", uneven)
    right = dsgd.run(algorithm=algorithm, simulate=ranks, **batches)
    monkeypatch.setattr(Local, "gradient", mean_of_means)
    wrong = dsgd.run(algorithm=algorithm, simulate=ranks, **batches)
    assert [worker["samples"] for worker in wrong.summary["samples_per_worker"]] == [steps, 5 * steps, 58 * steps]
    assert distance(right, reference) <= bound
    assert distance(wrong, reference) > 1e6 * bound
