"""What this machine can do at most: products, copies, messages between two ranks.

mpirun -n 2 python -m benchmarks.ceilings      the ranks, which `python -m benchmarks ceilings` starts
"""

import json
import statistics
import sys
import time

ROUNDS, SQUARE = 9, 2048
COPIES = {"in L2, 256 KiB": 1 << 18, "in L3, 4 MiB": 1 << 22, "in memory, 64 MiB": 1 << 26}  # bytes that are copied
MOVED = 1 << 26  # bytes copied as one measurement
TRIPS = {8: 1000, 1 << 22: 50}  # bytes of a message: round trips


def processor():
    """Products and copies, one thread."""
    import numpy as np

    from benchmarks.measure import Figure, interleaved

    a, b, out = (np.ones((SQUARE, SQUARE), np.float32) for _ in range(3))
    functions = {"products": lambda: np.matmul(a, b, out=out)}
    for place, nbytes in COPIES.items():
        functions[place] = copies(np.ones(nbytes, np.uint8), np.zeros(nbytes, np.uint8))
    seconds = interleaved(functions, ROUNDS)
    speed = 2 * SQUARE**3 / seconds["products"] / 1e9
    yield Figure(f"products of {SQUARE} × {SQUARE} matrices, float32", "", speed, "GFLOP/s")
    for place in COPIES:
        yield Figure("copying, bytes read and written", place, 2 * MOVED / seconds[place] / 1e9, "GB/s")


def copies(source, target):
    """A function that copies MOVED bytes."""

    def run():
        for _ in range(MOVED // len(source)):
            target[:] = source

    return run


def main():
    from benchmarks.launching import told
    from benchmarks.measure import Figure

    yield from processor()
    latency, transfer = (seconds / 2 for seconds in told("benchmarks.ceilings", ranks=2))
    yield Figure("a message of 8 bytes from rank to rank", "", latency * 1e6, "µs")
    yield Figure("a message of 4 MiB from rank to rank", "", (1 << 22) / transfer / 1e9, "GB/s")


def rank_main():
    """One of two ranks; rank 0 prints [median seconds of a round trip] of both sizes."""
    import numpy as np
    from mpi4py import MPI

    world, medians = MPI.COMM_WORLD, []
    for nbytes, trips in TRIPS.items():
        x, times = np.zeros(nbytes, np.uint8), []
        for _ in range(trips):
            start = time.perf_counter()
            if world.rank == 0:
                world.Send(x, 1)
                world.Recv(x, 1)
            else:
                world.Recv(x, 0)
                world.Send(x, 0)
            times.append(time.perf_counter() - start)
        medians.append(statistics.median(times))
    if world.rank == 0:
        print(json.dumps(medians))
    return 0


if __name__ == "__main__":
    from dsgd.mpi.launch import guard

    sys.exit(guard(rank_main))
