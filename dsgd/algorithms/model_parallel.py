"""Model parallelism: whole layers are dealt to the ranks in order, and each rank trains its own part of the parameters.

    forward:   a ← layers of rank r (a), handed on to rank r + 1
    backward:  δ ← ∂L/∂(input of rank r's layers), handed back to rank r − 1
    update:    x_r ← x_r − η ∇_r L,   x_r the layers of rank r; no rank holds another's

Only one rank computes at a time: this shares memory, not time.

Reference: Dean et al. 2012 (NIPS), section 3, model parallelism by layers.
Exact when: always sgd, to the bit, for 1 to L ranks: the products have the same shapes.
"""

from dsgd.comm import Roles
from dsgd.mlp import names
from dsgd.state import HEAD


def dealt(depth, size):
    """The layers of each rank: `depth` layers in `size` consecutive groups, as even as can be."""
    return [range(depth * r // size, depth * (r + 1) // size) for r in range(size)]


def layers_in_order(size, objective, **options):
    """Rank r owns the range of x that holds its layers; every rank sees the whole batch."""
    layers = getattr(objective, "layers", None)
    if not layers:
        raise ValueError("model-parallel needs a network, which has layers")
    if size > len(layers):
        raise ValueError(
            f"model-parallel deals whole layers: {size} ranks for {len(layers)} layers; start at most {len(layers)}"
        )
    spans = [objective.layout.span(names(group)) for group in dealt(len(layers), size)]
    return Roles(tuple(range(size)), tuple((r, lo, hi) for r, (lo, hi) in enumerate(spans)))


def model_parallel(comm, local, state, *, optimizer, schedule, steps):
    """Activations go forward, deltas come back."""
    mine = dealt(len(local.objective.layers), comm.size)[comm.rank]
    first, last = comm.rank == 0, comm.rank == comm.size - 1
    stage = local.stage(mine, state.x)
    for t in range(state.t, steps):
        batch, loss = local.batch(t), 0
        # 1. forward: the activations come from the rank before and go on to the next
        z = stage.forward(stage.inputs(batch) if first else comm.recv(comm.rank - 1).data, batch)
        # 2. the last rank has the loss; the others wait for the delta of their output
        if last:
            loss, d = stage.loss(z, batch, scale=1 / len(batch))
        else:
            comm.send(z.reshape(-1), comm.rank + 1)
            d = comm.recv(comm.rank + 1).data
        # 3. backward: the delta of the own input goes back to the rank before
        d = stage.backward(d, batch)
        if not first:
            comm.send(d.reshape(-1), comm.rank - 1)
        # 4. every rank updates its own layers; norms are over all of them
        head = comm.allreduce(stage.sign(t, len(batch) if last else 0, loss)[:HEAD])
        state.agree(head)
        optimizer.step(state.x, stage.g, schedule(t), among=comm)
        state.t = t + 1
        yield
