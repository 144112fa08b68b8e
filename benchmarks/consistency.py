"""Time to 0.95 test accuracy under bsp, backup, ssp and asp, 16 workers, with and without one 10 x straggler."""

import shutil
from pathlib import Path
from statistics import median

from dsgd import run

FOLDER = Path("runs/consistency")
SEEDS, TARGET, WORKERS = range(5), 0.95, 16
TASK = dict(batch_size=128, epochs=30, optimizer="sgd", simulate=WORKERS + 1, compute="lognormal:mean=1e-3,sigma=0.4")
STRAGGLER = f"slow:rank={WORKERS},x=10"
LR = 0.3  # of an average over all workers; where each push is an update, a sixteenth of it
MODELS = {  # consistency -> step size
    "bsp": LR,
    "backup,b=2,cancel=true": LR,
    "ssp,bound=3": LR / WORKERS,
    "asp": LR / WORKERS,
}
SHOWN = MODELS | {"backup,b=2": LR}  # where late workers finish their gradient first, as under MPI
TOO_LARGE = LR / 3  # for asp: beyond what updates that are 15 versions late allow; bsp takes three times as much


def train(consistency, lr, faults, seed, **more):
    algorithm = f"parameter-server:consistency={consistency}"
    return run(**TASK | more, algorithm=algorithm, lr=lr, faults=faults, seed=seed, quiet=True, no_plot=True)


def time_to(records, target=TARGET):
    """Virtual seconds to the first evaluation at the target; infinity if there is none."""
    times = (row["virtual_time"] for row in records if row.get("test_accuracy", 0) >= target)
    return float(next(times, float("inf")))


def main():
    from dsgd.plots.consistency import draw

    shutil.rmtree(FOLDER, ignore_errors=True)
    folders = []
    print(f"  {'':34}  no straggler   one 10 x straggler   (median of {len(SEEDS)} seeds, virtual s)")
    for consistency, lr in [*SHOWN.items(), ("asp", TOO_LARGE)]:
        times = []
        for faults in ("", STRAGGLER):
            runs = [FOLDER / f"{consistency}-{lr}-{bool(faults)}-{seed}" for seed in SEEDS]
            done = [train(consistency, lr, faults, seed, output=str(path)) for seed, path in zip(SEEDS, runs)]
            times.append(median(time_to(result.records) for result in done))
            folders += runs if lr != TOO_LARGE else []
        shown = "".join(f"{'never' if t == float('inf') else f'{t:.3f}':>14}" for t in times)
        print(f"  {f'{consistency}, lr {lr:g}':34}{shown}", flush=True)
    draw(folders, FOLDER / "consistency.png")
    print(f"  {FOLDER / 'consistency.png'}")
