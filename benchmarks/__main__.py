"""python -m benchmarks [NAME ...]: all of them, or those named."""

import sys
from importlib import import_module

from threadpoolctl import threadpool_limits

from benchmarks.measure import machine
from dsgd.errors import DataError

NAMES = (
    "step",
    "sklearn_step",
    "optimizers",
    "epoch",
    "simulator",
    "guards",
    "waiting",
    "replay",
    "controllers",
    "seeds",
    "fashion",
    "consistency",
)


def main(names):
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]!r}; choices: {', '.join(NAMES)}")
    print(machine())
    for name in names or NAMES:
        module = import_module(f"benchmarks.{name}")
        print(f"{name}: {module.__doc__.splitlines()[0]}", flush=True)
        with threadpool_limits(limits=1, user_api="blas"):
            try:
                module.main()
            except DataError as error:
                print(f"  left out: {error}")


main(sys.argv[1:])
