"""Checks of the notebooks' exercises: the first wrong step, worker and tensor is named, and what it should have been.

An exercise is a function that a reader writes.  Its check calls it, and compares what it did with what the project does.
An answer that raises, or is still missing, is reported like any other that is not right yet.
"""

from contextlib import suppress
from reprlib import repr as shorten

import numpy as np

from dsgd.simulator import Deadlock, simulate


def compare(title, expected, got, rtol=1e-10):
    """Print whether `got` is `expected`, and where they part first; returns whether it is.

    Args:
        expected, got: one entry a step, each {worker or "": {tensor: array}}, "" where there are no workers.
        rtol: largest difference, of the largest number of the tensor; 0 asks for the same bits.
    """
    problem = next(_differences(expected, got, rtol), None)
    print(f"{title}: " + (f"not yet. {problem}" if problem else "right."))
    return problem is None


def check_calls(title, function, steps, rtol=1e-10):
    """Call the reader's function with what a run had at hand, and compare what it returns; returns whether it is right.

    Args:
        steps: one entry a step, {worker or "": (arguments, {tensor: what is right})}; the function returns one array,
            or a tuple of them in the order of the tensors.  It is given copies of the arrays.
    """
    got = [
        {worker: _named(right, _attempt(function, *arguments)) for worker, (arguments, right) in calls.items()}
        for calls in steps
    ]
    return compare(title, _rights(steps), got, rtol)


def check_ranks(title, function, steps, rtol=1e-10):
    """The same for function(comm, *arguments), called on all ranks of a simulated world, where it may communicate.

    Args:
        steps: as in check_calls; the workers are the ranks 0, 1, ..., and all of them are in each step.
    """
    got = [{} for _ in steps]

    def program(comm):
        for calls, made in zip(steps, got):
            arguments, right = calls[comm.rank]
            value = _attempt(function, comm, *arguments)
            made[comm.rank] = _named(right, value)
            if isinstance(value, Exception):
                raise value

    with suppress(Exception):  # it is in `got`; ranks that waited for the one that raised are not to blame
        try:
            simulate(program, len(steps[0]))
        except Deadlock as error:
            unfinished = next(made for made in got if len(made) < len(steps[0]))
            unfinished |= {rank: _named(steps[0][rank][1], error) for rank in steps[0].keys() - unfinished.keys()}
    there = [{rank: calls[rank] for rank in sorted(made)} for calls, made in zip(steps, got) if made]
    return compare(title, _rights(there), got[: len(there)], rtol)


def _rights(steps):
    return [{worker: right for worker, (_, right) in calls.items()} for calls in steps]


def _named(right, value):
    """{tensor: array} of what a function returned; an exception stands for all of them."""
    if isinstance(value, tuple):
        return dict(zip(right, value))
    return dict.fromkeys(right, value) if isinstance(value, Exception) else {next(iter(right)): value}


def _attempt(function, *arguments):
    """What the reader's function returns, or the exception that it raises."""
    try:
        return function(*map(_copy, arguments))
    except Exception as error:  # any: it is somebody's first attempt
        return error
    except SystemExit:
        return RuntimeError("it called exit()")


def _copy(argument):
    return argument.copy() if isinstance(argument, np.ndarray) else argument


def _differences(expected, got, rtol):
    """Yields a sentence for each tensor that is missing or wrong, in the order of steps, workers and tensors."""
    if not isinstance(got, (list, tuple)) or len(got) != len(expected):
        found = f"{len(got)} steps" if isinstance(got, (list, tuple)) else f"{type(got).__name__}"
        yield f"Wanted a list of {len(expected)} steps, found {found}."
        return
    for step, (right, made) in enumerate(zip(expected, got), 1):
        for worker, tensors in right.items():
            for name, tensor in tensors.items():
                where = f"Step {step}, " + (f"worker {worker}, " if worker != "" else "") + f"{name}: "
                reason = _reason(np.asarray(tensor), made.get(worker, {}).get(name), rtol)
                if reason:
                    yield where + reason


def _reason(right, made, rtol):
    """Why a tensor is wrong; None if it is not."""
    if made is None:
        return "it is missing."
    if isinstance(made, Exception):
        return f"it raised {type(made).__name__}: {made}"
    given = made
    try:
        made = np.asarray(given)
    except Exception:  # rows of unequal lengths, or whatever an object says
        return f"it is no array, but {shorten(given)}."
    if made.dtype.kind not in "biuf":
        return f"it is no array of numbers, but {shorten(given)}."
    if made.shape != right.shape:
        return f"its shape is {made.shape}, not {right.shape}."
    wrong = np.abs(made - right) > rtol * np.abs(right).max(initial=0.0)
    wrong |= np.isnan(made) != np.isnan(right)
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    found = f"is {made[at]:.8g}, not {right[at]:.8g}."
    return (
        f"{wrong.sum()} of {right.size} numbers are wrong, the first, [{', '.join(map(str, at))}], {found}"
        if at
        else f"it {found}"
    )
