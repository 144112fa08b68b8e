"""Elastic averaging: every worker trains x_i by itself, held to a common centre x̃ by a spring; the centre is the result.

    every τ steps, in the order of arrival:   e = α (x_i − x̃)      x_i ← x_i − e      x̃ ← x̃ + e
    in between:                               x_i ← x_i − η g_i(x_i)

α = β / N for N workers; in the paper's other notation α = η ρ, so ρ = β / (N η).  The step of a worker is that of
`--optimizer`, whose state (a velocity, moments) stays with the worker, as does the clip.  Servers hold the centre by key
ranges and add what is pushed; the centre that a worker sees was pulled after its τ steps, right before its push.  All
workers make as many steps, so a run of `--steps` is as many for each.  Two things are not as in the paper: its workers
exchange before a step and not after it, and take that step's gradient at x_i before the exchange.

Reference: Zhang, Choromanska and LeCun 2015 (NIPS; arXiv 1412.6651), algorithm 1, asynchronous EASGD.
Exact when: β = 0: N independent runs of sgd, each on its own parts of the batches, to the bit; the centre stays.
"""

import numpy as np

from dsgd.algorithms.consistency import asp
from dsgd.algorithms.parameter_server import NOTHING, start_of, place, pull, push, serve, source
from dsgd.algorithms.admission import PULL
from dsgd.algorithms.server import REST, Server
from dsgd.comm import Header, Roles
from dsgd.state import ALONE, HEAD

SLOT = "optimizer "  # before the names of what a worker's optimizer keeps


def elastic_roles(size, objective, *, servers=1, colocated=False, beta=0.9, tau=1):
    """As those of a parameter server."""
    if not 0 <= beta <= 1:
        raise ValueError(f"beta={beta}: with 0 nobody moves the centre, with 1 all workers together replace it")
    if tau < 1:
        raise ValueError(f"tau={tau}: an exchange follows 1 step or more")
    workers, owners = place(size, objective, servers, colocated)
    servers = tuple(range(len(owners)))
    return Roles(workers, owners, servers, synchronous=False, pushes=1, owners_step=False, every=tau)


def exchanges(workers, *, tau, **others):
    """Nobody waits: asp, but every push follows a pull at once."""
    return asp(workers)._replace(gradients=tau, exchange=True)


def easgd(
    comm,
    local,
    state,
    *,
    optimizer,
    schedule,
    steps,
    beta: float = 0.9,
    tau: int = 1,
    servers: int = 1,
    colocated: bool = False,
):
    """Servers hold the centre, workers train."""
    model, server = exchanges(len(comm.workers), tau=tau), None
    if comm.rank in comm.servers:
        server = Server(comm, local, state, model, source(comm, local, state, model, steps), _add, schedule)
    if comm.worker is None:
        yield from serve(comm, state, server, steps)
    else:
        yield from _train(comm, local, state, server, schedule, steps, beta / len(comm.workers), tau)


def _add(centre, e, lr):
    """x̃ ← x̃ + e"""
    np.add(centre, e, out=centre)


def _train(comm, local, state, server, schedule, steps, alpha, tau):
    """Worker i: τ steps, pull, exchange."""
    optimizer, own = local.update, state.own
    if "x" not in own:
        own["x"] = np.array(start_of(state, server))
    x = own["x"]
    made, pushes, version = (own.setdefault(name, np.array([state.t])) for name in ("made", "pushes", "version"))
    numbers = own.setdefault("numbers", np.zeros(HEAD, x.dtype))  # of the steps since the last exchange
    optimizer.slots = {name.removeprefix(SLOT): own[name] for name in own if name.startswith(SLOT)}
    packet, period = comm.empty(HEAD + len(x)), local.rest or steps
    while state.t < steps:
        comm.barrier()
        cut, sending = min((state.t // period + 1) * period, steps), []
        while True:
            # x_i ← x_i − η g_i(x_i), up to the next exchange, if there is one before everyone stands still
            for t in range(int(made[0]), min((int(pushes[0]) + 1) * tau, cut)):
                g = local.gradient(x, t, scale=1 / max(1, local.share(t)))
                numbers += g[:HEAD]
                optimizer.step(x, g[HEAD:], schedule(t))
                made[0] = t + 1
            header = Header(int(version[0]), int(made[0]), int(pushes[0]))
            sending.append(comm.isend(NOTHING, comm.servers[0], PULL, header))
            answer, header, tag = yield from pull(comm, state, server)
            for request in sending:
                request.wait()
            version[0], state.t = header.version, header.step
            if tag == REST:
                break
            # e = α (x_i − x̃);   x_i ← x_i − e;   the servers add e
            e = np.subtract(x, answer[HEAD:], out=packet[HEAD:])
            e *= alpha
            x -= e
            packet[:HEAD], numbers[:] = numbers, 0
            sending = push(comm, packet, Header(header.version, int(made[0]), int(pushes[0])))
            pushes[0] += 1
            yield ALONE
        own |= {SLOT + name: array for name, array in optimizer.slots.items()}
        if server:
            server.settle()
            server.resting = False
        else:
            state.x = state.agree(answer)
        yield
