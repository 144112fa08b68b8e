"""How things are timed here, and what a result is."""

import os
import platform
import statistics
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

NETWORKS = {  # name: (widths, global batch)
    "784-128-10": ((784, 128, 10), 128),
    "7 layers": ((784, 128, 127, 126, 125, 124, 123, 10), 128),
    "784-512-512-10": ((784, 512, 512, 10), 256),
    "784-1024-1024-10": ((784, 1024, 1024, 10), 512),
}


class Figure(NamedTuple):
    """One number that a benchmark found, or why it could not.

    Args:
        what: was measured.  case: of what: a network, a number of elements; "" where there is one alone.
        value: None if it was left out; then `note` says why.
        least, most: the bar, at most one of the two.
    """

    what: str
    case: str
    value: float | None
    unit: str = "×"
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def bar(self):
        """The bar in words, "" without."""
        if self.least is None and self.most is None:
            return ""
        words = f"at most {self.most:g}" if self.least is None else f"at least {self.least:g}"
        return words if self.unit in ("×", "") else f"{words} {self.unit}"

    @property
    def met(self):
        """Whether the value keeps its bar; None without one of the two."""
        if self.value is None or not self.bar:
            return None
        return self.value >= self.least if self.most is None else self.value <= self.most

    @property
    def shown(self):
        """The value as it is read."""
        if self.value is None:
            return "left out"
        return format(self.value, ".2f" if self.unit == "×" else ".3g" if abs(self.value) < 100 else ",.0f")

    def __str__(self):
        name = f"{self.what}, {self.case}" if self.case else self.what
        value = self.shown if self.value is None else f"{self.shown} {self.unit}"
        verdict = f" ({self.bar}: {'met' if self.met else 'missed'})" if self.met is not None else ""
        return f"{name}: {value}{verdict}{f'; {self.note}' if self.note else ''}"


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
    """{what: value} of where the numbers come from, and of how busy it is now."""
    from dsgd.versions import versions

    found = {"cpu": processor(), "cores": os.cpu_count()} | caches() | versions() | {"mpi": mpi_library()}
    return {what: value for what, value in found.items() if value} | {"load": round(os.getloadavg()[0], 2)}


def describe(facts):
    """The same as one line."""
    shared = " ".join(f"{level} {facts[level]}" for level in ("L1d", "L2", "L3") if level in facts)
    words = [facts["cpu"], f"{facts['cores']} cores", shared, f"Python {facts['python']}", f"NumPy {facts['numpy']}"]
    words += [f"{facts['blas']}, one thread a process", facts.get("mpi", "no MPI"), f"load {facts['load']}"]
    return "; ".join(word for word in words if word)


def processor():
    """The processor's name; where the system does not say, its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def caches():
    """{"L1d": "32K", "L2": ...} of the first core; {} where the system does not say."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found[f"L{level}{'d' if kind == 'Data' else ''}"] = size
    return found


@cache
def mpi_library():
    """Name and version of the MPI library, "" without; asked for in a process of its own, which need not start it."""
    code = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return " ".join(done.stdout.partition("\n")[0].strip("\0").split())
