"""Distributed SGD: the data are spread over the workers, the gradients go to the server, the server updates.

    server:  x ← x − η · (1/m) Σ_i g_i,   g_i = Σ_{k in part i} ∇L(x_k; θ)

The server is rank 0 and a worker too; it alone has the optimizer's state.

Reference: Dekel et al. 2012 (arXiv 1012.1367), distributed mini-batches with one master.
Exact when: always data-parallel, to the bit: the server adds the gradients in the same tree.
"""

from dsgd.state import HEAD

SERVER = 0


def dsgd(comm, local, state, *, optimizer, schedule, steps):
    """Gradients to the server, parameters back."""
    for t in range(state.t, steps):
        # 1. each worker computes the gradient of its part of the batch and sends it to the server, which adds them up
        total = comm.reduce(local.gradient(state.x, t, scale=1 / local.samples(t)), root=SERVER)
        # 2. the server updates
        if comm.rank == SERVER:
            state.packet[:HEAD] = total[:HEAD]
            optimizer.step(state.packet[HEAD:], total[HEAD:], schedule(t))
        # 3. the parameters go back, and with them the agreed numbers
        state.x = state.agree(comm.bcast(state.packet, root=SERVER))
        state.t = t + 1
        yield
