"""A pipeline (GPipe): the batch goes through the stages in micro-batches, so that the stages work at the same time.

    g = Σ_parts g_part; all forward passes first, then all backward passes

Reference: Huang et al. 2019 (arXiv 1811.06965).   Exact when: parts = 1 is model-parallel, to the bit.
"""

import numpy as np

from dsgd.algorithms.model_parallel import dealt
from dsgd.state import HEAD


def pipeline(comm, local, state, *, optimizer, schedule, steps, parts: int = 2):
    stage = local.stage(dealt(len(local.objective.layers), comm.size)[comm.rank], state.x)
    first, last = comm.rank == 0, comm.rank == comm.size - 1
    for t in range(state.t, steps):
        batch, deltas, loss, g = local.batch(t), [], 0, np.zeros_like(stage.g)
        B = len(batch)
        micro = [batch.part(B * i // parts, B * (i + 1) // parts) for i in range(parts)]
        micro = [part for part in micro if len(part)]
        for rows in micro:
            z = stage.forward(stage.inputs(rows) if first else comm.recv(comm.rank - 1).data, rows)
            if last:
                part, d = stage.loss(z, rows, scale=1 / B)
                loss, deltas = loss + part, deltas + [d]
            else:
                comm.send(z.reshape(-1), comm.rank + 1)
        for i, rows in enumerate(micro):
            d = stage.backward(deltas[i] if last else comm.recv(comm.rank + 1).data, rows)
            g += stage.g
            if not first:
                comm.send(d.reshape(-1), comm.rank - 1)
        stage.g[:] = g
        state.agree(comm.allreduce(stage.sign(t, B if last else 0, loss)[:HEAD]))
        optimizer.step(state.x, stage.g, schedule(t), among=comm)
        state.t = t + 1
        yield
