"""The step size η_t as a function of the step t, with PyTorch's names and numbers; everything is counted in steps.

A schedule returns a Python float: a NumPy float64 would widen float32.  "The run" is its steps behind the warm-up.
"""

from math import cos, inf, pi

from dsgd.errors import UsageError
from dsgd.specs import parse


def refuse(schedule, option, value, reason):
    """Raise what is wrong with an option."""
    raise UsageError(f"schedule {schedule}: {option}={value} {reason}")


def fraction(schedule, **options):
    """Refuse a factor outside of (0, 1]."""
    for option, value in options.items():
        if not 0 < value <= 1:
            refuse(schedule, option, value, "is not in (0, 1]")


def not_negative(schedule, **options):
    """Refuse a number under 0."""
    for option, value in options.items():
        if not 0 <= value < inf:
            refuse(schedule, option, value, "must be 0 or more")


def constant(lr, steps=None):
    """η_t = η"""
    lr = float(lr)
    return lambda t: lr


def step(lr, steps=None, *, step_size: int = None, gamma: float = 0.1):
    """η_t = η γ^⌊t / step_size⌋

    Reference: PyTorch's StepLR; step_size: the steps from one cut to the next.

    >>> eta = step(0.1, step_size=100)
    >>> eta(99), round(eta(100), 6)
    (0.1, 0.01)
    """
    if step_size < 1:
        refuse("step", "step_size", step_size, "is no number of steps, as in --schedule step:step_size=300")
    fraction("step", gamma=gamma)
    return lambda t: lr * gamma ** (t // step_size)


def multi_step(lr, steps=None, *, milestones: str = None, gamma: float = 0.1):
    """η_t = η γ^(number of milestones that are ≤ t)

    Reference: PyTorch's MultiStepLR; milestones are steps, in rising order: 300/600/800.

    >>> eta = multi_step(1.0, milestones="300/600", gamma=0.5)
    >>> eta(299), eta(300), eta(600)
    (1.0, 0.5, 0.25)
    """
    try:
        marks = [int(mark) for mark in milestones.split("/")]
    except ValueError:
        marks = []
    if not marks or marks[0] < 1 or any(b <= a for a, b in zip(marks, marks[1:])):
        refuse(
            "multi-step",
            "milestones",
            milestones,
            "must be rising steps, as in --schedule multi-step:milestones=300/600",
        )
    fraction("multi-step", gamma=gamma)
    return lambda t: lr * gamma ** sum(mark <= t for mark in marks)


def exponential(lr, steps=None, *, gamma: float = None):
    """η_t = η γᵗ

    Reference: PyTorch's ExponentialLR; γ is per step.
    """
    fraction("exponential", gamma=gamma)
    return lambda t: lr * gamma**t


def polynomial(lr, steps, *, total_iters: int = 0, power: float = 1.0):
    """η_t = η (1 − min(t, T) / T)^power

    Reference: PyTorch's PolynomialLR; T is total_iters, by default the run.
    """
    not_negative("polynomial", total_iters=total_iters, power=power)
    total = total_iters or steps
    return lambda t: lr * (1 - min(t, total) / total) ** power


def cosine(lr, steps, *, T_max: int = 0, eta_min: float = 0.0):
    """η_t = η_min + (η − η_min) (1 + cos(π t / T)) / 2

    Reference: Loshchilov and Hutter 2017 (arXiv 1608.03983), eq. 5, without restarts; PyTorch's CosineAnnealingLR.  T is
    T_max, by default the run; behind it η_t rises again.

    >>> eta = cosine(0.1, steps=200)
    >>> eta(0), eta(100), eta(200)
    (0.1, 0.05, 0.0)
    """
    not_negative("cosine", T_max=T_max, eta_min=eta_min)
    half = T_max or steps
    return lambda t: eta_min + (lr - eta_min) * (1 + cos(pi * t / half)) / 2


class Plateau:
    """η ← max(factor · η, min_lr) when the mean loss has not fallen for more than `patience` periods running

    A loss has fallen if it is under (1 − threshold) · the least so far.  A cut is followed by `cooldown` periods that
    are not counted; one of less than eps is not made.  A period is an epoch, or --log-every steps.

    Reference: PyTorch's ReduceLROnPlateau (mode min, relative threshold).
    """

    def __init__(
        self,
        lr,
        steps=None,
        *,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ):
        if not 0 < factor < 1:
            refuse("plateau", "factor", factor, "is not in (0, 1)")
        not_negative("plateau", patience=patience, threshold=threshold, cooldown=cooldown, min_lr=min_lr, eps=eps)
        self.factor, self.patience, self.threshold = factor, patience, threshold
        self.cooldown, self.min_lr, self.eps = cooldown, min_lr, eps
        self.lr, self.best, self.bad, self.resting = lr, inf, 0, 0

    def __call__(self, t):
        return self.lr

    def observe(self, loss):
        """The end of a period; loss: its mean training loss, the same number on all ranks."""
        if loss < self.best * (1 - self.threshold):
            self.best, self.bad = float(loss), 0
        else:
            self.bad += 1
        if self.resting:
            self.resting, self.bad = self.resting - 1, 0
        if self.bad > self.patience:
            reduced = max(self.lr * self.factor, self.min_lr)
            if self.lr - reduced > self.eps:
                self.lr = reduced
            self.resting, self.bad = self.cooldown, 0

    @property
    def state(self):
        """All that a checkpoint needs, for JSON; `best` is None as long as no loss was seen."""
        return {
            "lr": self.lr,
            "best": None if self.best == inf else self.best,
            "bad": self.bad,
            "resting": self.resting,
        }

    @state.setter
    def state(self, state):
        self.lr, self.bad, self.resting = state["lr"], state["bad"], state["resting"]
        self.best = inf if state["best"] is None else state["best"]


SCHEDULES = {  # in order of increasing complexity
    "constant": constant,
    "step": step,
    "multi-step": multi_step,
    "exponential": exponential,
    "polynomial": polynomial,
    "cosine": cosine,
    "plateau": Plateau,
}


class Schedule:
    """η_t: a linear warm-up, η (t + 1)/W for the first W steps, then a schedule counted from 0.

    Reference: Goyal et al. 2017 (arXiv 1706.02677), section 2.2, of the warm-up.

    Attributes:
        plateau: the Plateau that has to observe each period's loss, or None.
    """

    def __init__(self, after, lr, warmup):
        self.after, self.lr, self.warmup = after, lr, warmup
        self.plateau = after if isinstance(after, Plateau) else None

    def __call__(self, t):
        """η_t, a Python float."""
        return self.lr * (t + 1) / self.warmup if t < self.warmup else self.after(t - self.warmup)


def make_schedule(spec, *, lr, steps, warmup=0):
    """The Schedule that a spec names.

    Args:
        spec: "cosine:eta_min=0.001"; options are in steps.
        lr: η, before any schedule.
        steps: of the run, the `warmup` steps included.
    Raises:
        UsageError: an unknown name, or an option out of range.

    >>> eta = make_schedule("cosine", lr=0.1, steps=110, warmup=10)
    >>> [round(eta(t), 4) for t in (0, 4, 9, 10, 60)]
    [0.01, 0.05, 0.1, 0.1, 0.05]
    """
    name, options = parse(spec, SCHEDULES, "--schedule")
    lr = float(lr)
    return Schedule(SCHEDULES[name](lr, max(1, steps - warmup), **options), lr, warmup)


def spans_run(spec):
    """Whether η_t depends on the number of steps, so that a run resumed with other steps would not be the same run."""
    _, options = parse(spec, SCHEDULES, "--schedule")
    return 0 in (options.get("T_max"), options.get("total_iters"))
