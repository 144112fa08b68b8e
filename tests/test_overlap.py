"""Sums behind the backward pass: the bits are data-parallel's, the buckets whole layers, the time what the formula says."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import dsgd
import sums_behind
from dsgd.algorithms.overlapped import buckets
from dsgd.costs import duration
from dsgd.errors import CollectiveMismatch, NonFiniteGradient, UsageError
from dsgd.mlp import MLP
from dsgd.network import Network
from dsgd.objectives import Quadratic, Supervised
from dsgd.simulator import simulate
from dsgd.simulator.effects import BufferChanged
from dsgd.state import HEAD
from dsgd.timeline import read_spans
from launching import mpirun

DATA = dict(data="teacher:samples=302,features=12,hidden=8,classes=4", hidden="16,12,8", batch_size=30, no_plot=True)
NET = MLP((12, 16, 12, 8, 4))
SPEED, ALPHA, BANDWIDTH = 1e6, 1e-4, 4e5  # flop/s, s, byte/s: a step computes about as long as it sends
CLOCK = dict(compute=f"flops:speed={SPEED:g}", network=f"uniform:latency={ALPHA:g},bandwidth={BANDWIDTH:g}")


def run(algorithm, **more):
    return dsgd.run(**DATA | more, algorithm=algorithm)


def same_bits(*results):
    return len({result.summary["params_sha256"] for result in results}) == 1


# --- the bits


# 1 to 1 << 20 bytes: four buckets, three, two, one.  40: more workers than samples in a batch
@pytest.mark.identity("overlapped")
@pytest.mark.parametrize("workers, bucket", [*product((1, 2, 3, 5, 8), (1, 400, 1000, 1 << 20)), (40, 400)])
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


def test_sums_that_were_started_follow_each_other():
    """The second begins when the first is done, the third when the last rank has joined; a barrier takes its turn too."""
    hop = ALPHA + 8 * 1000 / BANDWIDTH
    network = Network(latency=ALPHA, bandwidth=BANDWIDTH)

    def program(comm):
        first, second = (comm.iallreduce(np.ones(1000)) for _ in range(2))
        assert comm.clock() == 0  # nobody has waited
        first.wait()
        times = [comm.clock()]
        second.wait()
        times.append(comm.clock())
        comm.compute(int, 0, flops=1e10 * comm.rank)  # a second on rank 1
        third = comm.iallreduce(np.ones(1000))
        comm.barrier()
        times.append(comm.clock())
        third.wait()
        return [*times, comm.clock()]

    wanted = [2 * hop, 4 * hop, 1 + 6 * hop + 2 * ALPHA, 1 + 6 * hop + 2 * ALPHA]
    assert simulate(program, 2, network=network) == [pytest.approx(wanted)] * 2


def test_the_timeline_tells_a_wait_for_the_others_from_a_sum_on_its_way(tmp_path):
    """Rank 0 waits for rank 1 until that has started the sum, which is long before rank 1 waits for it."""
    run("overlapped:bucket=1", simulate=2, steps=1, faults="slow:rank=1,x=3", trace=True, output=str(tmp_path), **CLOCK)
    spans = read_spans(json.loads((tmp_path / "trace.json").read_text())["traceEvents"])
    computed = [[span for span in spans[rank] if span.kind == "compute"] for rank in (0, 1)]
    waits = [span for span in spans[0] if span.kind == "wait"]
    assert len(computed[1]) == 1 + NET.depth and waits[0].peer == 1
    assert (waits[0].start, waits[0].stop) == (computed[0][-1].stop, computed[1][1].stop)
    assert [span.kind for span in spans[1]].index("collective") > NET.depth


# --- what goes wrong


@pytest.mark.parametrize("layer", range(NET.depth))
def test_a_gradient_that_is_not_finite_in_any_bucket_stops_all(monkeypatch, layer):
    backward = Supervised.backward

    def poisoned(self, params, grads, d, work, layers):
        result = backward(self, params, grads, d, work, layers)
        if layer in layers:
            grads[f"layer {layer} bias"][0] = np.inf
        return result

    monkeypatch.setattr(Supervised, "backward", poisoned)
    with pytest.raises(NonFiniteGradient, match=f"rank 0, step 1, layer {layer} bias"):
        run("overlapped:bucket=1", simulate=2, steps=2)


@pytest.mark.parametrize("bucket", [1, 1 << 20])
def test_a_fault_writes_where_nothing_is_under_way_yet(bucket):
    """In the layers that are sent last; with check, a change of what is under way would be found."""
    with pytest.raises(NonFiniteGradient, match="rank 1, step 2, layer 0 weight" if bucket == 1 else "rank 1, step 2"):
        run(f"overlapped:bucket={bucket}", simulate=2, steps=3, faults="nan:rank=1,step=2", world={"check": True})


def test_a_buffer_that_changes_under_way_is_found():
    def program(comm):
        x = np.ones(10)
        summing = comm.iallreduce(x)
        x[3] = 2
        summing.wait()

    with pytest.raises(BufferChanged, match="rank 0 changed a buffer"):
        simulate(program, 2, check=True)


@pytest.mark.parametrize("other", [lambda comm: comm.iallreduce(np.ones(4)), lambda comm: comm.allreduce(np.ones(3))])
def test_sums_that_do_not_belong_together_are_found(other):
    """Other lengths; one that is waited for at once, as it takes another time."""

    def program(comm):
        return comm.iallreduce(np.ones(3)).wait() if comm.rank else other(comm)

    with pytest.raises(CollectiveMismatch, match="rank 1 calls iallreduce #0"):
        simulate(program, 2)


def test_what_it_cannot_be():
    with pytest.raises(UsageError, match="bucket=0 is no size in bytes"):
        run("overlapped:bucket=0", simulate=2, steps=1)
    with pytest.raises(UsageError, match="overlapped needs a network"):
        dsgd.run(objective=Quadratic(), algorithm="overlapped", simulate=2, steps=1, batch_size=10)


# --- other ways to sum


@pytest.mark.parametrize(
    "flags",
    [{"reduction": "star"}, {"reduction": "ring"}, {"faults": "drop:p=0.1"}, {"faults": "slow:rank=1,x=3"}],
    ids=str,
)
def test_it_is_data_parallel_however_the_sum_is_made(flags):
    """From scratch and over a lossy network nothing is hidden; a ring cuts other chunks, which are summed from elsewhere."""
    flags = flags | dict(simulate=4, steps=6)
    bucket = 1 << 20 if flags.get("reduction") == "ring" else 400
    assert same_bits(run("data-parallel", **flags), run(f"overlapped:bucket={bucket}", **flags))


# --- under MPI


@pytest.mark.parametrize("size", [2, 3])
def test_a_thread_sums_behind_its_rank(size):
    pytest.importorskip("mpi4py")
    ended = mpirun(size, Path(sums_behind.__file__))
    assert (ended.code, ended.out) == (0, "passed\n"), ended


def test_in_the_simulator_a_sum_is_only_started_too():
    simulate(sums_behind.check_that_a_sum_is_only_started, 4)
    simulate(sums_behind.check_many_at_once, 3, check=True)
