"""A sweep of one hidden layer's width, 784-w-10, batch 128: ours beside the peers, on 1 and 2 ranks."""

from benchmarks.launching import alternated
from benchmarks.measure import Figure

ROUNDS, HIDDEN, BATCH = 3, (16, 64, 256, 1024), 128
PAIRS = {  # (ours, ranks): peers
    ("sgd", 1): ("NumPy", "eager PyTorch"),
    ("sharded-update", 2): ("NumPy", "PyTorch DDP"),
}


def main(rounds=ROUNDS):
    cases = [((784, hidden, 10), BATCH) for hidden in HIDDEN]
    programs = {}
    for (ours, ranks), peers in PAIRS.items():
        programs |= {(name, ranks): (name, cases, ranks if ranks > 1 else None) for name in (ours, *peers)}
    medians, missing = alternated(programs, rounds)
    for (ours, ranks), peers in PAIRS.items():
        place = f"{ranks} rank{'s' * (ranks > 1)}"
        for hidden, seconds in zip(HIDDEN, medians.get((ours, ranks), ())):
            yield Figure(f"a step of {ours}, {place}", f"w = {hidden}", seconds * 1e6, "µs")
        for peer in peers:
            what = f"the time of {peer} over ours, {place}"
            if why := missing.get((peer, ranks)) or missing.get((ours, ranks)):
                yield Figure(what, "", None, note=why)
                continue
            for hidden, theirs, seconds in zip(HIDDEN, medians[peer, ranks], medians[ours, ranks]):
                yield Figure(what, f"w = {hidden}", theirs / seconds)
