"""python -m dsgd.chaos --seeds 0:1000: small random runs under random faults in the simulator, and what must hold for each.

No gradient is applied twice, none is lost unreported, the clock never goes back, a synchronous run has the bits of the
run without faults, every run ends once the faults have healed, and one seed always gives one log of events.
"""

import hashlib
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

import numpy as np

from dsgd.arguments import Parser, make, parse_words
from dsgd.chaos_plan import LR, Ledger, draw
from dsgd.checkpoint import NAME, load
from dsgd.command import run_command
from dsgd.errors import PeerError, UsageError
from dsgd.records import METRICS, read_records
from dsgd.runner import open_backend, run
from dsgd.sampling import Shuffled
from dsgd.simulator.effects import Compute

FAILED = 70  # exit code
COUNTED = ("messages", "dropped", "duplicated", "held back", "cut off", "sent again")


class Attempt(NamedTuple):
    """One start of a run, until its end or until a rank was killed.

    begun: samples in the checkpoint that it went on from.   resumed: whether there was one.
    events: [(virtual time, effect)], the trace.   counts: of the transport.   result: None if a rank was killed.
    recorded: samples applied by its last record.
    """

    begun: int
    resumed: bool
    events: list
    counts: Counter
    result: object
    recorded: int

    def gradients(self):
        """[(rank, k)]: the k-th gradients of ranks that were begun."""
        return [(e.rank, e.step) for _, e in self.events if isinstance(e, Compute)]


class Failure(Exception):
    """What did not hold."""


def main(argv):
    """Play the seeds, print every failure and one line of counts; returns the exit code."""
    first, last = read_seeds(argv)
    began, totals, failed = perf_counter(), Counter(), 0
    for seed in range(first, last):
        try:
            totals += judge(draw(seed))
        except Failure as failure:
            failed += 1
            print(
                f"seed {seed} failed: python -m dsgd.chaos --seeds {seed}:{seed + 1}\n  {draw(seed)}\n  {failure}",
                flush=True,
            )
    counted = ", ".join(f"{totals[what]:,} {what}" for what in (*COUNTED, "crashes", "resumed"))
    print(f"{last - first - failed} of {last - first} seeds passed in {perf_counter() - began:.0f} s: {counted}")
    return FAILED if failed else 0


def read_seeds(argv):
    """(first, last + 1) of a command line."""
    known = Parser(prog="python -m dsgd.chaos", description=__doc__.partition("\n")[0], allow_abbrev=False)
    known.add_argument("--seeds", metavar="FIRST:END", help="END is the first that is not played (default: 0:100)")
    text = parse_words(known, argv)["seeds"] or "0:100"
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise UsageError(f"--seeds {text} is not FIRST:END with FIRST below END, such as 0:1000")
    return int(first), int(last)


# --- play


def judge(case):
    """Play a case twice and once without faults, and check; returns what is counted.

    Raises:
        Failure: with what does not hold.
    """
    attempts, again = play(case), play(case)
    if log(attempts) != log(again):
        raise Failure("the same seed gave another log of events")
    for attempt in attempts:
        times = [time for time, _ in attempt.events]
        if times != sorted(times):
            raise Failure("the clock went back")
    check_books(case, attempts)
    if case.synchronous:
        wanted, got = (a[-1].result.summary["params_sha256"] for a in (play(case.without_faults()), attempts))
        if got != wanted:
            raise Failure(f"the parameters are {got[:16]}, and those of the run without faults {wanted[:16]}")
    counts = sum((attempt.counts for attempt in attempts), Counter())
    return counts + Counter(crashes=len(attempts) - 1, resumed=sum(attempt.resumed for attempt in attempts))


def play(case):
    """[Attempt] of a case: after every crash it is started again, from its last checkpoint if there is one."""
    left, attempts = case.faults, []
    with TemporaryDirectory(prefix="dsgd-chaos-") as folder:
        output = str(Path(folder) / "run") if case.crashes else ""
        while not attempts or attempts[-1].result is None:
            attempt, killed = start(case, left, output)
            attempts.append(attempt)
            left = [fault for fault in left if fault != killed]
    return attempts


def start(case, faults, output):
    """(Attempt, the fault that ended it or None)."""
    resume = bool(output) and (Path(output) / NAME).exists()
    begun = load(output)[1]["recorder"]["done"] if resume else 0
    config = make(case.config | dict(faults="; ".join(faults), output=output, resume=resume, quiet=True, no_plot=True))
    backend, result, killed = open_backend(None, config, {"trace": True}), None, None
    try:
        result = run(config, backend=backend, objective=Ledger(config.dtype))
    except PeerError as error:
        killed = next((f for f in faults if f.startswith("kill:") and case.words(f) in str(error)), None)
        if killed is None:
            raise Failure(f"it did not end: {error}") from None
    except Exception as error:
        raise Failure(f"it did not end: {type(error).__name__}: {error}") from error
    records = result.records if result else read_records(output) if (Path(output) / METRICS).exists() else []
    recorded = records[-1]["samples"] if records else begun
    counts = backend.world.transport.counts if backend.world.transport else Counter()
    return Attempt(begun, resume, backend.world.trace, counts, result, recorded), killed


def log(attempts):
    """The sha256 of all that happened, in the order in which it did."""
    sha = hashlib.sha256()
    for attempt in attempts:
        sha.update("\n".join(f"{time!r} {effect.rank} {effect}" for time, effect in attempt.events).encode())
    sha.update(attempts[-1].result.params)
    return sha.hexdigest()


# --- check


def check_books(case, attempts):
    """What was computed is applied once, and so stands in the parameters (see Ledger), or was lost and is counted."""
    summary, x = attempts[-1].result.summary, attempts[-1].result.params
    workers, config = summary["workers"], case.config
    sampler = Shuffled(n=Ledger.SAMPLES, batch=config["batch_size"], seed=config["seed"], workers=workers)

    def samples(gradients):
        """(n,): how often each sample is in the gradients [(rank, k)]."""
        rows = [sampler.part(k, rank - config["simulate"] + workers).rows for rank, k in gradients]
        return np.bincount(np.concatenate([np.zeros(0, int), *rows]), minlength=Ledger.SAMPLES)

    ends = Counter()
    for rank, k in attempts[-1].gradients():  # in the end every worker has made its first so many gradients
        ends[rank] = max(ends[rank], k + 1)
    wanted = samples([(rank, k) for rank, end in ends.items() for k in range(end)])
    applied = 0 - x[-Ledger.SAMPLES :] / LR
    wrong = np.flatnonzero(applied != wanted)
    if len(wrong):
        k = wrong[0]
        raise Failure(f"sample {k} was applied {applied[k]:g} times, and is in {wanted[k]} gradients")
    total, counted = int(applied.sum()), sum(worker["samples"] for worker in summary["samples_per_worker"])
    if not total == counted == attempts[-1].recorded:
        raise Failure(
            f"{total} samples were applied, {counted} counted by the workers, {attempts[-1].recorded} recorded"
        )
    batch = workers * -(-config["batch_size"] // workers)  # a gradient of every worker
    for attempt in attempts:  # under way at a crash: a gradient of every worker, and what nobody has recorded yet
        under_way = attempt.begun + int(samples(attempt.gradients()).sum()) - attempt.recorded
        if not 0 <= under_way <= (0 if attempt.result else 2 * batch):
            raise Failure(f"{under_way} samples more were computed than recorded")
    lost = [before.recorded - after.begun for before, after in zip(attempts, attempts[1:])]
    if summary["samples_lost"] != sum(lost):
        raise Failure(f"{sum(lost)} samples were lost, and {summary['samples_lost']} were reported")
    if any(n > config["checkpoint_every"] * batch for n in lost):
        raise Failure(f"{max(lost)} samples were lost in a crash: more than since the checkpoint before")


if __name__ == "__main__":
    sys.exit(run_command(main))
