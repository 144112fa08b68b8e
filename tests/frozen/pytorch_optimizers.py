"""Writes pytorch_optimizers.json: trajectories of torch.optim in float64, for test_optimizers.   Needs PyTorch.

python tests/frozen/pytorch_optimizers.py
"""

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")
STEPS = 100
KEPT = [1, 2, 10, 50, 100]  # after these steps x is compared
CASES = {  # name: (optimizer, its options under our names, lr)
    "sgd": ("sgd", {"momentum": 0.0}, 0.05),
    "sgd momentum 0.9": ("sgd", {"momentum": 0.9}, 0.05),
    "adam": ("adam", {}, 0.01),
    "adam beta1 0.8 beta2 0.95 eps 1e-3": ("adam", {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}, 0.01),
}
N = 8
CURVATURE = np.linspace(0.1, 2, N)


def start():
    return np.linspace(-1, 1, N) + 0.05


def gradient(x, t):
    """Of a quadratic, with noise that is a function of t: pseudo-random, and the same wherever sin is."""
    return CURVATURE * x + np.sin(12.9898 * np.arange(N) + 78.233 * (t + 1))


def trajectory(torch, name, options, lr):
    x = torch.tensor(start(), dtype=torch.float64)
    if name == "sgd":
        optimizer = torch.optim.SGD([x], lr=lr, **options)
    else:
        betas = options.get("beta1", 0.9), options.get("beta2", 0.999)
        optimizer = torch.optim.Adam([x], lr=lr, betas=betas, eps=options.get("eps", 1e-8))
    kept = []
    for t in range(STEPS):
        x.grad = torch.from_numpy(gradient(x.numpy().copy(), t))
        optimizer.step()
        if t + 1 in KEPT:
            kept.append(x.tolist())
    return kept


def main():
    import torch

    result = {"torch": torch.__version__} | {case: trajectory(torch, *values) for case, values in CASES.items()}
    FILE.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
