"""How long a gradient takes on the virtual clock: `--compute NAME:option=value,...`.

Every draw is a function of (seed, worker, number of the gradient), never of who drew first: a hash, made uniform in
(0, 1), through the inverse of the distribution function.  A gradient's number is that of its batch, which a worker
computes once, abandoned or not; so a resumed run goes on with the draws of an unbroken one.

Reference: Devroye 1986, "Non-Uniform Random Variate Generation", chapter 2 (inversion); Dean and Barroso 2013, "The
tail at scale", for stragglers that come and go.
"""

import inspect
import time
from math import exp, log
from statistics import NormalDist, median

import numpy as np

from dsgd.arrays import chance
from dsgd.errors import DataError, UsageError
from dsgd.specs import parse

SPEED = 10e9  # flop/s of one worker
MEASURED = 5  # gradients


# --- the models: (seed, workers, *, options) -> seconds(worker, number, flops)


def flops(seed, workers, *, speed: float = SPEED):
    """its operations / `speed` (flop/s)"""
    return lambda worker, number, flops: flops / speed


def constant(seed, workers, *, seconds: float = None):
    """the same for all"""
    return lambda worker, number, flops: seconds


def exponential(seed, workers, *, mean: float = None):
    """−mean · ln u"""
    return lambda worker, number, flops: -mean * log(chance("compute", seed, worker, number))


def lognormal(seed, workers, *, mean: float = None, sigma: float = None):
    """mean · exp(σ z − σ²/2), z standard normal"""
    normal = NormalDist(log(mean) - sigma**2 / 2, sigma)
    return lambda worker, number, flops: exp(normal.inv_cdf(chance("compute", seed, worker, number)))


def pareto(seed, workers, *, mean: float = None, alpha: float = None):
    """mean · (1 − 1/α) · u^(−1/α): a heavy tail, of infinite variance for α ≤ 2; α > 1"""
    least = mean * (1 - 1 / alpha)
    return lambda worker, number, flops: least * chance("compute", seed, worker, number) ** (-1 / alpha)


def trace(seed, workers, *, file: str = None):
    """what a text file says, in s: a line for each gradient, one column for all workers or one for each (separated by
    commas or spaces); beyond its end it starts over
    """
    rows = read_seconds(file)
    if len(rows[0]) not in (1, workers):
        raise DataError(file, f"has {len(rows[0])} columns, and there are {workers} workers; one column serves all")
    return lambda worker, number, flops: rows[number % len(rows)][worker if len(rows[0]) > 1 else 0]


def measured(seed, workers):
    """its operations at the speed of this machine, from a few real gradients at the start, so that no two runs need agree;
    config.json keeps the speed as flops:speed=…, which does it again
    """
    raise UsageError("--compute measured has to be measured first")  # prepare.py replaces it: see calibrate


COMPUTE = {f.__name__: f for f in (flops, constant, exponential, lognormal, pareto, trace, measured)}
ABOVE = {"speed": 0, "seconds": 0, "mean": 0, "sigma": 0, "alpha": 1}  # what an option must be above


def common(*, factors: str = "1", stragglers: float = 0.0, slowdown: float = 10.0):
    """The options of all models: worker i takes factors[i] times as long, and any gradient, with probability
    `stragglers`, `slowdown` times.   factors: 1/1/4, one for each worker; one alone for all
    """


def schema(model):
    """A function with the options of a model and those of all."""

    def options():
        pass

    parts = [p for f in (model, common) for p in inspect.signature(f).parameters.values() if p.kind is p.KEYWORD_ONLY]
    options.__signature__ = inspect.Signature(parts)
    return options


def parse_compute(spec):
    """(name, the model's options, those of all) of a spec.

    Raises:
        UsageError: an unknown name or option, or a value that cannot be.
    """
    name, values = parse(spec, COMPUTE, "--compute", schema=schema)
    for key, value in values.items():
        if key in ABOVE and not ABOVE[key] < value < float("inf"):
            raise UsageError(f"--compute {spec}: {key}={value} must be above {ABOVE[key]}, and finite")
    if not 0 <= values["stragglers"] <= 1:
        raise UsageError(f"--compute {spec}: stragglers={values['stragglers']} is not a probability")
    if not 1 <= values["slowdown"] < float("inf"):
        raise UsageError(f"--compute {spec}: slowdown={values['slowdown']} must be at least 1, and finite")
    values["factors"] = _factors(spec, values["factors"])
    return name, values, {key: values.pop(key) for key in inspect.signature(common).parameters}


def _factors(spec, text):
    try:
        factors = tuple(map(float, text.split("/")))
        if all(0 < factor < float("inf") for factor in factors):
            return factors
    except ValueError:
        pass
    raise UsageError(f"--compute {spec}: factors={text} is no list of positive numbers such as 1/1/4")


def make_timing(spec, seed=0, workers=1):
    """seconds(worker, number, flops): how long a worker's gradient takes.

    Args:
        spec: of --compute.  seed: of what is drawn.  workers: how many there are.
    Raises:
        UsageError, DataError: see parse_compute; factors for another number of workers, or a file that cannot be used.

    >>> seconds = make_timing("constant:seconds=0.001,factors=1/4", workers=2)
    >>> seconds(0, 0, 1e6), seconds(1, 0, 1e6)
    (0.001, 0.004)
    >>> draw = make_timing("exponential:mean=0.001", seed=1)
    >>> draw(0, 7, 1e6) == draw(0, 7, 1e6) != draw(0, 8, 1e6)  # of (seed, worker, number), whoever asks first
    True
    """
    name, options, everywhere = parse_compute(spec)
    factors, stragglers, slowdown = everywhere.values()
    if len(factors) not in (1, workers):
        raise UsageError(
            f"--compute {spec}: {len(factors)} factors, and there are {workers} workers; give one for each"
        )
    seconds = COMPUTE[name](seed, workers, **options)
    if factors == (1,) and not stragglers:
        return seconds
    factors *= workers if len(factors) == 1 else 1

    def vary(worker, number, flops):
        late = stragglers and chance("straggler", seed, worker, number) < stragglers
        return seconds(worker, number, flops) * factors[worker] * (slowdown if late else 1)

    return vary


def read_seconds(path):
    """[(seconds, ...) of each line] of a file of times; lines that are empty or begin with # do not count.

    Raises:
        DataError: it cannot be read, or a line is not what it should be.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [(i, line.replace(",", " ").split()) for i, line in enumerate(file, 1) if line[:1] != "#"]
    except OSError as error:
        raise DataError(path, error.strerror or str(error)) from None
    except ValueError as error:
        raise DataError(path, f"is no text ({error})") from None
    rows = []
    for i, words in filter(lambda line: line[1], lines):
        try:
            row = tuple(map(float, words))
        except ValueError:
            raise DataError(path, f"line {i}: {' '.join(words)[:40]!r} is not a number of seconds") from None
        if not all(0 <= value < float("inf") for value in row):
            raise DataError(path, f"line {i}: seconds are numbers from 0, and finite")
        if rows and len(row) != len(rows[0]):
            raise DataError(path, f"line {i}: has {len(row)} columns, and the lines before have {len(rows[0])}")
        rows.append(row)
    if not rows:
        raise DataError(path, "holds no times")
    return rows


def calibrate(spec, objective, sampler, seed, dtype):
    """The spec with `measured` replaced by the speed of this machine, from a few gradients of the first worker's part."""
    name, _, rest = spec.partition(":")
    if name != "measured":
        return spec
    batch = max((sampler.part(0, 0), sampler.part(0)), key=lambda part: min(len(part), 1))  # the whole if it has none
    x = objective.start(seed, np.dtype(dtype))
    params, g = objective.views(x), np.empty_like(x)
    grads, times = objective.views(g), []
    for _ in range(1 + MEASURED):  # the first makes the work arrays
        began = time.perf_counter()
        objective.gradient(params, grads, batch, 1 / len(batch))
        times.append(time.perf_counter() - began)
    return f"flops:speed={objective.flops(len(batch)) / median(times[1:]):.4g}" + (f",{rest}" if rest else "")
