"""The parameter server: workers pull the parameters, compute a gradient, push it; servers hold the parameters.

    bsp, k-sync, backup:   x ← x − η · (m / samples) Σ_{first K pushes} g_i(x)      late pushes are dropped
    ssp, asp, sampled:     x ← x − η g_i(x_{t−τ})                                   as each push arrives
    k-async, softsync:     x ← x − η · (1/K) Σ_{next K pushes} g_i(x_{t−τ_i})       late pushes count

Each of S servers holds one contiguous key range of x and its optimizer's state.  Which pushes make an update, and when
a pull is answered, is `consistency`, with its own options (consistency.py); all servers follow the first one's order
(server.py, decide.py).  With `colocated` every worker is a server, too.  The servers let all workers stand still once
every `--checkpoint-every` steps, bsp after each: then everyone holds the same version, and a run can be saved, or end.

Where an update is an average, the average is clipped; norms are over all of x, and the servers tell each other those
of their ranges.  Where each push is an update, each worker clips its own.  A push that is late is applied as it is, or as
`staleness` says (staleness.py).

Reference: Li et al. 2014 (OSDI), "Scaling distributed machine learning with the parameter server".
Exact when: bsp is data-parallel on as many workers, to the bit, for any S; asp with one worker is sgd.
"""

from functools import partial
from math import inf

import numpy as np

from dsgd.algorithms.admission import PULL, PUSH
from dsgd.algorithms.consistency import choose_model
from dsgd.algorithms.control import Controlled
from dsgd.algorithms.decide import Decider
from dsgd.algorithms.replay import Told, actions
from dsgd.algorithms.server import LOST, PARAMETERS, REST, SHARES, Server
from dsgd.algorithms.staleness import check_staleness, make_correction
from dsgd.comm import Header, Roles
from dsgd.layout import BLOCK, cut
from dsgd.state import ALONE, HEAD

NOTHING = np.empty(0, np.uint8)  # what a pull carries; it is only started (isend): it may go to this rank itself


def place(size, objective, servers, colocated):
    """(workers, owners): ranks 0 … S − 1 serve one key range each, the others work; with `colocated` every rank does both.

    Raises:
        ValueError: why that cannot be.
    """
    n = objective.layout.size
    if servers < 1:
        raise ValueError(f"servers={servers}: somebody has to hold the parameters; at least 1")
    if colocated and servers != 1:
        raise ValueError(f"servers={servers} with colocated=true, where every rank is a server; give one of them")
    servers = size if colocated else servers
    if servers > -(-n // BLOCK):
        raise ValueError(
            f"{servers} servers for {n} parameters: a key range has at least {BLOCK}, so at most {-(-n // BLOCK)}"
        )
    if not colocated and servers >= size:
        raise ValueError(f"{servers} servers of {size} ranks leave no worker: start at least {servers + 1} ranks")
    return tuple(range(0 if colocated else servers, size)), tuple((s, *ends) for s, ends in enumerate(cut(n, servers)))


def servers_and_workers(
    size,
    objective,
    *,
    servers=1,
    colocated=False,
    consistency="bsp",
    staleness="ignore",
    compensation=None,
    patience=None,
    **dials,
):
    """Who serves which key range, and who works: see place."""
    workers, owners = place(size, objective, servers, colocated)
    model = consistency_model(len(workers), consistency=consistency, **dials)
    if patience is not None and not 0 < patience < inf:
        raise ValueError(f"patience={patience}: a worker is given up after a number of seconds, more than 0")
    if patience and colocated:
        raise ValueError("patience= with colocated=true: nobody goes on without a server; leave one of them out")
    if model.cancel and patience:
        raise ValueError("patience= with cancel=true, where a slow worker never pushes; leave one of them out")
    check_staleness(model, staleness, compensation)
    if model.cancel and colocated:
        raise ValueError("cancel=true with colocated=true: a server must not be interrupted; leave one of them out")
    pushes = len(workers) if model.synchronous else model.collect
    spare = patience is not None and not model.synchronous
    return Roles(workers, owners, tuple(range(len(owners))), model.synchronous, pushes, spare=spare)


def consistency_model(
    workers, *, consistency, servers=1, colocated=False, staleness="ignore", compensation=None, patience=None, **dials
):
    """The consistency.Model of these options of parameter-server."""
    return choose_model(consistency, workers, **dials)


def is_synchronous(*, consistency, **_):
    return consistency == "bsp"


def parameter_server(
    comm,
    local,
    state,
    *,
    optimizer,
    schedule,
    steps,
    servers: int = 1,
    colocated: bool = False,
    consistency: str = "bsp",
    bound: int = ...,
    apply: str = ...,
    b: int = ...,
    k: int = ...,
    n: int = ...,
    sample: int = ...,
    cancel: bool = ...,
    patience: float = ...,
    staleness: str = "ignore",
    compensation: float = ...,
):
    """Servers serve, workers work."""
    clock = len(comm.workers)
    model = choose_model(consistency, clock, bound=bound, apply=apply, b=b, k=k, n=n, sample=sample, cancel=cancel)
    serves, works = comm.rank in comm.servers, comm.worker is not None
    norms = optimizer.needs_others and len(comm.servers) > 1 and model.averages
    among = comm.split(color=int(serves)) if norms else None  # servers, and apart from them the others
    server = None
    if serves:
        update = partial(optimizer.step, among=among) if model.averages else optimizer.step_clipped
        correction = make_correction(staleness, compensation, HEAD if comm.rank == comm.servers[0] else 0)
        following = source(comm, local, state, model, steps)
        patience = None if isinstance(following, Told) else patience
        server = Server(comm, local, state, model, following, update, schedule, patience, correction)
    if works:
        yield from _work(comm, local, state, optimizer, model, server, steps)
    else:
        yield from serve(comm, state, server, steps)


def source(comm, local, state, model, steps):
    """Where a server's actions come from: the first one reads or decides them, the others are told."""
    if comm.rank != comm.servers[0]:
        return Told()
    if local.order.replayed:
        return Told(actions(local.order.replayed[1], model, len(comm.workers), steps), patient=not model.cancel)
    between = 1 if model.synchronous else local.rest or steps
    workers, saved = len(comm.workers), dict(own=state.own, t=state.t)
    decider = Decider(local, model, workers, between=between, steps=steps, **saved)
    return Controlled(decider, local, model, workers, **saved) if local.controller else decider


def serve(comm, state, server, steps):
    """From one cut to the next; all ranks start together, so that a run that is resumed there goes on in the same order."""
    while state.t < steps:
        if not server.model.synchronous:
            comm.without(state.lost).barrier()
        server.begin()
        while not server.resting:
            server.listen()
            yield from server.act()
        server.settle()
        yield


def _work(comm, local, state, optimizer, model, server, steps):
    """Pull, compute, push.  The first pull is the start of the run: every worker has the same version of x."""
    pushes = state.own.setdefault("pushes", np.array([state.t]))
    version = state.own.setdefault("version", np.array([state.t]))
    x = start_of(state, server)
    while state.t < steps:
        if not model.synchronous:
            comm.without(state.lost).barrier()
        if server:
            server.begin()
        tag = PARAMETERS
        while tag != REST:
            # compute: by rounds the batch is that of the version, else worker i's k-th gradient is of global batch k
            t = int(version[0] if model.of == "round" else pushes[0])
            local.shares = state.own.get("shares")
            m = max(1, local.share(t)) if model.of == "any" else local.samples(t)
            new = comm.irecv(comm.servers[0]) if model.cancel else None
            g = local.gradient(x if server else state.x, t, scale=1 / m, unless=new)
            sending = []
            if g is not None:
                if not model.averages:
                    optimizer.clip_own(g[HEAD:])
                g = comm.copy(g) if model.cancel else g
                header = Header(int(version[0]), t, int(pushes[0]))
                sending = push(comm, g, header)
                sending.append(comm.isend(NOTHING, comm.servers[0], PULL, header))
                pushes[0] += 1
            # pull
            packet, header, tag = yield from pull(comm, state, server, new)
            if not model.cancel:  # all servers have answered, so they have the pushes
                for request in sending:
                    request.wait()
            version[0], state.t = header.version, header.step
            x = state.agree(packet) if tag == REST and not server else packet[HEAD:]
            if not server:
                state.x = x
            if tag != REST:
                yield ALONE
        if header.push > len(state.lost):
            state.lost = tuple(comm.recv(comm.servers[0], LOST).data.tolist())
        if server:
            server.settle()
        yield


def start_of(state, server):
    """x (n,), from which the run starts or goes on."""
    return state.start if server else state.x


def push(comm, packet, header):
    """[request] of sending each server its key range of a packet (4 + n,), the first one with the four numbers."""
    ranges = enumerate(cut(len(packet) - HEAD, len(comm.servers)))
    keys = [slice(HEAD + lo if s else 0, HEAD + hi) for s, (lo, hi) in ranges]
    return [comm.isend(packet[key], s, PUSH, header._replace(range=s)) for s, key in enumerate(keys)]


def pull(comm, state, server, new=None):
    """(packet, header, tag) of the servers' answer to a pull; a worker that is a server, too, serves until it is there.

    new: an irecv of the first server's.
    """
    replies = {}
    while len(replies) < len(comm.servers):
        message, new = new.wait() if new else comm.recv(), None
        if message.tag in (PARAMETERS, REST):
            replies[message.source] = message
        elif message.tag == LOST:
            state.lost = tuple(message.data.tolist())
        elif message.tag == SHARES:
            state.own["shares"] = np.array(message.data)
        else:
            server.hear(message)
            yield from server.act()
    first = replies[comm.servers[0]]
    packet = first.data if len(replies) == 1 else np.concatenate([replies[s].data for s in comm.servers])
    return packet, first.header, first.tag
