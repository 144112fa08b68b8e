"""Local SGD: H steps on the worker's own part, then the average of the parameters.

    x_i ← x_i − η g_i, and every H steps x_i ← (1/N) Σ_j x_j

Reference: Stich 2019 (arXiv 1805.09767), algorithm 1.   Exact when: N = 1 is sgd without momentum.
"""

from dsgd.state import HEAD


def local_sgd(comm, local, state, *, optimizer, schedule, steps, period: int = 4):
    x = state.own.setdefault("x", state.x.copy())
    total = comm.empty(HEAD + len(x))
    for t in range(state.t, steps):
        packet = local.gradient(x, t, scale=1 / max(1, local.share(t)))
        x -= schedule(t) * packet[HEAD:]
        total[:HEAD] = packet[:HEAD]
        if (t + 1) % period == 0 or t + 1 == steps:
            total[HEAD:] = x
            x[:] = state.agree(comm.allreduce(total))
            x /= comm.size
        else:
            state.agree(comm.allreduce(total[:HEAD]))
        state.x[:] = x
        state.t = t + 1
        yield
