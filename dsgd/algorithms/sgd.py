"""Centralised training, the reference that the others are measured against.

    g = ∇L(θ) = (1/m) Σ ∇L(x_i; θ)        θ ← θ − η g

Reference: Robbins and Monro 1951; Bottou, Curtis and Nocedal 2018 (arXiv 1606.04838), section 3.
Exact when: always; it is the definition.
"""


def sgd(comm, local, state, *, optimizer, schedule, steps):
    """One process, all the data."""
    for t in range(state.t, steps):
        g = state.agree(local.gradient(state.x, t, scale=1 / local.samples(t)))
        optimizer.step(state.x, g, schedule(t))
        state.t = t + 1
        yield
