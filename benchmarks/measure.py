"""How things are timed here."""

import os
import platform
import statistics
import time

NETWORKS = {  # name: (widths, samples of a global batch)
    "784-128-10": ((784, 128, 10), 128),
    "7 layers": ((784, 128, 127, 126, 125, 124, 123, 10), 128),
    "784-512-512-10": ((784, 512, 512, 10), 256),
    "784-1024-1024-10": ((784, 1024, 1024, 10), 512),
}


def interleaved(functions, repetitions):
    """{name: median seconds of one call}; each round calls every function once, so that noise meets all alike."""
    times = {name: [] for name in functions}
    for function in functions.values():
        function()  # warm
    for _ in range(repetitions):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def machine():
    """One line that says where the numbers come from."""
    import numpy

    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {numpy.__version__}, one BLAS thread"
