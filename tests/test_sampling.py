"""Batches: every sample once an epoch, under every partition; parts are cuts of batch t, empty ones too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsgd.errors import UsageError
from dsgd.sampling import Batch, Sharded, Shuffled, make_sampler

sizes = st.tuples(st.integers(1, 200), st.integers(1, 250), st.integers(0, 2**32))  # n, batch, seed
workers = st.integers(1, 12)
epochs = st.integers(0, 3)
SHARDS = ["iid", "contiguous", "by-label", "dirichlet", "dirichlet:alpha=0.05", "dirichlet:alpha=50"]


def shuffled(size, workers=1):
    n, batch, seed = size
    return Shuffled(n=n, batch=batch, seed=seed, workers=workers)


def classes(n, C=5):
    """Labels (n,), not sorted, every class there if n allows."""
    return np.random.default_rng(n).permutation(np.arange(n) % C)


def shards(spec, n, workers, seed=0, labels=None):
    """The shards of a partition: sample numbers of each worker."""
    labels = classes(n) if labels is None else labels
    return make_sampler(spec, labels=labels, n=n, batch=n, seed=seed, workers=workers).shards


def sampler(spec, size, workers):
    """Of any partition, for workers with too few samples for the epoch's steps too."""
    n, batch, seed = size
    return (
        shuffled(size, workers)
        if spec == "shuffled"
        else Sharded(shards(spec, n, workers, seed), batch=batch, seed=seed)
    )


def steps(sampler, epoch):
    return range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)


def same(ours, theirs):
    return (ours.rows.tolist(), ours.step, ours.first) == (theirs.rows.tolist(), theirs.step, theirs.first)


def test_a_part_of_a_part_knows_its_position_in_the_global_batch():
    batch = Batch(np.arange(100, 120), step=7, first=30)
    part = batch.part(5, 15).part(2, 6)
    assert (part.rows.tolist(), part.step, part.first, len(part)) == ([107, 108, 109, 110], 7, 37, 4)
    assert len(batch) == 20 and len(batch.part(3, 3)) == 0


# --- what holds for every partition


@pytest.mark.parametrize("spec", ["shuffled", *SHARDS])
@settings(max_examples=40, deadline=None)
@given(size=sizes, N=workers, epoch=epochs)
def test_the_workers_parts_are_the_batch_in_order_and_an_epoch_uses_every_sample_once(spec, size, N, epoch):
    chosen, used = sampler(spec, size, N), []
    for t in steps(chosen, epoch):
        parts, batch = [chosen.part(t, worker) for worker in range(N)], chosen.part(t)
        assert np.concatenate([part.rows for part in parts]).tolist() == batch.rows.tolist()
        assert [part.first for part in parts] == [sum(map(len, parts[:i])) for i in range(N)] and batch.first == 0
        assert {part.step for part in (*parts, batch)} == {t}
        assert chosen.samples(t) == len(batch) == sum(map(len, parts))
        used.extend(batch.rows.tolist())
    assert sorted(used) == list(range(size[0]))


@pytest.mark.parametrize("spec", ["shuffled", *SHARDS])
@settings(max_examples=25, deadline=None)
@given(size=sizes, N=workers, asked=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 11)), max_size=12))
def test_a_part_is_a_function_of_the_seed_the_step_and_the_worker(spec, size, N, asked):
    """Asked for in any order: asynchronous workers are in different epochs, and permutations are forgotten and drawn anew."""
    used = sampler(spec, size, N)
    for t, worker in asked:
        assert same(used.part(t, worker % N), sampler(spec, size, N).part(t, worker % N))
        assert used.samples(t) == len(sampler(spec, size, N).part(t))


@pytest.mark.parametrize("spec", ["shuffled", *SHARDS])
def test_epochs_and_seeds_are_shuffled_differently(spec):
    orders = {tuple(sampler(spec, (100, 100, seed), 1).part(t).rows) for seed in (0, 1) for t in (0, 1)}
    assert len(orders) == 4 and tuple(range(100)) not in orders


# --- shuffled


@settings(deadline=None)
@given(sizes, epochs)
def test_batches_are_full_but_for_the_last_of_an_epoch(size, epoch):
    chosen = shuffled(size)
    lengths = [chosen.samples(t) for t in steps(chosen, epoch)]
    assert set(lengths[:-1]) <= {size[1]} and 1 <= lengths[-1] <= size[1]


@settings(deadline=None)
@given(sizes, workers, st.integers(0, 1000))
def test_batch_t_of_shuffled_does_not_depend_on_the_workers_whose_parts_are_as_even_as_can_be(size, N, t):
    chosen = shuffled(size, N)
    assert same(chosen.part(t), shuffled(size).part(t))
    lengths = [len(chosen.part(t, worker)) for worker in range(N)]
    assert max(lengths) - min(lengths) <= 1


def test_ordered_batches_follow_the_data():
    sampler = make_sampler("ordered", labels=None, n=7, batch=3, seed=0, workers=2)
    assert [sampler.part(t).rows.tolist() for t in range(4)] == [[0, 1, 2], [3, 4, 5], [6], [0, 1, 2]]
    assert [sampler.part(1, worker).rows.tolist() for worker in range(2)] == [[3], [4, 5]] and sampler.splits


def test_parts_may_be_uneven_or_empty():
    chosen = shuffled((10, 4, 0), workers=3)
    lengths = [[len(chosen.part(t, worker)) for worker in range(3)] for t in range(3)]
    assert lengths == [[1, 1, 2], [1, 1, 2], [0, 1, 1]]
    assert [len(shuffled((2, 2, 0), workers=5).part(0, worker)) for worker in range(5)] == [0, 0, 1, 0, 1]


# --- shards


@pytest.mark.parametrize("spec", SHARDS)
@settings(max_examples=25, deadline=None)
@given(size=sizes, N=workers, epoch=epochs)
def test_a_worker_keeps_its_shard_and_all_shards_end_together(spec, size, N, epoch):
    chosen = sampler(spec, size, N)
    S = chosen.steps_per_epoch
    assert S == -(-size[0] // size[1])
    for worker, shard in enumerate(chosen.shards):
        parts = [chosen.part(t, worker).rows for t in steps(chosen, epoch)]
        assert sorted(np.concatenate(parts).tolist()) == sorted(shard.tolist())
        done = np.cumsum([len(part) for part in parts])
        assert done.tolist() == [len(shard) * (j + 1) // S for j in range(S)]


@pytest.mark.parametrize("spec", ["iid", "contiguous", "by-label"])
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 100), N=st.integers(1, 130))
def test_shards_are_as_even_as_can_be_and_empty_only_for_more_workers_than_samples(spec, n, N):
    lengths = [len(shard) for shard in shards(spec, n, N)]
    assert sum(lengths) == n and max(lengths) - min(lengths) <= 1


def test_empty_shards_give_empty_parts_at_the_right_position():
    chosen = Sharded([np.array([], int), np.arange(5), np.array([], int), np.arange(5, 8)], batch=3, seed=0)
    for t in range(6):
        first = [chosen.part(t, worker).first for worker in range(4)]
        m = len(chosen.part(t, 1))
        assert first == [0, 0, m, m] and len(chosen.part(t, 0)) == len(chosen.part(t, 2)) == 0


def test_contiguous_keeps_the_order_of_the_data_and_iid_and_dirichlet_do_not():
    assert [shard.tolist() for shard in shards("contiguous", 7, 3)] == [[0, 1], [2, 3], [4, 5, 6]]
    for spec in ("iid", "dirichlet:alpha=100"):
        one, other = (shards(spec, 100, 4, seed, np.zeros(100, int)) for seed in (0, 1))
        assert all((np.diff(shard) < 0).any() for shard in one) and one[0].tolist() != other[0].tolist()


@pytest.mark.parametrize("N", [2, 5, 10, 20])
def test_by_label_gives_a_worker_few_classes_and_iid_nearly_all(N):
    labels = classes(1000, 10)
    few = [len(np.unique(labels[shard])) for shard in shards("by-label", 1000, N, labels=labels)]
    assert max(few) == -(-10 // N)
    assert min(len(np.unique(labels[shard])) for shard in shards("iid", 1000, N, labels=labels)) >= 8


def unevenness(alpha, N=8, n=2000):
    """Mean over the classes of the largest part of a class that one worker has, from 1/N to 1, over three seeds."""
    labels, found = classes(n, 10), []
    for seed in range(3):
        counts = [
            np.bincount(labels[shard], minlength=10) for shard in shards(f"dirichlet:alpha={alpha}", n, N, seed, labels)
        ]
        found.append(np.mean(np.max(counts, axis=0) / np.sum(counts, axis=0)))
    return np.mean(found)


def test_the_smaller_alpha_the_more_uneven():
    found = [unevenness(alpha) for alpha in (1e-320, 0.01, 0.1, 1, 10, 1e9)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 1 and found[1] > 0.9 and 0.3 < found[3] < 0.45
    assert found[-1] == 1 / 8  # 25 of the 200 samples of a class


def test_the_mean_of_dirichlets_proportions_is_even_and_their_variance_is_alphas():
    """Var p_i = (1/N)(1 − 1/N)/(N α + 1), over 400 draws."""
    N, n, alpha = 4, 1000, 0.5
    parts = [
        [len(shard) / n for shard in shards(f"dirichlet:alpha={alpha}", n, N, seed, np.zeros(n, int))]
        for seed in range(400)
    ]
    variance = (1 / N) * (1 - 1 / N) / (N * alpha + 1)
    np.testing.assert_allclose(np.mean(parts, axis=0), 1 / N, atol=4 * (variance / 400) ** 0.5)
    np.testing.assert_allclose(np.var(parts, axis=0), variance, rtol=0.25)


def test_classes_may_be_any_numbers_and_one_of_a_kind():
    labels = np.array([7, -3, 7, 100, 7, 7])
    for spec in SHARDS:
        assert sorted(np.concatenate(shards(spec, 6, 4, labels=labels)).tolist()) == list(range(6))


# --- what is refused


@pytest.mark.parametrize("spec", ["by-label", "dirichlet"])
def test_a_partition_by_classes_refuses_a_regression(spec):
    with pytest.raises(UsageError, match=f"--partition {spec} needs classes.*iid and contiguous"):
        make_sampler(spec, labels=None, n=10, batch=5, seed=0, workers=2)


@pytest.mark.parametrize("spec", ["shuffled", "iid", "contiguous"])
def test_the_other_partitions_need_no_classes(spec):
    chosen = make_sampler(spec, labels=None, n=10, batch=5, seed=0, workers=2)
    assert chosen.samples(0) + chosen.samples(1) == 10


@pytest.mark.parametrize("alpha", ["0", "-1", "nan", "inf", "1e300"])
def test_an_alpha_that_is_no_concentration_is_refused(alpha):
    with pytest.raises(UsageError, match="dirichlet:alpha="):
        shards(f"dirichlet:alpha={alpha}", 10, 2)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("dirichlt", "unknown partition 'dirichlt'; did you mean 'dirichlet'"),
        ("iid:alpha=1", "'iid' has no option 'alpha'; it has none"),
        ("dirichlet:alpha=much", "dirichlet:alpha=much is not a number"),
    ],
)
def test_a_wrong_partition_is_refused_in_words(spec, message):
    with pytest.raises(UsageError, match=message):
        shards(spec, 10, 2)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SHARDS), st.integers(1, 60), st.integers(1, 70), st.integers(1, 70))
def test_steps_without_a_sample_are_refused_and_only_those(spec, n, batch, N):
    """m is 1/scale.  The batch size that the message names is the smallest one that mends it."""
    labels, whole = classes(n), sampler(spec, (n, batch, 0), N)
    void = any(whole.samples(t) == 0 for t in steps(whole, 0))

    def made(batch):
        return make_sampler(spec, labels=labels, n=n, batch=batch, seed=0, workers=N)

    if not void:
        assert same(made(batch).part(1, 0), whole.part(1, 0))
        return
    with pytest.raises(UsageError, match="some steps would have none") as refused:
        made(batch)
    enough = int(str(refused.value).split("--batch-size ")[1].split()[0])
    assert all(made(enough).samples(t) for t in range(2 * n))
    with pytest.raises(UsageError):
        made(enough - 1)
