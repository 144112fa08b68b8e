"""Sums behind the backward pass: the bits are data-parallel's, the buckets whole layers, the time what the formula says."""

import numpy as np
import pytest

import dsgd
from dsgd.algorithms.overlapped import buckets
from dsgd.costs import duration
from dsgd.mlp import MLP
from dsgd.state import HEAD

DATA = dict(data="teacher:samples=302,features=12,hidden=8,classes=4", hidden="16,12,8", batch_size=30, no_plot=True)
NET = MLP((12, 16, 12, 8, 4))
SPEED, ALPHA, BANDWIDTH = 1e6, 1e-4, 4e5  # flop/s, s, byte/s: a step computes about as long as it sends
CLOCK = dict(compute=f"flops:speed={SPEED:g}", network=f"uniform:latency={ALPHA:g},bandwidth={BANDWIDTH:g}")


def run(algorithm, **more):
    return dsgd.run(**DATA | more, algorithm=algorithm)


def same_bits(*results):
    return len({result.summary["params_sha256"] for result in results}) == 1


# --- the bits


@pytest.mark.parametrize("bucket", [1, 400, 1000, 1 << 20])  # bytes: four buckets, three, two, one
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8, 40])  # 40: more workers than samples in a batch
def test_overlapped_is_data_parallel(workers, bucket):
    flags = dict(simulate=workers, steps=12, optimizer="lamb", clip_norm=0.05, dropout=0.2, l2=1e-3)
    reference = run("data-parallel", **flags)
    assert same_bits(reference, run(f"overlapped:bucket={bucket}", **flags, world={"check": True}))


# --- the buckets


@pytest.mark.parametrize("elements", [1, 36, 37, 104, 105, 348, 1000])
def test_buckets_are_whole_layers_and_cover_the_packet(elements):
    layout = NET.layout()
    borders = {HEAD + layout.starts[f"layer {l} weight"] for l in range(1, NET.depth)} | {0, HEAD + layout.size}
    cuts = buckets(layout, range(NET.depth), elements)
    assert [span.stop for _, span in cuts] == [HEAD + layout.size] + [span.start for _, span in cuts[:-1]]
    assert cuts[-1][1].start == 0 and {span.start for _, span in cuts} <= borders
    assert [l for layers, _ in cuts for l in reversed(layers)] == list(reversed(range(NET.depth)))
    sizes = [(NET.widths[l] + 1) * NET.widths[l + 1] for l in range(NET.depth)]
    for layers, span in cuts[:-1]:
        size = sum(sizes[l] for l in layers)
        assert span.stop - span.start == size and size - sizes[layers[0]] < elements <= size


# --- the time


def step_times(algorithm, size, steps=3):
    result = run(algorithm, simulate=size, steps=steps, dtype="float32", log_every=1, **CLOCK)
    return np.diff([0.0] + [row["virtual_time"] for row in result.records])


def compute_times(size):
    """(forward, [backward of layer 0, 1, ...]): s of the largest part of a batch of 30."""
    weights = [a * b for a, b in zip(NET.widths, NET.widths[1:])]
    rows = -(-30 // size)
    return 2 * rows * sum(weights) / SPEED, [4 * rows * weight / SPEED for weight in weights]


@pytest.mark.parametrize("bucket", [1, 400, 1000, 1 << 20])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_step_takes_its_closed_form(size, bucket):
    """A bucket's sum begins when its gradient is there on the slowest worker and the sum before it is done."""
    forward, backward = compute_times(size)
    computed = done = forward
    for layers, span in buckets(NET.layout(), range(NET.depth), bucket / 4):
        computed += sum(backward[l] for l in layers)
        done = max(computed, done) + duration("allreduce", size, 4 * (span.stop - span.start), ALPHA, BANDWIDTH)
    assert step_times(f"overlapped:bucket={bucket}", size) == pytest.approx([done] * 3, rel=1e-9)
    whole = computed + duration("allreduce", size, 4 * (HEAD + NET.layout().size), ALPHA, BANDWIDTH)
    assert step_times("data-parallel", size) == pytest.approx([whole] * 3, rel=1e-9)
    assert done < whole if bucket < 1 << 20 else done == pytest.approx(whole)
