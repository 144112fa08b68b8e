"""Checks of the notebooks' exercises: the first wrong step, worker and tensor is named, and what it should have been.

An exercise is a function that a reader writes.  Its check calls it, and compares what it did with what the project does.
"""

import numpy as np


def compare(title, expected, got, rtol=1e-10):
    """Print whether `got` is `expected`, and where they part first; returns whether it is.

    Args:
        expected, got: one entry a step, each {worker or "": {tensor: array}}, "" where there are no workers.
        rtol: largest difference, of the largest number of the tensor; 0 asks for the same bits.
    """
    problem = next(_differences(expected, got, rtol), None)
    print(f"{title}: " + (f"not yet. {problem}" if problem else "right."))
    return problem is None


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
    made = np.asarray(made)
    if made.shape != right.shape:
        return f"its shape is {made.shape}, not {right.shape}."
    wrong = np.abs(made - right) > rtol * np.abs(right).max(initial=0.0)
    wrong |= np.isnan(made) != np.isnan(right)
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"[{', '.join(map(str, at))}] " if at else ""
    return f"{wrong.sum()} of {right.size} numbers are wrong, the first {place}is {made[at]:.8g}, not {right[at]:.8g}."
