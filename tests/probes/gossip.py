"""D-PSGD on a ring: every worker averages with its two neighbours, then makes its own step.

    x_i ← (x_{i−1} + x_i + x_{i+1}) / 3 − η g_i(x_i)

Reference: Lian et al. 2017 (arXiv 1705.09056), algorithm 1.   Exact when: N = 1 is sgd without momentum, to rounding.
"""

from dsgd.state import HEAD


def gossip(comm, local, state, *, optimizer, schedule, steps):
    x = state.own.setdefault("x", state.x.copy())
    left, right = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
    for t in range(state.t, steps):
        packet = local.gradient(x, t, scale=1 / max(1, local.share(t)))
        sent = [comm.isend(x, left, tag=1), comm.isend(x, right, tag=2)]
        from_left, from_right = comm.recv(left, tag=2).data, comm.recv(right, tag=1).data
        for request in sent:
            request.wait()
        x += from_left
        x += from_right
        x /= 3
        x -= schedule(t) * packet[HEAD:]
        state.agree(comm.allreduce(packet[:HEAD]))
        state.x[:] = x
        state.t = t + 1
        yield
