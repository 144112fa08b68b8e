"""Data parallelism whose update is shared out: each worker sums and updates its own slice of x, and all gather the slices.

    worker r:   g_r = Σ_i g_i on slice r,   g_i = (1/m) Σ_{k in part i} ∇L(x_k; θ)        reduce-scatter
                x_r ← x_r − η g_r                                                         update
                x ← (x_0, x_1, …)                                                         allgather

The optimizer's vectors are shared out too: each worker has those of its slice alone.  The agreed numbers travel in front
of slice 0.

Reference: Rajbhandari et al. 2020 (arXiv 1910.02054), ZeRO stage 1; Xu et al. 2020 (arXiv 2004.13336).
Exact when: always data-parallel, to the bit: each element is added in the same tree, and updated alone.
"""

from functools import lru_cache

from dsgd.comm import Roles
from dsgd.layout import cut
from dsgd.state import HEAD


@lru_cache(maxsize=4)
def shares(n, size):
    """(slices (lo, hi) of x (n,), elements of the packet's slices), the same objects for all ranks of a process."""
    slices = tuple(cut(n, size))
    return slices, tuple(hi - lo + HEAD * (rank == 0) for rank, (lo, hi) in enumerate(slices))


def one_slice_each(size, objective, **options):
    """Every rank is a worker and owns a slice of x, cut at block borders; with more ranks than blocks some are empty."""
    slices, _ = shares(objective.layout.size, size)
    return Roles(tuple(range(size)), tuple((rank, lo, hi) for rank, (lo, hi) in enumerate(slices)))


def sharded_update(comm, local, state, *, optimizer, schedule, steps):
    """Sum a slice, update it, hand it out."""
    slices, counts = shares(len(state.start), comm.size)
    lo, hi = slices[comm.rank]
    packet = comm.replica(HEAD + len(state.start))
    x = packet[HEAD:]
    x[:] = state.start
    state.x = x[lo:hi]
    for t in range(state.t, steps):
        # 1. each worker computes the gradient of its part of the batch; 2. gets its own slice of the sum, and updates x there
        g = comm.reduce_scatter(local.gradient(x, t, scale=1 / local.samples(t)), counts)
        if comm.rank == 0:
            packet[:HEAD], g = g[:HEAD], g[HEAD:]
        optimizer.step(state.x, g, schedule(t), among=comm)
        # 3. all slices come together, and with them the agreed numbers
        comm.allgather_in_place(packet, counts)
        state.agree(packet)
        state.t = t + 1
        yield
