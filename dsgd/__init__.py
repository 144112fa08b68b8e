"""Distributed training that a person can read, run and check.

The public names are in `__all__`.  They are imported on first use: `python -m dsgd.train`
executes this file before anything else, and MPI has to be imported before NumPy.
"""

from pathlib import Path as _Path

__version__ = "0.1.0"
__all__ = ["Config", "Quadratic", "Result", "run"]

# In the repository simulator/, mpi/ and plots/ lie beside dsgd/; installed, they lie inside it (setup.cfg).
# This lets a bare checkout run: `mpirun -n 4 python -m dsgd.train` needs no install.
_root = _Path(__file__).resolve().parent.parent
if (_root / "setup.cfg").is_file():
    __path__.append(str(_root))


def __dir__():
    return [*globals(), *__all__]


_HOME = {"run": "runner", "Result": "runner", "Config": "config", "Quadratic": "objectives"}


def __getattr__(name):
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"dsgd.{_HOME[name]}"), name)
    raise AttributeError(f"module 'dsgd' has no attribute {name!r}")
