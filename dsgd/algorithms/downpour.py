"""Downpour: workers go on by themselves between pulls, and push what their gradients add up to.

    worker i:   every n_fetch steps  x_i ← x;   each step  a ← a + g_i(x_i),  x_i ← x_i − η g_i(x_i)
                every n_push steps   push a;  a ← 0
    server:     x ← x − η a, or another optimizer's step, in the order of arrival

The paper pushes after the steps 0, n_push, 2 n_push, …; here it is after n_push, 2 n_push, …, so that no gradient of a run
is left over.  The optimizer of the paper is adagrad, on the server; the worker's own steps are plain SGD.  n_fetch is a
multiple of n_push, so that all gradients of a push come from one version of x, which is what the log of a run holds.
Each worker clips its gradients, one by one.

Reference: Dean et al. 2012 (NIPS), "Large scale distributed deep networks", section 4.1 and algorithm 7.1.
Exact when: push=1,fetch=1 is parameter-server:consistency=asp under the same order, to the bit.
"""

import numpy as np

from dsgd.algorithms.consistency import asp
from dsgd.algorithms.parameter_server import NOTHING, start_of, place, pull, push, serve, source
from dsgd.algorithms.admission import PULL
from dsgd.algorithms.server import PARAMETERS, REST, Server
from dsgd.comm import Header, Roles
from dsgd.state import ALONE, HEAD


def downpour_roles(size, objective, *, servers=1, colocated=False, push=1, fetch=1):
    """As those of a parameter server."""
    if push < 1 or fetch < push or fetch % push:
        raise ValueError(f"push={push}, fetch={fetch}: push is 1 or more, and fetch is a multiple of it")
    workers, owners = place(size, objective, servers, colocated)
    return Roles(workers, owners, tuple(range(len(owners))), synchronous=False, pushes=1, every=fetch)


def ahead(workers, *, push, fetch, **places):
    """Nobody waits: asp, but several pushes follow a pull."""
    return asp(workers)._replace(gradients=push, pushes=fetch // push)


def downpour(
    comm,
    local,
    state,
    *,
    optimizer,
    schedule,
    steps,
    push: int = 1,
    fetch: int = 1,
    servers: int = 1,
    colocated: bool = False,
):
    """Servers serve, workers run ahead."""
    model, server = ahead(len(comm.workers), push=push, fetch=fetch), None
    if comm.rank in comm.servers:
        actions = source(comm, local, state, model, steps)
        server = Server(comm, local, state, model, actions, optimizer.step_clipped, schedule)
    if comm.worker is None:
        yield from serve(comm, state, server, steps)
    else:
        yield from _work(comm, local, state, optimizer, server, schedule, steps, push, fetch)


def _work(comm, local, state, optimizer, server, schedule, steps, n_push, n_fetch):
    """The client of algorithm 7.1; what it has pulled at the start is the start of the run."""
    own, x = state.own, start_of(state, server)
    made, pushes, version = (own.setdefault(name, np.array([state.t])) for name in ("made", "pushes", "version"))
    accrued = comm.empty(HEAD + len(x))
    while state.t < steps:
        comm.barrier()
        tag = PARAMETERS
        while tag != REST:
            x, sending = np.array(x), []
            for step in range(1, n_fetch + 1):
                t = int(made[0])
                g = local.gradient(x, t, scale=1 / max(1, local.share(t)))
                optimizer.clip_own(g[HEAD:])
                np.add(accrued if (step - 1) % n_push else 0, g, out=accrued)
                made[0] += 1
                header = Header(int(version[0]), t, int(pushes[0]))
                if step % n_push == 0:
                    sending += push(comm, comm.copy(accrued), header)
                    pushes[0] += 1
                if step < n_fetch:
                    x -= schedule(min(t, steps - 1)) * g[HEAD:]
            sending.append(comm.isend(NOTHING, comm.servers[0], PULL, header))
            packet, header, tag = yield from pull(comm, state, server)
            for request in sending:
                request.wait()
            version[0], state.t = header.version, header.step
            x = state.agree(packet) if tag == REST and not server else packet[HEAD:]
            if not server:
                state.x = x
            if tag != REST:
                yield ALONE
        if server:
            server.settle()
            server.resting = False
        yield
