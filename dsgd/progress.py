"""The mean training loss of each period, on every rank alike, and what follows from it: a schedule's plateau, the end.

The loss of a step rides with its gradient, so all ranks have the same numbers and decide the same in the same step.
A period is an epoch, or --log-every steps.
"""

KEPT = ("samples", "loss", "best", "stalled", "converged", "raised", "diverged")
DIVERGED = 10.0  # times the best mean loss


class Progress:
    """Converged: the mean loss of a period was not below the best one so far by more than `tolerance`, `patience` times
    in a row; never with patience 0.  Diverged: it was over 10 times the best one so far, `divergence` times in a row.

    Args:
        period: steps in a period.  schedule: schedules.Schedule, whose plateau is told each mean loss behind the warm-up.

    >>> from dsgd.schedules import make_schedule
    >>> progress = Progress(period=1, schedule=make_schedule("constant", lr=0.1, steps=9), tolerance=0.01, patience=2)
    >>> for step, loss in enumerate((2.0, 1.0, 1.0, 0.995), 1):
    ...     progress.read([(1, loss)], step)
    >>> progress.ended
    'convergence'
    """

    def __init__(self, period, schedule, tolerance=0.0, patience=0, divergence=0):
        self.period, self.plateau, self.warmup = period, schedule.plateau, schedule.warmup
        self.tolerance, self.patience, self.divergence = tolerance, patience, divergence
        self.samples, self.loss = 0, 0.0  # since the period began
        self.best, self.stalled, self.converged = float("inf"), 0, False
        self.raised, self.diverged = 0, False

    @property
    def needed(self):
        return bool(self.patience or self.plateau or self.divergence)

    @property
    def ended(self):
        """What ends the run: "convergence", "divergence", or None."""
        return "convergence" if self.converged else "divergence" if self.diverged else None

    def read(self, heads, step):
        """Take in the agreed numbers of the step that was just done, the last of `heads`."""
        samples, loss, *_ = heads[-1]
        self.samples, self.loss = self.samples + int(samples), self.loss + loss
        if step % self.period:
            return
        mean, self.samples, self.loss = self.loss / self.samples, 0, 0.0
        if self.plateau and step > self.warmup:
            self.plateau.observe(mean)
        self.raised = self.raised + 1 if mean > DIVERGED * self.best else 0
        self.diverged = bool(self.divergence) and self.raised >= self.divergence
        self.stalled = 0 if mean < self.best - self.tolerance else self.stalled + 1
        self.best = min(self.best, mean)
        self.converged = bool(self.patience) and self.stalled >= self.patience

    @property
    def state(self):
        """For a checkpoint: JSON values."""
        kept = {key: getattr(self, key) for key in KEPT}
        kept["best"] = None if self.best == float("inf") else self.best
        return kept | {"plateau": self.plateau.state if self.plateau else None}

    @state.setter
    def state(self, saved):
        for key in KEPT:
            setattr(self, key, saved.get(key, getattr(self, key)))  # older checkpoints know less
        self.best = float("inf") if self.best is None else self.best
        if self.plateau:
            self.plateau.state = saved["plateau"]
