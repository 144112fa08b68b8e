"""The flat vector: views are windows, key ranges are cut at block borders and cover it once."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsgd.layout import BLOCK, Layout, cut
from dsgd.mlp import MLP, names

shapes = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), min_size=1, max_size=6).map(
    lambda shapes: {f"array {i}": shape for i, shape in enumerate(shapes)}
)


@settings(deadline=None)
@given(shapes)
def test_views_are_windows_one_after_the_other(shapes):
    layout = Layout(shapes)
    flat = np.arange(layout.size)
    views = layout.views(flat)
    assert {name: view.shape for name, view in views.items()} == shapes
    assert all(np.shares_memory(view, flat) for view in views.values())
    assert np.concatenate([view.reshape(-1) for view in views.values()]).tolist() == flat.tolist()


def test_writing_a_view_writes_the_vector():
    layout = Layout({"W": (2, 3), "b": (3,)})
    flat = np.zeros(layout.size)
    layout.views(flat)["b"][1] = 5
    assert flat.tolist() == [0, 0, 0, 0, 0, 0, 0, 5, 0]


@settings(deadline=None)
@given(shapes, st.data())
def test_a_range_of_arrays_has_views_into_its_own_slice(shapes, data):
    layout, all_names = Layout(shapes), list(shapes)
    first = data.draw(st.integers(0, len(all_names) - 1))
    chosen = all_names[first : data.draw(st.integers(first, len(all_names) - 1)) + 1]
    flat = np.arange(layout.size)
    lo, hi = layout.span(chosen)
    part, expected = layout.views(flat[lo:hi], chosen, offset=lo), layout.views(flat)
    assert hi - lo == sum(prod(shapes[name]) for name in chosen)
    assert list(part) == chosen and all((part[name] == expected[name]).all() for name in chosen)


@settings(deadline=None)
@given(shapes)
def test_name_at_names_the_array_of_every_element(shapes):
    layout = Layout(shapes)
    expected = [name for name, shape in shapes.items() for _ in range(prod(shape))]
    assert [layout.name_at(i) for i in range(layout.size)] == expected


def test_an_empty_array_owns_no_element():
    layout = Layout({"first": (2,), "none": (0, 4), "last": (1,)})
    assert [layout.name_at(i) for i in range(3)] == ["first", "first", "last"]


def test_the_layers_of_a_network_follow_each_other():
    layout = MLP((4, 3, 2)).layout()
    assert list(layout.shapes) == names([0, 1]) == ["layer 0 weight", "layer 0 bias", "layer 1 weight", "layer 1 bias"]
    assert layout.size == 4 * 3 + 3 + 3 * 2 + 2
    assert layout.span(names([1])) == (15, 23)


@settings(deadline=None)
@given(st.integers(0, 20000), st.integers(1, 40))
def test_key_ranges_cover_the_vector_at_block_borders(size, parts):
    ranges = cut(size, parts)
    assert len(ranges) == parts and ranges[0][0] == 0 and ranges[-1][1] == size
    assert all(before[1] == after[0] for before, after in zip(ranges, ranges[1:]))
    assert all(lo % BLOCK == 0 for lo, _ in ranges if lo < size)
    blocks = [-(-(hi - lo) // BLOCK) for lo, hi in ranges]
    assert min(blocks) >= 0 and max(blocks) - min(blocks) <= 1


@pytest.mark.parametrize(
    "size, parts, ranges",
    [
        (1000, 1, [(0, 1000)]),
        (1000, 3, [(0, 256), (256, 512), (512, 1000)]),
        (1000, 4, [(0, 256), (256, 512), (512, 768), (768, 1000)]),
        (300, 3, [(0, 0), (0, 256), (256, 300)]),
    ],
)
def test_uneven_ranges(size, parts, ranges):
    assert cut(size, parts) == ranges
