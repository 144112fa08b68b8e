"""What a server lets in: messages of workers that follow the protocol, and pushes that may be applied.

    x ← x − η g    only if the sender works, the header can be, g has the form of x, and all its numbers are finite

Whose header cannot be ends the run, because that rank runs another program.  A push that cannot be applied is rejected
by the first server, and counted, before it touches x; what the first server cannot see ends the run.

Reference: Li et al. 2014 (OSDI), section 3.6, user-defined filters.
Exact when: every worker is well: then everything is let in.
"""

from math import isfinite

import numpy as np

from dsgd.errors import PeerError
from dsgd.state import BAD, HEAD

PULL, PUSH = 1, 2  # tags of workers


def sender(server, message):
    """The number of the worker that a message is of.

    Raises:
        PeerError: it is of none, or cannot be.
    """
    worker, tag, header = server.number.get(message.source), message.tag, message.header
    possible = worker is not None and tag in (PULL, PUSH)
    if possible and worker in server.held:
        held, number = server.held[worker], server.numbers.get(worker, header.push)
        possible = 0 <= header.version <= held if server.model.cancel else header.version == held
        if tag == PUSH:
            possible = possible and header.push == number >= 0
            server.numbers[worker] = number + 1
    if not possible:
        raise PeerError(
            f"rank {server.comm.rank}, a server: no worker sends what came from rank {message.source}, tag {tag}, {header}; "
            "does every rank run the same program?"
        )
    return worker


def fault(push, x):
    """What is wrong with a push, for a range of x behind its four numbers; None if nothing is."""
    if problem := misfit(push, x):
        return problem
    if push[BAD] or not isfinite(np.dot(push[HEAD:], push[HEAD:])):
        return "its gradient is not finite"
    return None


def misfit(push, x):
    """How a push differs from the vector that a server holds; None if it is like it."""
    if push.shape != x.shape or push.dtype != x.dtype:
        return f"{len(push)} numbers of {push.dtype}, where the server has {len(x)} of {x.dtype}"
    return None


def refuse(server, push):
    """Raise PeerError for a push that cannot be added to x, where none can be rejected."""
    if problem := misfit(push.data, server.whole):
        raise PeerError(f"rank {server.comm.rank}, a server: rank {push.source} has pushed {problem}")
