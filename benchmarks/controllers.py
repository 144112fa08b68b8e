"""Controllers in the simulator: batches split by speed, and the bound of ssp beside a sweep of fixed ones, 16 workers.

All times are virtual.  In the sweep a gradient takes an exponential time of mean 10 ms, a message 1 µs, and an update is
made of all pushes of a clock.  The target is a mean training loss of 0.6 over 10 steps.
"""

import math
from statistics import mean, median

import numpy as np

import dsgd
from dsgd.controllers import bound as adaptive

TARGET, SMOOTH, SEEDS, BOUNDS = 0.6, 10, range(4), range(7)
TASK = dict(
    data="teacher:samples=2000,features=20,hidden=10,classes=5",
    hidden="16",
    batch_size=64,
    optimizer="sgd",
    simulate=17,
    quiet=True,
)


def trained(lr, bound, seed=0, steps=200, controller=None):
    """[record] of an ssp run that starts with this bound, one a step, as a controller sees them."""
    seen = []

    def watched(records):
        seen.append(records[-1])
        return controller(records) if controller else None

    algorithm = f"parameter-server:consistency=ssp,bound={bound},apply=clock"
    clock = dict(compute="exponential:mean=0.01", network="uniform:latency=1e-6")
    dsgd.run(**TASK, lr=lr, seed=seed, steps=steps, algorithm=algorithm, controller=watched, **clock)
    return seen


def reached(records):
    """Seconds until the mean loss of the last SMOOTH steps is at the target, inf if it never is."""
    loss = np.array([record["loss"] for record in records])
    means = [loss[max(0, i - SMOOTH + 1) : i + 1].mean() for i in range(len(loss))]
    return next((record["time"] for record, l in zip(records, means) if l <= TARGET), math.inf)


def settled(records):
    """The median of the bound over the steps of the second half of the way to the target."""
    way = [record["bound"] for record in records if record["time"] <= reached(records)]
    return median(way[len(way) // 2 :])


def main():
    for lr in (0.25, 0.5, 1.0):
        fixed = {b: mean(reached(trained(lr, b, seed)) for seed in SEEDS) for b in BOUNDS}
        runs = [trained(lr, 1, seed, controller=adaptive()) for seed in SEEDS]
        print(f"  lr {lr}: seconds to the target by bound, mean of {len(SEEDS)} seeds")
        print("    fixed    " + "  ".join(f"{b}: {seconds:.2f}" for b, seconds in fixed.items()))
        print(
            f"    adaptive {mean(map(reached, runs)):.2f}, settles on {' '.join(f'{settled(run):g}' for run in runs)}"
        )
    for share in ("even", "balance"):
        speed, ideal = throughput("" if share == "even" else share)
        print(
            f"  bsp, one worker of four 4 x slower, {share}: {speed / ideal:.3f} of the ideal samples a second at step 20"
        )


def throughput(controller, batch=130, steps=20):
    """(samples a second in the last step, as many as workers of this speed could do) of bsp with a slow worker of four."""
    speed, flops = 1e8, 6 * (20 * 16 + 16 * 5)  # flop/s; of a sample
    flags = TASK | dict(batch_size=batch, simulate=5, algorithm="parameter-server", controller=controller)
    clock = dict(compute=f"flops:speed={speed},factors=1/1/1/4", network="uniform:latency=1e-7")
    times = [dsgd.run(**flags, **clock, steps=k).summary["virtual_seconds"] for k in (steps - 1, steps)]
    return batch / (times[1] - times[0]), 3.25 * speed / flops


if __name__ == "__main__":
    main()
