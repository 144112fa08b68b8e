"""The parameter server: workers pull the parameters, compute a gradient, push it; servers hold the parameters.

    bsp:  x ← x − η · (1/m) Σ_i Σ_{k in part i} ∇L(x_k; θ)      once all N pushes of a clock are there
    asp:  x ← x − η g_i,  g_i the average over worker i's own batch      as each push arrives

Each of S servers holds one contiguous key range of x and its optimizer's state.  A clock is N pushes.  Under bsp a pull
is answered when the clock is complete; under asp at once, except that the servers let all workers come to rest once
every `--checkpoint-every` clocks, a cut: then everyone holds the same version, and a run can be saved, or end.  All
ranks start together from a cut, so that a run that is resumed there goes on in the same order.  Server 0 alone decides
when a pull is answered, the other servers follow the version it gave.  Norms are over all of x: under bsp the servers
tell each other those of their ranges; under asp each worker clips its own push.

Reference: Li et al. 2014 (OSDI), "Scaling distributed machine learning with the parameter server".
Exact when: bsp is data-parallel on as many workers, to the bit, for any S; asp with one worker is sgd.
"""

import numpy as np

from dsgd.collectives import tree_sum
from dsgd.comm import Header, Roles
from dsgd.layout import BLOCK, cut
from dsgd.state import ALONE, HEAD

PULL, PUSH, PARAMETERS = 1, 2, 3  # tags
CONSISTENCY = ("bsp", "asp")


def dedicated_servers(size, objective, *, servers=1, consistency="bsp", **_):
    """Ranks 0 … S − 1 serve one key range each, the others work."""
    n = objective.layout.size
    if consistency not in CONSISTENCY:
        raise ValueError(f"consistency {consistency!r} is not one of {', '.join(CONSISTENCY)}")
    if servers > -(-n // BLOCK):
        raise ValueError(
            f"{servers} servers for {n} parameters: a key range has at least {BLOCK}, so at most {-(-n // BLOCK)}"
        )
    if servers < 1:
        raise ValueError(f"servers={servers}: somebody has to hold the parameters; at least 1")
    if servers >= size:
        raise ValueError(
            f"{servers} servers of {size} ranks leave no worker: start at least {max(servers, 1) + 1} ranks"
        )
    owners = tuple((s, lo, hi) for s, (lo, hi) in enumerate(cut(n, servers)))
    return Roles(tuple(range(servers, size)), owners, tuple(range(servers)), synchronous=consistency == "bsp")


def parameter_server(comm, local, state, *, optimizer, schedule, steps, servers: int = 1, consistency: str = "bsp"):
    """Servers serve, workers work.  Versions of x are counted in pushes."""
    clock = len(comm.workers)
    between, last = clock * (1 if consistency == "bsp" else local.rest or steps), clock * steps

    def next_cut(version):
        return min((version // between + 1) * between, last)

    norms = optimizer.needs_others and servers > 1 and consistency == "bsp"
    among = comm.split(color=int(comm.worker is not None)) if norms else None  # servers, and apart from them workers
    if comm.worker is not None:
        ranges = cut(local.objective.layout.size, servers)
        keys = [slice(HEAD + lo if s else 0, HEAD + hi) for s, (lo, hi) in enumerate(ranges)]
        yield from _work(comm, local, state, optimizer, keys, last, next_cut, consistency)
    elif consistency == "bsp":
        yield from _serve_bsp(comm, state, optimizer, schedule, steps, among)
    else:
        yield from _serve_asp(comm, state, optimizer, schedule, last, next_cut)


def _work(comm, local, state, optimizer, keys, last, next_cut, consistency):
    """Pull, compute, push.  The first pull is the start of the run: every worker has the same version of x."""
    clock = len(comm.workers)
    version = goal = state.t * clock
    gradients = state.own.setdefault("gradients", np.array([state.t]))
    while version < last:
        if version == goal:  # the start, or a cut
            goal = next_cut(version)
            if consistency == "asp":
                comm.barrier()
        # compute: worker i's k-th gradient is that of part i of global batch k
        k = int(gradients[0])
        m = local.samples(k) if consistency == "bsp" else max(1, local.share(k))
        g = local.gradient(state.x, k, scale=1 / m)
        if consistency == "asp":
            local.refuse_fault()
            optimizer.clip(g[HEAD:], out=g[HEAD:])
        # push: to each server its key range, to server 0 with the four numbers in front
        for server, key in enumerate(keys):
            comm.send(g[key], server, PUSH, Header(version, state.t, k, server))
        gradients[0] = k + 1
        # pull: server 0 first, it decides when; the others follow its version, and learn what was agreed
        head = g[:0]
        for server, key in enumerate(keys):
            comm.send(head, server, PULL, Header(version))
            reply = comm.recv(server, PARAMETERS)
            if server == 0:
                version, head = reply.header.version, reply.data[:HEAD]
            if len(keys) > 1:
                state.packet[key] = reply.data
        packet = reply.data if len(keys) == 1 else state.packet
        state.x = state.agree(packet) if consistency == "bsp" else packet[HEAD:]
        state.t = version // clock
        yield None if version == goal else ALONE


def _serve_bsp(comm, state, optimizer, schedule, steps, among):
    """One average a clock.  Server 0's messages have the four numbers in front; the others hear of them in the pulls."""
    workers, first = comm.workers, comm.rank == comm.servers[0]
    mine = state.packet if first else state.x
    total = comm.empty(len(mine))
    for t in range(state.t, steps):
        # 1. a push from every worker
        pushes = {push.source: push.data for push in (comm.recv(tag=PUSH) for _ in workers)}
        # 2. the sum of the pushes, in tree order, is the average gradient; 3. the update
        tree_sum([pushes[worker] for worker in workers], out=total)
        optimizer.step(state.x, total[HEAD:] if first else total, schedule(t), among)
        if first:
            state.packet[:HEAD] = total[:HEAD]
        # 4. the pulls, which waited for the end of the clock, are answered with the new version
        for worker in workers:
            head = comm.recv(worker, PULL).data
            comm.send(mine, worker, PARAMETERS, Header((t + 1) * len(workers)))
        state.agree(mine if first else head)
        state.t = t + 1
        yield


def _serve_asp(comm, state, optimizer, schedule, last, next_cut):
    """Each push at once, from one cut to the next; so many pulls are granted that the pushes end at the cut."""
    clock, first = len(comm.workers), comm.rank == comm.servers[0]
    version = state.t * clock
    mine = state.packet if first else state.x
    while version < last:
        comm.barrier()
        goal, granted, waiting = next_cut(version), version + clock, []  # every worker starts with the current version
        while version < goal or len(waiting) < clock:
            message = comm.recv()
            if message.tag == PUSH:
                g = state.agree(message.data) if first else message.data
                optimizer.step_clipped(state.x, g, schedule(version // clock))
                version += 1
                state.t = version // clock
                yield ALONE
            elif (granted if first else message.header.version) < goal:  # the other servers follow server 0's grants
                granted += 1
                comm.send(mine, message.source, PARAMETERS, Header(version))
            else:
                waiting.append(message.source)
        for worker in sorted(waiting):  # the cut: all pushes are applied, and everyone gets this version
            comm.send(mine, worker, PARAMETERS, Header(version))
        yield
