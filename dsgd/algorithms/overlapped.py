"""Data parallelism that sums while it computes: a bucket of layers is under way while the layers before it are worked out.

    backward, from the last bucket k = K to the first:    g_k = (1/m) Σ_{j in part i} ∇_k L(x_j; θ)
                                                          Σ_i g_k is started, and waited for at the end
    update:                                               x ← x − η · (Σ_i g_1, Σ_i g_2, …)

A bucket is the fewest whole layers, counted from the last, whose gradient has `bucket` bytes; what is left at the front
is the first bucket, which is sent last and carries the agreed numbers.  Its sum has nothing to hide behind.

Reference: Li et al. 2020 (arXiv 2006.15704), section 3.2.3; Zhang et al. 2017 (arXiv 1706.03292), wait-free
backpropagation.
Exact when: always data-parallel, to the bit, whatever the buckets: each element is added in the same tree.
"""

from dsgd.algorithms.roles import everyone_works
from dsgd.mlp import names
from dsgd.state import HEAD


def layered_workers(size, objective, *, bucket=1, **options):
    """Every rank is a worker; the objective must have layers."""
    if not getattr(objective, "layers", None):
        raise ValueError("overlapped needs a network, whose layers are summed while others are computed")
    if bucket < 1:
        raise ValueError(f"bucket={bucket} is no size in bytes; 1 makes a bucket of each layer")
    return everyone_works(size, objective)


def buckets(layout, layers, elements):
    """[(layers, slice of the packet)], last layers first, of at least so many elements each, but for the first layers."""
    found, stop = [], layers[-1] + 1
    for l in reversed(layers):
        lo, hi = layout.span(names(range(l, stop)))
        if l == layers[0]:
            found.append((range(l, stop), slice(0, HEAD + hi)))
        elif hi - lo >= elements:
            found.append((range(l, stop), slice(HEAD + lo, HEAD + hi)))
            stop = l
    return found


def overlapped(comm, local, state, *, optimizer, schedule, steps, bucket: int = 1 << 20):
    """Start a sum as soon as there is something to add."""
    stage = local.stage(local.objective.layers, state.x)
    cuts = buckets(local.objective.layout, stage.layers, bucket / state.x.itemsize)
    for t in range(state.t, steps):
        batch, sums = local.part(t), []
        # 1. forward, through all layers
        z = stage.forward(stage.inputs(batch), batch)
        loss, d = stage.loss(z, batch, scale=1 / local.samples(t))
        # 2. backward, a bucket at a time; the last to be sent carries the agreed numbers
        for layers, span in cuts:
            d = stage.backward(d, batch, layers)
            if layers[0] == 0:
                stage.sign(t, len(batch), loss, unsent=stage.packet[HEAD : span.stop])
            sums.append(comm.iallreduce(stage.packet[span]))
        # 3. when all sums are there, each worker makes the same update
        for (_, span), summing in zip(cuts, sums):
            stage.packet[span] = summing.wait()
        optimizer.step(state.x, state.agree(stage.packet), schedule(t))
        state.t = t + 1
        yield
