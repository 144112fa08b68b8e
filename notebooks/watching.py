"""Training runs whose gradients are kept, and iterates of a server: what the exercises' answers are compared with."""

from typing import NamedTuple

import numpy as np

import dsgd
from dsgd.network import Network
from dsgd.objectives import Quadratic
from dsgd.prepare import network
from dsgd.sampling import Batch


class Call(NamedTuple):
    """A gradient of a run: g (n,) = scale · Σ ∇L(x_i; θ) over `batch`, at θ = x (n,)."""

    batch: Batch
    x: np.ndarray
    g: np.ndarray
    scale: float


def watch(**flags):
    """(objective, [[Call of each worker]] by step, dsgd.Result) of a run in float64; workers have at least a sample a step."""
    config = dsgd.Config(**{"dtype": "float64", "hidden": "10"} | flags)
    objective, _ = network(config)
    steps, gradient = [], objective.gradient

    def watched(params, grads, batch, scale):
        loss = gradient(params, grads, batch, scale)
        while len(steps) <= batch.step:
            steps.append([])
        steps[batch.step].append(Call(batch, flat(params), flat(grads), scale))
        return loss

    objective.gradient = watched
    result = dsgd.run(config, objective=objective)
    for calls in steps:
        calls.sort(key=lambda call: call.batch.first)  # worker 0 has the first samples
    return objective, steps, result


def flat(views):
    """One vector (n,) of the arrays of a network, a copy."""
    return np.concatenate([view.ravel() for view in views.values()])


def tensors(objective, vector):
    """{name: array} of a vector (n,)."""
    return objective.layout.views(np.array(vector))


def by_tensor(objective, function):
    """The function, whose vector (n,) is cut into a tuple of the network's arrays; anything else is passed on."""

    def cut(*arguments):
        value = function(*arguments)
        whole = isinstance(value, np.ndarray) and value.shape == (objective.layout.size,)
        return tuple(tensors(objective, value).values()) if whole else value

    return cut


class Bowl(Quadratic):
    """½ x² for every sample: curvature 1, and no noise.   at: the x that gradients were computed on, in their order"""

    def __init__(self, samples):
        super().__init__(size=1, samples=samples)
        self.centres[:] = 0
        self.at = []

    def gradient(self, params, grads, batch, scale):
        self.at.append(float(params[0]))
        return super().gradient(params, grads, batch, scale)


def taking_turns(lr, tau, updates, consistency="asp", **options):
    """x_0 = 1, x_1, …: versions of x on a server of τ + 1 workers, which take turns, so that each push is τ updates late.

    Returns at least updates − τ of them, an array.
    """
    workers = tau + 1
    steps = -(-updates // workers)
    bowl = Bowl(workers * steps)
    world = {"network": Network(latency=0.0, bandwidth=float("inf")), "timing": lambda worker, step, flops: 1.0}
    spec = f"parameter-server:consistency={consistency}" + "".join(f",{key}={value}" for key, value in options.items())
    flags = {"optimizer": "sgd", "dtype": "float64", "batch_size": workers, "lr": lr, "steps": steps}
    dsgd.run(algorithm=spec, simulate=workers + 1, objective=bowl, world=world, **flags)
    return np.array(bowl.at[tau:] if consistency == "asp" else bowl.at[::workers])
