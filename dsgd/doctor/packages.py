"""The versions of what dsgd is made of, and of what its extras add."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import dsgd
from dsgd.doctor.findings import note, ok, wrong

PYTHON = (3, 11)
# {distribution: the least version}, as setup.cfg has it; and {distribution: extra} of what may be missing.
CORE = {"numpy": "2", "greenlet": "3", "threadpoolctl": "3", "matplotlib": "3.7", "tqdm": "4"}
EXTRAS = {"mpi4py": ("4", "mpich"), "scikit-learn": ("1.7", "sklearn"), "tensorboardX": ("", "tensorboard")}


def packages():
    """dsgd and Python; each package, if it is there and recent enough."""
    if sys.version_info < PYTHON:
        least = ".".join(map(str, PYTHON))
        yield wrong(
            "Python", f"{platform.python_version()}; {least} is the oldest that will do", f"install Python {least}"
        )
    found, missing = [f"dsgd {dsgd.__version__}, Python {platform.python_version()}"], []
    for name, least in {**CORE, **{name: least for name, (least, _) in EXTRAS.items()}}.items():
        try:
            here = version(name)
        except PackageNotFoundError:
            if name in CORE:
                yield wrong("packages", f"no {name}", f"pip install '{name}>={least}'")
            else:
                missing.append(f"{name} (pip install 'dsgd[{EXTRAS[name][1]}]')")
            continue
        if numbers(here) < numbers(least):
            yield wrong("packages", f"{name} {here} is older than {least}", f"pip install '{name}>={least}'")
        else:
            found.append(f"{name} {here}")
    yield ok("packages", ", ".join(found))
    if missing:
        yield note("packages", f"not installed, and needed by an extra alone: {', '.join(missing)}")


def numbers(version):
    """The leading numbers of a version, to compare by: (2, 4, 6) of 2.4.6rc1."""
    digits = ["".join(c for c in part if c.isdigit()) for part in version.split(".")]
    return tuple(int(part) for part in digits if part)
