"""Top-k with error feedback: only the k largest elements travel, the rest is remembered.

    p_i = e_i + g_i;   x ← x − η Σ_i top_k(p_i);   e_i ← p_i − top_k(p_i)

Reference: Stich et al. 2018 (arXiv 1809.07599), algorithm 1.   Exact when: ratio = 1 is data-parallel.
"""

import numpy as np

from dsgd.collectives import tree_sum
from dsgd.state import HEAD


def top_k(comm, local, state, *, optimizer, schedule, steps, ratio: float = 0.1):
    residual = state.own.setdefault("residual", np.zeros_like(state.x))
    k = max(1, round(ratio * len(residual)))
    for t in range(state.t, steps):
        packet = local.gradient(state.x, t, scale=1 / local.samples(t))
        residual += packet[HEAD:]
        kept = np.argsort(-np.abs(residual), kind="stable")[:k].astype(np.int64)
        values = comm.allgather(np.concatenate([packet[:HEAD], residual[kept]]))
        places = comm.allgather(kept)
        residual[kept] = 0
        parts = [np.zeros_like(packet) for _ in values]
        for part, value, place in zip(parts, values, places):
            part[:HEAD] = value[:HEAD]
            part[HEAD + place] = value[HEAD:]
        optimizer.step(state.x, state.agree(tree_sum(parts, out=comm.empty(len(packet)))), schedule(t))
        state.t = t + 1
        yield
