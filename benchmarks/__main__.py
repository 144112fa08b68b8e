"""python -m benchmarks [NAME ...]: those of speed, those named, or `all`; figures also go to benchmarks/results/NAME.json.

A benchmark is a module whose main() yields Figures, and is free to print beside them.
"""

import sys
from importlib import import_module

from threadpoolctl import threadpool_limits

from benchmarks.launching import LeftOut
from benchmarks.measure import describe, machine
from benchmarks.results import write
from dsgd.command import run_command
from dsgd.errors import DataError
from dsgd.specs import choose

SPEED = (
    "step",
    "sklearn_step",
    "optimizers",
    "epoch",
    "ranks",
    "overlap",
    "reduction",
    "scaling",
    "sizes",
    "ceilings",
    "roofline",
    "counts",
    "simulator",
    "processes",
    "guards",
    "waiting",
    "gpu",
)
TRAINING = ("replay", "controllers", "seeds", "sklearn_face", "fashion", "consistency")


def main(names):
    known = (*SPEED, *TRAINING)
    if {"-h", "--help"} & set(names):
        print(__doc__, ", ".join(known), sep="\n")
        return 0
    for name in names:
        choose("benchmark", name, dict.fromkeys((*known, "all")))
    print(describe(machine()))
    for name in known if "all" in names else names or SPEED:
        measure(name, import_module(f"benchmarks.{name}"))
    return 0


def measure(name, module):
    """Run one benchmark: every figure as it comes, and all of them to its file."""
    print(f"{name}: {module.__doc__.splitlines()[0]}", flush=True)
    facts, figures = machine(), []
    with threadpool_limits(limits=1, user_api="blas"):
        try:
            for figure in module.main() or ():
                print(f"  {figure}", flush=True)
                figures.append(figure)
        except (DataError, LeftOut) as error:
            print(f"  left out: {error}")
    if figures:
        write(name, facts, figures)


if __name__ == "__main__":
    sys.exit(run_command(main))
