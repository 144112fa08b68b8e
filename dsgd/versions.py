"""What the bits of a run depend on beside its configuration: hashes are comparable where all of this is the same."""

import platform
from functools import lru_cache

import numpy as np

import dsgd


def versions():
    """{what: version} of this process."""
    return {"dsgd": dsgd.__version__, "python": platform.python_version(), "numpy": np.__version__, "blas": blas()}


@lru_cache
def blas():
    """Name, version and kernels of NumPy's BLAS; a wheel of SciPy brings one of its own."""
    from threadpoolctl import threadpool_info

    libraries = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]  # in the order of their addresses
    found = min(libraries, key=lambda lib: "numpy.libs" not in lib["filepath"], default={})
    return " ".join(str(found[key]) for key in ("internal_api", "version", "architecture") if found.get(key)) or "none"
