"""Steps on 1, 2 and 4 ranks beside PyTorch DDP and other peers; parallel efficiency.

Every number is a median over rounds, and each round starts every program once: an mpirun of its own, or one process.
"""

from benchmarks.launching import alternated
from benchmarks.measure import NETWORKS, Figure

ROUNDS = 5
CASES = list(NETWORKS.values())
HALVES = [(widths, batch // 2) for widths, batch in CASES]
FIRST = CASES[:1]
OURS, DDP = "sharded-update", "PyTorch DDP"
PROGRAMS = {  # (ranks, program): cases
    (1, "sgd"): CASES + HALVES,
    (1, "NumPy"): CASES,
    (1, "eager PyTorch"): CASES,
    (1, "torch.compile"): CASES,
    (2, OURS): CASES,
    (2, "data-parallel"): CASES,
    (2, DDP): CASES,
    (2, "PyTorch over mpi4py"): CASES,
    (2, "NumPy"): CASES,
    (4, OURS): FIRST,
    (4, DDP): FIRST,
}
AHEAD = {2: (5.5, 3.2, 2.2, 1.6), 4: (8.0,)}  # ranks: bars of DDP's time over ours, network by network
EFFICIENCY = (0.80, 0.88, 0.92, 0.95)


def main(rounds=ROUNDS):
    medians, missing = alternated(
        {(ranks, name): (name, cases, ranks if ranks > 1 else None) for (ranks, name), cases in PROGRAMS.items()},
        rounds,
    )
    for ranks, name in PROGRAMS:
        what = called(ranks, name)
        if (ranks, name) in missing:
            yield Figure(what, "", None, "µs", note=missing[ranks, name])
        for network, seconds in zip(NETWORKS, medians.get((ranks, name), ())):
            yield Figure(what, network, seconds * 1e6, "µs")
    yield from ratios(medians)


def called(ranks, program):
    """The name of a program's times."""
    return f"a step of {program}, {ranks} rank{'s' * (ranks > 1)}"


def ratios(medians):
    """The bars.   medians: {(ranks, program): [seconds, case by case]}"""
    for ranks, bars in AHEAD.items():
        pairs = zip(NETWORKS, medians.get((ranks, DDP), ()), medians.get((ranks, OURS), ()), bars)
        for network, theirs, ours, bar in pairs:
            yield Figure(f"PyTorch DDP's time over ours, {ranks} ranks", network, theirs / ours, least=bar)
    halves = medians.get((1, "sgd"), [])[len(CASES) :]
    for network, alone, together, bar in zip(NETWORKS, halves, medians.get((2, OURS), ()), EFFICIENCY):
        yield Figure("parallel efficiency of 2 ranks, T₁(half batch) / T₂(batch)", network, alone / together, least=bar)
