"""Data parallelism: every worker's gradient is summed by an all-reduce, every worker applies the same update.

    x ← x − η · (1/m) Σ_i Σ_{k in part i} ∇L(x_k; θ)

The gradients are divided by m, the size of the *global* batch, before they are summed: parts may be uneven or empty.

Reference: Goyal et al. 2017 (arXiv 1706.02677), section 3.
Exact when: N = 1 is sgd to the bit; on N workers it is sgd on the same batches up to the rounding of the sums.
"""


def data_parallel(comm, local, state, *, optimizer, schedule, steps):
    """Every worker applies the average gradient."""
    for t in range(state.t, steps):
        # 1. each worker computes the gradient of its part of the batch; 2. the parts are summed
        g = comm.allreduce(local.gradient(state.x, t, scale=1 / local.samples(t)))
        # 3. each worker makes the same update
        optimizer.step(state.x, state.agree(g), schedule(t))
        state.t = t + 1
        yield
