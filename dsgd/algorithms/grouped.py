"""Data parallelism and the parameter server combined: groups of workers all-reduce, a server adds up the groups.

    inside a group:   g_G = Σ_{i in G} g_i,   g_i = (1/m) Σ_{k in part i} ∇L(x_k; θ)
    at the server:    x ← x − η Σ_G g_G

Rank 0 serves.  The workers form consecutive groups of `size`, the last may be smaller; the first worker of a group is
its leader, pushes the group's sum and hands the new x on to the group.  So the server gets ⌈N/size⌉ messages and not N.

Reference: two levels as in Goyal et al. 2017 (arXiv 1706.02677), section 4, the upper one a parameter server.
Exact when: size is a power of two: data-parallel on as many workers, to the bit, since each group is a node of the tree.
"""

from dsgd.collectives import tree_sum
from dsgd.comm import Roles
from dsgd.state import HEAD

SERVER = 0


def one_server(ranks, objective, *, size):
    """Rank 0 serves and holds x, the others work."""
    if ranks < 2:
        raise ValueError("grouped has a server and workers: start at least 2 ranks")
    if size < 1:
        raise ValueError(f"size={size}: a group has at least one worker")
    return Roles(tuple(range(1, ranks)), ((SERVER, 0, objective.layout.size),), (SERVER,))


def grouped(comm, local, state, *, optimizer, schedule, steps, size: int = 2):
    """All-reduce in the group, push by its leader, x back through the leader."""
    leaders = comm.workers[::size]
    group = comm.split(color=0 if comm.rank == SERVER else 1 + comm.worker // size)
    total = comm.empty(len(state.packet))
    for t in range(state.t, steps):
        if comm.rank == SERVER:
            # 2. the server adds the groups' sums in tree order, updates, and answers the leaders
            tree_sum([comm.recv(leader).data for leader in leaders], out=total)
            optimizer.step(state.x, total[HEAD:], schedule(t))
            state.packet[:HEAD] = total[:HEAD]
            for leader in leaders:
                comm.send(state.packet, leader)
            state.agree(state.packet)
        else:
            # 1. the group sums its gradients; the leader pushes the sum, and pulls
            g = group.allreduce(local.gradient(state.x, t, scale=1 / local.samples(t)))
            if group.rank == 0:
                comm.send(g, SERVER)
                state.packet[:] = comm.recv(SERVER).data
            # 3. x goes on to the group
            state.x = state.agree(group.bcast(state.packet))
        state.t = t + 1
        yield
