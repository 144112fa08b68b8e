"""What this process's rank is doing: its communicators note it, the watchdog's thread reads it."""

from functools import wraps


class Activity:
    """One for all communicators of the process.

    Attributes:
        calls: of the communicators, entered and left; while it grows the rank makes progress.
        doing: (what, which) of the call under way, None outside.  last: of the last call.
        step: the step that was computed last, from 1; None before.
        lost: ranks that were given up: nobody waits for them, and this job has to be ended for them.
        over: whether the ranks are done with each other; what a rank does then takes as long as it takes.
    """

    def __init__(self):
        self.calls, self.doing, self.last, self.step = 0, None, None, None
        self.lost = set()
        self.over = False

    def describe(self, still):
        """What comes after "rank 1 ".   still: seconds without progress"""
        doing, last, step = self.doing, self.last, "" if self.step is None else f", step {self.step}"
        if doing:
            return f"waits in {doing[0]} {doing[1]}{step}"
        after = f", after {last[0]} {last[1]}{step}" if last else ""
        return f"has been in no communicator call for {still:.0f} s{after}"


ACTIVITY = Activity()


class noting:
    """with noting("allreduce", 37): the rank is in this call, which may wait, or in one of which it is a part."""

    __slots__ = ("now", "before")

    def __init__(self, what, which):
        self.now = (what, which)

    def __enter__(self):
        self.before = ACTIVITY.doing
        if self.before is None:
            ACTIVITY.doing = ACTIVITY.last = self.now
        ACTIVITY.calls += 1

    def __exit__(self, *_):
        ACTIVITY.doing = self.before
        ACTIVITY.calls += 1


def noted(method):
    """A collective of a communicator, which numbers it and notes that the rank is in it."""
    kind = method.__name__

    @wraps(method)
    def call(self, *arguments, **options):
        self.number += 1
        with noting(kind, self.number):
            return method(self, *arguments, **options)

    return call
