"""Writes pytorch_optimizers.json: trajectories of torch.optim in float64, for test_optimizers.   Needs PyTorch.

LARS and LAMB, which torch.optim does not have, are written out below from their papers, tensor by tensor.

python tests/frozen/pytorch_optimizers.py
"""

import json
from math import prod
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")
STEPS = 100
KEPT = [1, 2, 10, 50, 100]  # after these steps x is compared
SHAPES = {"W": (3, 2), "b": (2,), "V": (2, 1), "c": (1,)}  # the vector's arrays: LARS and LAMB go layer by layer
N = sum(map(prod, SHAPES.values()))
CURVATURE = np.linspace(0.1, 2, N)
ALL_OF_ADAM = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}
CASES = {  # name: (optimizer, its options under our names, lr)
    "sgd": ("sgd", {}, 0.05),
    "sgd weight decay": ("sgd", {"weight_decay": 0.1}, 0.05),
    "sgd momentum": ("sgd", {"momentum": 0.9}, 0.05),
    "sgd dampening": ("sgd", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}, 0.05),
    "sgd nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}, 0.05),
    "sgd nesterov weight decay": ("sgd", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1}, 0.05),
    "adagrad": ("adagrad", {}, 0.05),
    "adagrad options": (
        "adagrad",
        {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3},
        0.3,
    ),
    "rmsprop": ("rmsprop", {}, 0.01),
    "rmsprop centered": ("rmsprop", {"alpha": 0.9, "centered": True, "eps": 1e-3}, 0.01),
    "rmsprop momentum": ("rmsprop", {"momentum": 0.5, "weight_decay": 0.1}, 0.01),
    "rmsprop all": ("rmsprop", {"alpha": 0.95, "momentum": 0.5, "centered": True, "weight_decay": 0.1}, 0.01),
    "adam": ("adam", {}, 0.01),
    "adam weight decay": ("adam", {"weight_decay": 0.1}, 0.01),
    "adam amsgrad": ("adam", {"amsgrad": True}, 0.01),
    "adam options": ("adam", ALL_OF_ADAM, 0.01),
    "adamw": ("adamw", {}, 0.01),
    "adamw options": ("adamw", ALL_OF_ADAM, 0.01),
    "lars": ("lars", {}, 1.0),
    "lars options": ("lars", {"momentum": 0.5, "trust_coefficient": 0.02, "weight_decay": 0.1, "eps": 1e-3}, 0.5),
    "lamb": ("lamb", {}, 0.01),
    "lamb options": ("lamb", {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.0}, 0.05),
}
CLIP_NORMS = [0.5, 3.0, 1e3]  # of clip_grad_norm_, for the gradients at the start; the last one clips nothing


def start():
    """Array b begins at 0, where its norm is 0."""
    x = np.linspace(-1, 1, N) + 0.05
    x[6:8] = 0
    return x


def gradient(x, t):
    """Of a quadratic, with noise that is a function of t: pseudo-random, and the same wherever sin is.

    Those of b and V are 0 in the first two steps: b is still 0 when its gradient is not.
    """
    g = CURVATURE * x + np.sin(12.9898 * np.arange(N) + 78.233 * (t + 1))
    if t < 2:
        g[6:10] = 0
    return g


def lars(parameters, lr, momentum=0.9, trust_coefficient=0.001, weight_decay=0.0, eps=1e-8):
    """You, Gitman and Ginsburg 2017, algorithm 1: local rate times gradient and decay, momentum; η as in torch's SGD."""
    velocities = [p.clone().zero_() for p in parameters]

    def step():
        for w, v in zip(parameters, velocities):
            rate = 1.0
            if w.norm() > 0 and w.grad.norm() > 0:
                rate = trust_coefficient * w.norm() / (w.grad.norm() + weight_decay * w.norm() + eps)
            v.copy_(momentum * v + rate * (w.grad + weight_decay * w))
            w.sub_(lr * v)

    return step


def lamb(parameters, lr, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.01):
    """You et al. 2020, algorithm 2, φ the identity."""
    first, second = ([p.clone().zero_() for p in parameters] for _ in range(2))
    steps = 0

    def step():
        nonlocal steps
        steps += 1
        for x, m, v in zip(parameters, first, second):
            m.copy_(beta1 * m + (1 - beta1) * x.grad)
            v.copy_(beta2 * v + (1 - beta2) * x.grad**2)
            m_hat, v_hat = m / (1 - beta1**steps), v / (1 - beta2**steps)
            r = m_hat / (v_hat.sqrt() + eps)
            u = r + weight_decay * x
            ratio = x.norm() / u.norm() if x.norm() > 0 and u.norm() > 0 else 1.0
            x.sub_(lr * ratio * u)

    return step


def stepper(torch, name, parameters, lr, options):
    """A function that makes one step of PyTorch's optimizer."""
    if name in ("lars", "lamb"):
        return {"lars": lars, "lamb": lamb}[name](parameters, lr, **options)
    options = dict(options)
    if name in ("adam", "adamw"):
        options["betas"] = options.pop("beta1", 0.9), options.pop("beta2", 0.999)
    classes = {"sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW"}
    return getattr(torch.optim, classes[name])(parameters, lr=lr, **options).step


def tensors(torch, flat):
    """The vector's arrays, each a tensor of its own."""
    ends = np.cumsum([prod(shape) for shape in SHAPES.values()])[:-1]
    return [torch.tensor(part.reshape(shape)) for part, shape in zip(np.split(flat, ends), SHAPES.values())]


def trajectory(torch, name, options, lr):
    parameters = tensors(torch, start())
    step, kept = stepper(torch, name, parameters, lr, options), []
    for t in range(STEPS):
        x = np.concatenate([p.numpy().reshape(-1) for p in parameters])
        for p, g in zip(parameters, tensors(torch, gradient(x, t))):
            p.grad = g
        step()
        if t + 1 in KEPT:
            kept.append([value for p in parameters for value in p.reshape(-1).tolist()])
    return kept


def clipped(torch, clip_norm):
    """[norm, the clipped gradient] of clip_grad_norm_."""
    parameters = tensors(torch, start())
    for p, g in zip(parameters, tensors(torch, gradient(start(), 5))):
        p.grad = g
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    return [norm.item(), [value for p in parameters for value in p.grad.reshape(-1).tolist()]]


def main():
    import torch

    result = {"torch": torch.__version__} | {case: trajectory(torch, *values) for case, values in CASES.items()}
    result |= {f"clip {clip_norm}": clipped(torch, clip_norm) for clip_norm in CLIP_NORMS}
    FILE.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
