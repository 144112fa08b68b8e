"""What rank 0 notes while the run goes on: records, progress, and where the time went."""

import sys
import time
from contextlib import contextmanager

from dsgd.records import METRICS, ORDER
from dsgd.watch import Watch, describe

PRINT_EVERY = 2.0  # seconds between plain progress lines
ORDER_EVERY = 0.2  # seconds after which the log of the order is written between two records
# what a resumed run goes on with
KEPT = ("done", "epoch_sums", "record_sums", "record_loss", "train_loss", "logged")


class Recorder:
    """Adds up what was agreed in each step and makes records of it.

    Args:
        records: records.Records.  disk: disk.Disk.  layout: of the parameters.  samples: n, of an epoch.  steps: in the whole run.
        log_every: steps between records, 0 for one an epoch.  progress: whether to show any.
    """

    def __init__(self, records, disk, *, layout, samples, steps, log_every, progress):
        self.watch = Watch(layout)
        for row in records.rows:  # of a run that goes on
            if row.get("gradient_norm") is not None:
                self.watch.judge(row)
        self.records, self.disk = records, disk
        self.n, self.steps, self.log_every = samples, steps, log_every
        self.done = 0  # samples applied
        self.lost = 0  # samples applied and not saved before a crash, as far as recorded, and done again
        self.epoch_sums = [0, 0.0]  # samples and loss since the epoch began,
        self.record_sums = [0, 0.0]  # since the last record
        self.record_loss = None  # of the last record
        self.train_loss = None  # of the last whole epoch
        self.logged = 0  # step of the last record
        self.seconds = {"steps": 0.0, "evaluation": 0.0, "checkpoints": 0.0}
        self.wall = 0.0  # seconds before the run was resumed
        self.first = self._printed = self._ordered = time.perf_counter()
        self._bar = None
        self._progress = progress

    def save(self):
        """The numbers a resumed run goes on with, for the manifest."""
        saved = {key: getattr(self, key) for key in KEPT}
        return saved | {"records": len(self.records.rows), "wall": time.perf_counter() - self.first}

    def restore(self, saved):
        for key in (*KEPT, "wall"):
            setattr(self, key, saved[key])

    def start(self):
        """The first step is about to be made."""
        self.first = time.perf_counter() - self.wall
        if self._progress and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.steps, unit="step", leave=False)

    def read(self, heads, step):
        """Take in the agreed numbers of the steps up to `step`; returns whether an epoch ended with them."""
        ended = False
        if self._bar:
            self._bar.update(step - self._bar.n)
        while heads:
            samples, loss, *_ = heads.popleft()
            for sums in (self.epoch_sums, self.record_sums):
                sums[0] += int(samples)
                sums[1] += loss
            before, self.done = self.done // self.n, self.done + int(samples)
            if self.done // self.n > before:
                ended, self.train_loss, self.epoch_sums = True, mean(self.epoch_sums), [0, 0.0]
        return ended

    def due(self, step, ended):
        """Whether a record is due at this step."""
        return ended if not self.log_every else step != self.logged and step % self.log_every == 0

    def record(self, step, clock, virtual, test, squares):
        """Make a record.

        Args:
            clock: seconds, virtual if `virtual`.  test: what an evaluation gave, or {}.
            squares: {array: Σ g²} of the averaged gradient of this step, or None.
        """
        if self.record_sums[0]:
            self.record_loss, self.record_sums = mean(self.record_sums), [0, 0.0]
        loss, self.logged = self.record_loss, step
        wall = time.perf_counter() - self.first
        row = {"step": step, "epoch": self.done / self.n, "samples": self.done, "train_loss": loss}
        row |= {"time": wall, "virtual_time": clock if virtual else None} | test
        before = self.watch.verdict
        if squares:
            row |= self.watch.see(squares)
        self._add(row)
        if self._progress and self.watch.verdict not in (None, before):
            print(f"dsgd: {describe(row)}", file=sys.stderr, flush=True)
        if self._bar:
            self._bar.set_postfix_str(f"loss {loss:.4f}")
        elif self._progress and time.perf_counter() - self._printed > PRINT_EVERY:
            self._printed = time.perf_counter()
            accuracy = test.get("test_accuracy")
            shown = "" if accuracy is None else f", test accuracy {accuracy:.4f}"
            print(
                f"step {step} of {self.steps}, epoch {row['epoch']:.2f}: loss {loss:.4f}{shown}",
                file=sys.stderr,
                flush=True,
            )

    def write_order(self, order, step, last=False):
        """Write what the log of the order lacks."""
        self._ordered = time.perf_counter()
        self.disk.attempt(ORDER, order.write, step, last)

    def keep_up(self, order, step):
        """The same if it is due: pushes that a crash loses are counted by what was written of them."""
        if time.perf_counter() - self._ordered > ORDER_EVERY:
            self.write_order(order, step)

    def explode(self, step, clock, virtual):
        """The last record of a run whose gradient in this step is not finite: there is nothing to measure any more."""
        row = {"step": step, "epoch": self.done / self.n, "samples": self.done, "train_loss": None}
        row |= {"time": time.perf_counter() - self.first, "virtual_time": clock if virtual else None}
        self._add(row | {"gradient_norm": None, "gradient_rms": None, "verdict": "exploding"})

    def _add(self, row):
        self.records.add(**row)
        self.disk.attempt(METRICS, self.records.write, row["step"])

    @contextmanager
    def timed(self, what):
        """Count the seconds of a block under `what`."""
        start = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start

    def finish(self):
        """The loop is over: what was not evaluation or saving was steps."""
        whole = time.perf_counter() - self.first - self.wall
        self.seconds["steps"] = whole - self.seconds["evaluation"] - self.seconds["checkpoints"]
        if self.train_loss is None:  # the run ended within its first epoch
            self.train_loss = mean(self.epoch_sums)
        if self._bar:
            self._bar.close()

    def close(self):
        """Nothing is written any more."""
        self.records.close()
        self.disk.close()


def mean(sums):
    return sums[1] / sums[0] if sums[0] else None
