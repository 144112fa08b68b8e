"""Writes pytorch_schedules.json: the step sizes of torch.optim.lr_scheduler, for test_schedules.   Needs PyTorch.

python tests/frozen/pytorch_schedules.py
"""

import json
from math import sin
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")
LR, STEPS = 0.4, 80
SCHEDULES = {  # spec: (PyTorch's class, its options; None stands for the run: the steps behind the warm-up)
    "constant": ("ConstantLR", {"factor": 1.0}),
    "step:step_size=30": ("StepLR", {"step_size": 30}),
    "step:step_size=7,gamma=0.9": ("StepLR", {"step_size": 7, "gamma": 0.9}),
    "multi-step:milestones=20/50/51": ("MultiStepLR", {"milestones": [20, 50, 51]}),
    "multi-step:milestones=60,gamma=0.5": ("MultiStepLR", {"milestones": [60], "gamma": 0.5}),
    "exponential:gamma=0.97": ("ExponentialLR", {"gamma": 0.97}),
    "polynomial": ("PolynomialLR", {"total_iters": None}),
    "polynomial:total_iters=40,power=2.0": ("PolynomialLR", {"total_iters": 40, "power": 2.0}),
    "cosine": ("CosineAnnealingLR", {"T_max": None}),
    "cosine:T_max=50,eta_min=0.01": ("CosineAnnealingLR", {"T_max": 50, "eta_min": 0.01}),
}
WARMUPS = [0, 12]
PLATEAUS = {  # spec: ReduceLROnPlateau's options
    "plateau": {},
    "plateau:patience=3,factor=0.5": {"patience": 3, "factor": 0.5},
    "plateau:patience=0,cooldown=4": {"patience": 0, "cooldown": 4},
    "plateau:patience=1,factor=0.3,threshold=0.2,min_lr=0.01": {
        "patience": 1, "factor": 0.3, "threshold": 0.2, "min_lr": 0.01,
    },
    "plateau:patience=2,eps=0.03": {"patience": 2, "eps": 0.03},
}  # fmt: skip


def loss(period):
    """A training loss that falls, wavers and then stays."""
    return 2 / (1 + min(period, 40)) + 0.05 * sin(2.3 * period)


def sizes(torch, name, options, warmup):
    """η_0, …, η_{STEPS − 1} with the warm-up in front by SequentialLR."""
    from torch.optim import lr_scheduler as schedulers

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=LR)
    options = {key: STEPS - warmup if value is None else value for key, value in options.items()}
    schedule = getattr(schedulers, name)(optimizer, **options)
    if warmup:
        ramp = schedulers.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        schedule = schedulers.SequentialLR(optimizer, [ramp, schedule], milestones=[warmup])
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def reduced(torch, options):
    """The step size after each period's loss."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=LR)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
    found = []
    for period in range(STEPS):
        schedule.step(loss(period))
        found.append(optimizer.param_groups[0]["lr"])
    return found


def main():
    import warnings

    import torch

    warnings.simplefilter("ignore")  # SequentialLR calls step(0), which PyTorch warns of
    result = {"torch": torch.__version__}
    for spec, (name, options) in SCHEDULES.items():
        result |= {f"{spec} after {warmup}": sizes(torch, name, options, warmup) for warmup in WARMUPS}
    result |= {spec: reduced(torch, options) for spec, options in PLATEAUS.items()}
    FILE.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
