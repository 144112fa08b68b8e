"""Strong scaling (one batch for all ranks) and weak scaling (64 samples for each), 1, 2 and 4 ranks beside one."""

import os

from benchmarks.launching import alternated
from benchmarks.measure import NETWORKS, Figure

ROUNDS, RANKS, WIDTHS, EACH = 3, (2, 4), (784, 128, 10), 64
STRONG = list(NETWORKS.values())


def main(rounds=ROUNDS):
    programs = {1: ("sgd", [*STRONG, (WIDTHS, EACH)], None)}
    programs |= {ranks: ("sharded-update", [*STRONG, (WIDTHS, EACH * ranks)], ranks) for ranks in RANKS}
    medians, missing = alternated(programs, rounds)
    for ranks in RANKS:
        note = missing.get(ranks, f"{ranks} ranks on {os.cpu_count()} cores" * (ranks > os.cpu_count()))
        strong, weak = f"strong scaling: {ranks} ranks, times one rank's speed", f"weak scaling: {ranks} ranks, T₁ / T"
        if ranks in missing or 1 in missing:
            yield Figure(strong, "", None, note=note or missing[1])
            continue
        ratios = [one / many for one, many in zip(medians[1], medians[ranks])]
        for network, ratio in zip(NETWORKS, ratios):
            yield Figure(strong, network, ratio, note=note)
        yield Figure(weak, f"784-128-10, {EACH} samples a rank", ratios[-1], note=note)
