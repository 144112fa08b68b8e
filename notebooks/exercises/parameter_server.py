"""Checks of the exercises of notebook 5."""

import numpy as np

import dsgd
from checking import check_calls
from dsgd import order
from watching import taking_turns

ASP = "parameter-server:consistency=asp"


def staleness_of(function):
    """The age of each push of an asynchronous run with three workers."""
    result = dsgd.run(simulate=4, algorithm=ASP, steps=6, optimizer="sgd", lr=0.02)
    ages = zip(result.order, order.staleness(result.order))
    steps = [{worker: ((pulled, into), {"staleness": np.float64(age)})} for (worker, _, pulled, into), age in ages]
    return check_calls("staleness_of", function, steps, rtol=0)


def next_x(function):
    """The iterates of a real server whose workers take turns, on ½ x²: eight steps each for τ = 0, 1 and 3."""
    steps, lr = [], 0.3
    for tau in (0, 1, 3):
        x = taking_turns(lr, tau, updates=12)
        steps += [{"": ((x[: t + 1], lr, tau), {f"x_{t + 1} for τ = {tau}": x[t + 1]})} for t in range(8)]
    return check_calls("next_x", function, steps)


def weigh(function):
    """What staleness=divide makes of pushes: the iterates of a real server on ½ x² again, whose gradient is x."""
    steps, lr, tau = [], 0.3, 3
    x = taking_turns(lr, tau, updates=12, staleness="divide")
    for t in range(8):
        age = min(t, tau)
        g = x[t - age]
        steps.append({"": ((g, age), {"weighed gradient": (x[t] - x[t + 1]) / lr})})
    return check_calls("weigh", function, steps)


EXERCISES = {"staleness_of": staleness_of, "next_x": next_x, "weigh": weigh}
