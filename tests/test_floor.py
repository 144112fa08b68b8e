"""The floor of a step: all of its matrix products, and in each layout the same one."""

import numpy as np

from benchmarks.floor import all_layouts, products


def test_a_step_has_three_products_a_layer_but_two_in_the_first_and_every_layout_makes_the_same():
    found = all_layouts((5, 4, 3, 2), 6, np.float64)
    shapes = [
        (6, 4),
        (6, 3),
        (6, 2),
        (3, 2),
        (6, 3),
        (4, 3),
        (6, 4),
        (5, 4),
    ]  # forward, then ∂W, ∂a from the last layer on
    assert len(found) == len(shapes) == 3 * 3 - 1
    for layouts, shape in zip(found, shapes):
        results = {orders: multiply() for orders, multiply in layouts.items()}
        assert len(results) == 8
        for (*_, order), result in results.items():
            assert result.shape == shape and result.flags[f"{order}_CONTIGUOUS"]
            np.testing.assert_allclose(result, results["C", "C", "C"], rtol=1e-12)


def test_the_floor_runs():
    products((5, 4, 3), 6)()
