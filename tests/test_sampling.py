"""Batches: every sample once an epoch; batch t depends on (seed, t); the workers' parts are cuts of it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dsgd.sampling import Shuffled

sizes = st.tuples(st.integers(1, 200), st.integers(1, 250), st.integers(0, 2**32))  # n, batch, seed
workers = st.integers(1, 12)
epochs = st.integers(0, 3)


def sampler(size, workers=1):
    n, batch, seed = size
    return Shuffled(n=n, batch=batch, seed=seed, workers=workers)


def steps(shuffled, epoch):
    return range(epoch * shuffled.steps_per_epoch, (epoch + 1) * shuffled.steps_per_epoch)


@settings(deadline=None)
@given(sizes, epochs)
def test_an_epoch_uses_every_sample_once_the_tail_too(size, epoch):
    shuffled = sampler(size)
    batches = [shuffled.rows(t) for t in steps(shuffled, epoch)]
    assert sorted(np.concatenate(batches)) == list(range(size[0]))
    assert all(len(batch) == size[1] for batch in batches[:-1]) and 1 <= len(batches[-1]) <= size[1]
    assert [shuffled.samples(t) for t in steps(shuffled, epoch)] == [len(batch) for batch in batches]


@settings(deadline=None)
@given(sizes, workers, epochs)
def test_the_workers_parts_are_the_batch_in_order_and_as_even_as_can_be(size, N, epoch):
    shuffled = sampler(size, N)
    for t in steps(shuffled, epoch):
        parts = [shuffled.rows(t, worker) for worker in range(N)]
        assert np.concatenate(parts).tolist() == shuffled.rows(t).tolist()
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1


@settings(deadline=None)
@given(sizes, workers, st.integers(0, 1000))
def test_batch_t_is_a_function_of_the_seed_and_t_and_not_of_the_workers(size, N, t):
    """Asked for in any order, by any number of workers."""
    one, many = sampler(size), sampler(size, N)
    one.rows(t + 3)
    assert many.rows(t).tolist() == one.rows(t).tolist() == sampler(size).rows(t).tolist()


def test_parts_may_be_uneven_or_empty():
    shuffled = sampler((10, 4, 0), workers=3)
    assert [[len(shuffled.rows(t, worker)) for worker in range(3)] for t in range(3)] == [
        [1, 1, 2],
        [1, 1, 2],
        [0, 1, 1],
    ]
    assert [len(sampler((2, 2, 0), workers=5).rows(0, worker)) for worker in range(5)] == [0, 0, 1, 0, 1]


def test_epochs_and_seeds_are_shuffled_differently():
    orders = [sampler((100, 100, seed)).rows(t).tolist() for seed in (0, 1) for t in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4 and list(range(100)) not in orders


def test_workers_may_be_in_different_epochs():
    """Asynchronous workers ask for old and new batches in turn."""
    shuffled, expected = sampler((20, 5, 0)), [sampler((20, 5, 0)).rows(t).tolist() for t in range(24)]
    for t in (0, 20, 4, 23, 8, 1, 16):
        assert shuffled.rows(t).tolist() == expected[t]
