"""An epoch of fashion-mnist (784-128-10, batch 128), draws, guards and records included, beside as many hot steps."""

from benchmarks.measure import Figure, interleaved
from benchmarks.step import BATCH, CHUNK, dsgd_steps
from dsgd import Config, run

ROUNDS = 5


def main():
    steps = -(-60000 // BATCH)
    taken = []

    def epoch():
        config = Config(
            data="fashion-mnist",
            hidden="128",
            batch_size=BATCH,
            epochs=1,
            optimizer="sgd",
            lr=0.05,
            algorithm="sgd",
        )
        result = run(config)
        taken.append(result.seconds["steps"])

    hot = dsgd_steps()

    def hot_steps():
        for _ in range(steps // CHUNK):
            hot()

    medians = interleaved({"epoch": epoch, "hot": hot_steps}, ROUNDS)
    epoch_step, hot_step = sorted(taken[1:])[len(taken[1:]) // 2] / steps, medians["hot"] / (steps // CHUNK * CHUNK)
    yield Figure("a step in an epoch", "", 1e6 * epoch_step, "µs")
    yield Figure("beside a hot step", "", epoch_step / hot_step, most=1.12)
