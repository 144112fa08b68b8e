"""Norms in the written order: the same bits whoever owns which range; and clipping on top of them."""

import json
from math import sqrt

import numpy as np
import pytest
from frozen import pytorch_optimizers as frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from strict import both
from test_layers import random

from dsgd.layout import BLOCK, Layout, cut
from dsgd.norms import Norms, tree
from dsgd.optimizers import LARS, SGD
from dsgd.simulator import World
from dsgd.update import Update

LAYOUT = Layout(
    {"W": (50, 30), "b": (30,), "V": (30, 70), "c": (70,)}
)  # 3,700 elements, no border at a multiple of 256
BY_LAYERS = [(0, 1530), (1530, 3700)]
RANGES = [
    *(cut(LAYOUT.size, parts) for parts in (1, 2, 3, 5)),
    BY_LAYERS,
    [(0, 0), (0, 1530), (1530, 1530), (1530, 3700)],
]


def pairwise(numbers):
    """((0+1)+(2+3))+…, one addition at a time; an odd one is carried."""
    while len(numbers) > 1:
        pairs = [a + b for a, b in zip(numbers[::2], numbers[1::2])]
        numbers = pairs + numbers[len(pairs) * 2 :]
    return numbers[0] if numbers else 0.0


def segments_by_hand(layout):
    borders = {*range(0, layout.size, BLOCK), *layout.starts.values(), layout.size}
    return list(zip(sorted(borders), sorted(borders)[1:]))


class Owners:
    """What allgather gives to any of the owners, whose sums are known here beforehand."""

    def __init__(self, parts):
        self.parts = parts

    def allgather(self, _):
        return self.parts


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, 13, 1000])
def test_the_tree_adds_neighbours_and_carries_an_odd_one(n):
    numbers = random(n, n) * 10.0 ** random(n + 1, n)
    assert float(tree(numbers)) == pairwise(numbers.tolist())
    assert tree(np.stack([numbers, 2 * numbers])).tolist() == [
        pairwise(numbers.tolist()),
        2 * pairwise(numbers.tolist()),
    ]


def test_segments_end_at_multiples_of_256_and_at_the_borders_of_arrays():
    v = random(0, LAYOUT.size)
    sums, by_hand = Norms(LAYOUT).sums(v), segments_by_hand(LAYOUT)
    assert len(sums) == len(by_hand) == 18  # 14 blocks of 256 and the start of a last one, three borders within them
    np.testing.assert_allclose(sums, [(v[lo:hi] ** 2).sum() for lo, hi in by_hand], rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ranges", RANGES, ids=str)
def test_every_cut_into_owners_gives_the_sums_of_the_whole(ranges, dtype):
    v = random(1, LAYOUT.size).astype(dtype)
    whole = Norms(LAYOUT).sums(v)
    parts = [Norms(LAYOUT, lo, hi).sums(v[lo:hi]) for lo, hi in ranges]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    for lo, hi in ranges:
        norms = Norms(LAYOUT, lo, hi)
        assert norms.whole(norms.sums(v[lo:hi]), Owners(parts)).tobytes() == whole.tobytes()


@pytest.mark.parametrize("offset", range(9))
def test_where_a_vector_lies_in_memory_changes_no_bit(offset):
    for n in (700, 70_000):
        layout, v = Layout({"a": (n // 3,), "b": (n - n // 3,)}), random(2, n).astype("float32")
        elsewhere = np.empty(n + 9, "float32")[offset : offset + n]
        elsewhere[:] = v
        assert Norms(layout).sums(elsewhere).tobytes() == Norms(layout).sums(v).tobytes()


def test_the_norm_is_the_norm():
    v, norms = random(3, LAYOUT.size), Norms(LAYOUT)
    sums = norms.sums(v)
    assert type(norms.norm(sums)) is float
    assert norms.norm(sums) == sqrt(pairwise(sums.tolist())) == pytest.approx(np.linalg.norm(v), rel=1e-14)
    views = LAYOUT.views(v)
    assert norms.by_array(sums) == pytest.approx({name: (view**2).sum() for name, view in views.items()}, rel=1e-14)


def test_squares_of_float32_are_summed_in_float64():
    v = np.full(3 * BLOCK, 1e30, "float32")  # whose squares overflow
    assert Norms(Layout({"v": v.shape})).norm(Norms(Layout({"v": v.shape})).sums(v)) == pytest.approx(
        sqrt(3 * BLOCK) * 1e30
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([0, 1, 7, 255, 256, 257, 600]), max_size=6), st.integers(1, 4))
def test_any_layout_and_any_cut(sizes, parts):
    """Arrays without elements too, and no array at all."""
    layout = Layout({f"array {i}": (size,) for i, size in enumerate(sizes)})
    v = random(4, layout.size).astype("float32")
    norms = Norms(layout)
    sums = norms.sums(v)
    np.testing.assert_allclose(
        sums, [(v[lo:hi].astype("d") ** 2).sum() for lo, hi in segments_by_hand(layout)], rtol=1e-13
    )
    assert list(norms.by_array(sums)) == list(layout.shapes)
    ranges = cut(layout.size, parts)
    own, seen = [Norms(layout, lo, hi) for lo, hi in ranges], {}
    parts = [one.sums(v[lo:hi]) for one, (lo, hi) in zip(own, ranges)]
    assert all(one.whole(part, Owners(parts)).tobytes() == sums.tobytes() for one, part in zip(own, parts))
    for one, (lo, _) in zip(own, ranges):
        for i, part in one.pieces:
            seen.setdefault(i, []).extend(range(lo + part.start, lo + part.stop))
    assert [seen.get(i, []) for i in range(len(sizes))] == [
        list(range(start, start + size)) for start, size in zip(layout.starts.values(), sizes)
    ]


def test_a_range_that_cuts_a_segment_is_refused():
    for lo, hi in ((100, 3700), (0, 100), (256, 3701)):
        with pytest.raises(ValueError, match=f"{lo} to {hi} cuts a segment"):
            Norms(LAYOUT, lo, hi).sums(random(0, hi - lo))
    with pytest.raises(ValueError, match="the other owners' are missing"):
        norms = Norms(LAYOUT, 0, 1530)
        norms.whole(norms.sums(random(0, 1530)))


def together(ranges, work):
    """[work(rank, comm) on each rank] in a simulated world of as many owners."""
    world, found = World(len(ranges), dtype=np.float64), {}
    world.run(lambda rank: found.__setitem__(rank, work(rank, world.comm(rank))))
    return [found[rank] for rank in range(len(ranges))]


@pytest.mark.parametrize("ranges", RANGES, ids=str)
def test_owners_find_the_lengths_of_whole_arrays(ranges):
    x, g = random(5, 2, LAYOUT.size)
    expected = {i: lengths for i, (_, *lengths) in enumerate(Norms(LAYOUT).lengths(x, g))}
    assert expected[2] == pytest.approx([np.linalg.norm(LAYOUT.views(v)["V"]) for v in (x, g)], rel=1e-14)

    def work(rank, comm):
        lo, hi = ranges[rank]
        norms = Norms(LAYOUT, lo, hi)
        found = norms.lengths(x[lo:hi], g[lo:hi], among=comm)
        assert [part for part, *_ in found] == [part for _, part in norms.pieces]
        return {i: lengths for (i, _), (_, *lengths) in zip(norms.pieces, found)}

    for found in together(ranges, work):
        assert found == {i: expected[i] for i in found}


def test_sums_run_on_the_strict_array():
    norms = Norms(LAYOUT)
    for dtype in ("float32", "float64"):
        both(
            lambda v: (Norms(LAYOUT).sums(v), tree(norms.whole(Norms(LAYOUT).sums(v)))),
            random(6, LAYOUT.size).astype(dtype),
        )


# --- clipping


@pytest.mark.parametrize("clip_norm", frozen.CLIP_NORMS)
def test_clipping_is_pytorchs(clip_norm):
    norm, expected = json.loads(frozen.FILE.read_text())[f"clip {clip_norm}"]
    g, norms = frozen.gradient(frozen.start(), 5), Norms(Layout(frozen.SHAPES))
    assert norms.norm(norms.sums(g)) == pytest.approx(norm, rel=1e-14)
    np.testing.assert_allclose(Update(SGD(), norms, clip_norm).clip(g), expected, rtol=1e-14)


def test_a_gradient_within_the_norm_is_itself_and_no_gradient_is_written():
    g, norms = random(7, LAYOUT.size).astype("float32"), Norms(LAYOUT)
    g.flags.writeable = False
    assert Update(SGD(), norms).clip(g) is g
    assert Update(SGD(), norms, 1e3).clip(g) is g
    update = Update(SGD(), norms, 1.0)
    clipped = update.clip(g)
    assert clipped.dtype == np.float32
    assert norms.norm(norms.sums(clipped)) == pytest.approx(1, rel=1e-5)
    assert update.clip(g) is clipped, "the buffer is kept"
    out = g.copy()
    assert update.clip_own(out) is None
    assert out.tobytes() == clipped.tobytes()


@pytest.mark.parametrize("ranges", RANGES, ids=str)
@pytest.mark.parametrize("make", [SGD, LARS])
def test_owners_of_ranges_step_to_the_bits_of_the_whole_with_a_clip_in_every_step(ranges, make):
    x, gradients = random(8, LAYOUT.size).astype("float32"), random(9, 4, LAYOUT.size).astype("float32")
    expected, update = x.copy(), Update(make(), Norms(LAYOUT), 0.5)
    for g in gradients:
        update.step(expected, g, 0.1)

    def work(rank, comm):
        lo, hi = ranges[rank]
        mine, update = x[lo:hi].copy(), Update(make(), Norms(LAYOUT, lo, hi), 0.5)
        for g in gradients:
            update.step(mine, g[lo:hi], 0.1, comm)
        return mine

    assert np.concatenate(together(ranges, work)).tobytes() == expected.tobytes()


def test_a_watched_step_leaves_the_sums_of_the_gradient_before_the_clip():
    norms, (x, g, h) = Norms(LAYOUT), random(10, 3, LAYOUT.size)
    for clip_norm in (0.0, 0.1):
        update = Update(SGD(), norms, clip_norm)
        update.step(x, g, 0.1)
        assert update.sums is None
        update.watch = True
        update.step(x, g, 0.1)
        assert update.sums.tobytes() == norms.sums(g).tobytes()
        update.step_clipped(x, h, 0.1)
        watched = g if clip_norm else h  # what may have been clipped is not watched
        assert update.sums.tobytes() == norms.sums(watched).tobytes()
        update.watch = False
        update.step(x, h, 0.1)
        assert update.sums.tobytes() == norms.sums(watched).tobytes()


def test_what_was_clipped_is_not_clipped_again():
    x, g = random(11, 2, LAYOUT.size)
    moved = x.copy()
    Update(SGD(), Norms(LAYOUT), 0.1).step_clipped(moved, g, 0.5)
    assert moved.tobytes() == (x - 0.5 * g).tobytes()


def test_owners_talk_only_if_something_needs_a_norm():
    norms = Norms(LAYOUT)
    needs = [Update(make(), norms, clip_norm).needs_others for make in (SGD, LARS) for clip_norm in (0.0, 1.0)]
    assert needs == [False, True, True, True]


def test_the_slots_of_an_update_are_its_optimizers():
    update = Update(SGD(momentum=0.9), Norms(LAYOUT))
    update.slots = {"velocity": np.ones(LAYOUT.size)}
    update.step(x := np.zeros(LAYOUT.size), np.zeros(LAYOUT.size), 1.0)
    assert (x == -0.9).all()
    assert update.slots is update.optimizer.slots
