"""What may change while a run goes on.

    lr       x ← x − lr · η_t g         a factor of the schedule's step size
    bound    of ssp and sampled         how far a worker may be ahead of the others
    shares   m_i ≈ m s_i / Σ_j s_j      how global batches are split over the workers: m stays, and the average with it

Reference: Chen et al. 2018 (arXiv 1806.02508), LB-BSP, batches sized at the border of a step.
Exact when: shares change: bsp is sgd on the same global batches, to rounding.
"""

import math

import numpy as np


def unsettable(name, bound, splits):
    """Why a setting cannot be changed, or None.   bound: the model's, or None; splits: whether batches can be split anew"""
    if name not in SETTINGS:
        return f"there is no setting {name!r}, but {', '.join(SETTINGS)}"
    if name == "bound" and bound is None:
        return "only consistency=ssp and sampled have a bound="
    if name == "shares" and not splits:
        return "the data stay on the workers, so that no batch can be split anew; use --partition shuffled"
    return None


def _lr(value, workers):
    if not 0 < float(value) < math.inf:
        raise ValueError(f"lr={value} is no factor over 0")
    return float(value)


def _bound(value, workers):
    if not float(value).is_integer() or value < 0:
        raise ValueError(f"bound={value} is no whole number from 0 on")
    return int(value)


def _shares(value, workers):
    shares = np.array(value, np.float64)
    if shares.shape != (workers,) or not (shares > 0).all() or not np.isfinite(shares.sum()):
        raise ValueError(f"shares={np.array2string(shares, threshold=8)} are not {workers} finite numbers over 0")
    return (shares / shares.sum()).tolist()


SETTINGS = {"lr": _lr, "bound": _bound, "shares": _shares}


def check_settings(settings, workers):
    """{name: value} as they are kept.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: for what is no setting, or no value of it.
    """
    return {name: SETTINGS[name](value, workers) for name, value in dict(settings).items()}


def pack(settings, workers):
    """(2 + N,) float64 of {name: value}, NaN where nothing is set: for checkpoints."""
    row = np.full(2 + workers, math.nan)
    row[0], row[1] = settings.get("lr", math.nan), settings.get("bound", math.nan)
    row[2:] = settings.get("shares", math.nan)
    return row


def unpack(row):
    """{name: value} of a packed row; {} of None."""
    if row is None:
        return {}
    lr, bound, *shares = row.tolist()
    settings = {"lr": lr, "bound": None if math.isnan(bound) else int(bound), "shares": shares}
    return {k: v for k, v in settings.items() if v is not None and not np.isnan(v).any()}
