"""Controllers in the simulator: batches split by speed, and the bound of ssp beside a sweep of fixed ones, 16 workers.

The times of the sweep are virtual: a gradient takes an exponential time of mean 10 ms, a message 1 µs, and an update is
made of all pushes of a clock.  The target is a mean training loss of 0.6 over 10 steps.
"""

import math
from hashlib import blake2b
from statistics import mean, median

import numpy as np

import dsgd
from dsgd.controllers import bound as adaptive
from dsgd.simulator.network import Network

TARGET, SMOOTH, SEEDS, BOUNDS = 0.6, 10, range(4), range(7)
TASK = dict(
    data="teacher:samples=2000,features=20,hidden=10,classes=5",
    hidden="16",
    batch_size=64,
    optimizer="sgd",
    simulate=17,
    quiet=True,
)


class Exponential(Network):
    """Gradients of worker r take exponential times: a function of r and the number of the gradient."""

    def compute(self, rank, step, flops):
        digest = blake2b(f"{rank}:{step}".encode(), digest_size=8).digest()
        return -1e-2 * math.log((int.from_bytes(digest, "big") + 0.5) / 2**64)


def trained(lr, bound, seed=0, steps=200, controller=None):
    """[record] of an ssp run that starts with this bound, one a step, as a controller sees them."""
    seen = []

    def watched(records):
        seen.append(records[-1])
        return controller(records) if controller else None

    algorithm = f"parameter-server:consistency=ssp,bound={bound},apply=clock"
    world = {"network": Exponential(latency=1e-6)}
    dsgd.run(**TASK, lr=lr, seed=seed, steps=steps, algorithm=algorithm, controller=watched, world=world)
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
    network = Network(latency=1e-7, speed=1e8)
    flags = TASK | dict(batch_size=batch, simulate=5, faults="slow:rank=4,x=4", algorithm="parameter-server")
    times = [
        dsgd.run(**flags, steps=k, controller=controller, world={"network": network}).summary["virtual_seconds"]
        for k in (steps - 1, steps)
    ]
    flops = 3 * 2 * (20 * 16 + 16 * 5)
    return batch / (times[1] - times[0]), 3.25 * network.speed / flops


if __name__ == "__main__":
    main()
