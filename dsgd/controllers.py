"""Controllers: what changes the settings of a parameter server while it trains.

A controller is a function (records so far) → {setting: value}, called on the first server after every step, where a
step is an update by rounds, or N pushes; {} or None changes nothing.  `--controller NAME:...` takes one of these, and
`dsgd.run(controller=function)` any other.  It must decide from the records alone: then a resumed run goes on as it would have.

A record has "step", "time" (s, virtual or since the start), "loss" (mean over the samples applied), "staleness" (mean);
per worker, arrays (N,): "seconds" from an answer to its push, "samples" in these pushes, "waited" (s) for answers; and the
settings that held: "lr", "bound" (None where there is none), "shares" (N,).  The last 100 records are kept.

What may be set: "lr", a factor of the schedule's step size; "bound", of consistency=ssp and sampled; "shares", N numbers
over 0, in whose proportions each global batch is split.
"""

from typing import NamedTuple

import numpy as np

from dsgd.errors import UsageError
from dsgd.specs import parse


def balance(*, clocks: int = 3, deadband: float = 0.05):
    """s_i ∝ samples_i / seconds_i over the last `clocks` steps, so that all workers take as long

    Reference: Tyagi and Sharma 2020 (arXiv 2305.12213), its dead band; Chen et al. 2018 (arXiv 1806.02508), LB-BSP
    """
    _least("balance", 1, clocks=clocks)
    _least("balance", 0, deadband=deadband)

    def control(records):
        last = records[-clocks:]
        seconds = sum(record["seconds"] for record in last)
        now, heard = last[-1]["shares"], seconds > 0  # who has pushed nothing keeps its share
        # a part of no sample tells of no speed: as if it had been one
        speed = np.maximum(sum(record["samples"] for record in last), 1)[heard] / seconds[heard]
        shares = np.array(now)
        shares[heard] = now[heard].sum() * speed / speed.sum()
        return {"shares": shares} if (abs(shares - now) > deadband * now).any() else {}

    return control


def step_size(*, clocks: int = 10):
    """lr = 1 / max(1, mean staleness), every `clocks` steps, over as many

    Reference: Zhang et al. 2016 (arXiv 1511.05950), eq. 6, for all pushes alike
    """
    _least("step-size", 1, clocks=clocks)

    def control(records):
        if records[-1]["step"] % clocks:
            return {}
        return {"lr": 1 / max(1.0, _mean(records[-clocks:], "staleness"))}

    return control


def bound(*, clocks: int = 5, waiting: float = 0.3, most: int = 100):
    """every `clocks` steps: halved if the mean loss rose, else 1 more if workers waited for over `waiting` of their time

    Reference: Zhao et al. 2019 (arXiv 1908.11848), a bound that follows the waiting; Chiu and Jain 1989, up by 1, down by half
    """
    _least("bound", 1, clocks=clocks)
    _least("bound", 0, waiting=waiting, most=most)

    def control(records):
        before, last = records[-2 * clocks : -clocks], records[-clocks:]
        if records[-1]["step"] % clocks or len(before) < clocks:
            return {}
        now = last[-1]["bound"]
        if _mean(last, "loss") > _mean(before, "loss"):
            return {"bound": now // 2}
        waited, worked = (sum(record[what].sum() for record in last) for what in ("waited", "seconds"))
        return {"bound": max(now, min(now + 1, most))} if waited > waiting * (waited + worked) else {}

    return control


def _mean(records, name):
    return sum(record[name] for record in records) / len(records)


def _least(name, least, **values):
    for key, value in values.items():
        if not least <= value < float("inf"):
            raise UsageError(f"--controller {name}: {key}={value} must be at least {least}")


class Controller(NamedTuple):
    make: object  # (**options) -> controller
    sets: str


CONTROLLERS = {
    "balance": Controller(balance, "shares"),
    "step-size": Controller(step_size, "lr"),
    "bound": Controller(bound, "bound"),
}


def make_controller(spec):
    """(what it sets, controller) of a spec; None of none.

    Raises:
        UsageError: an unknown name, or an option out of range.

    >>> setting, control = make_controller("step-size:clocks=10")
    >>> setting
    'lr'
    """
    if not spec:
        return None
    name, options = parse(spec, CONTROLLERS, "--controller", schema=lambda part: part.make)
    return CONTROLLERS[name].sets, CONTROLLERS[name].make(**options)
