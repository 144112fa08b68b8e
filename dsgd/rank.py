"""What one rank does in a run, the same in both worlds: start or restore, drive the algorithm, observe, save."""

import io
import os
from typing import NamedTuple

import numpy as np

from dsgd.checkpoint import save
from dsgd.errors import NonFiniteGradient
from dsgd.local import Local
from dsgd.optimizers import OPTIMIZERS
from dsgd.schedules import constant
from dsgd.specs import build
from dsgd.state import ALONE, State


class Job(NamedTuple):
    """What all ranks of a run have in common."""

    config: object
    algorithm: object  # algorithms.Algorithm
    options: dict  # of the algorithm
    roles: object  # comm.Roles
    objective: object
    sampler: object
    steps: int
    virtual: bool  # whether the clock is
    manifest: dict  # what to write into checkpoints beside the step
    restored: tuple | None = None  # (arrays, manifest) of the checkpoint to go on from
    folder: object = None  # where checkpoints go
    recorder: object = None  # rank 0's; None in processes that do not host it
    wish: list = ()  # not empty once a signal asked to stop


class Rank:
    """One rank of a job.

    Args:
        comm: for the algorithm.  observer: the same ranks, for watching and saving.
    """

    def __init__(self, job, comm, observer):
        self.job, self.comm, self.observer = job, comm, observer
        self.local = Local(comm, job.objective, job.sampler, job.config.checkpoint_every, job.wish)
        self.optimizer = build(job.config.optimizer, OPTIMIZERS, "optimizer")
        owned = {rank: (lo, hi) for rank, lo, hi in job.roles.owners}
        self.owner = comm.rank in owned
        self.lo, self.hi = owned.get(comm.rank, (0, job.objective.layout.size))
        if job.restored:
            self._restore(*job.restored)
        else:
            self.state = State(job.objective.start(job.config.seed, comm.dtype)[self.lo : self.hi])
        self.recorder = job.recorder if comm.rank == 0 else None

    def run(self):
        """Drive the algorithm to its end; returns on rank 0 {"x": (n,), "ranks": [...]}, None elsewhere."""
        with np.errstate(over="ignore", invalid="ignore"):  # a gradient that is not finite is found and named below
            return self._run()

    def _run(self):
        job, config = self.job, self.job.config
        program = job.algorithm.run(
            self.comm,
            self.local,
            self.state,
            optimizer=self.optimizer,
            schedule=constant(lr=config.lr),
            steps=job.steps,
            **job.options,
        )
        if self.recorder:
            self.recorder.start()
        saved, stopped = self.state.t, False
        while not stopped:
            try:
                alone = next(program) == ALONE
            except StopIteration:
                break
            except NonFiniteGradient as error:
                raise self._explain(error) from None
            stopped = not alone and self.state.stop
            self._observe(alone)
            if not alone and (stopped or config.checkpoint_every and self.state.t % config.checkpoint_every == 0):
                self._save()
                saved = self.state.t
        return self._finish(saved)

    def _observe(self, alone):
        """Make the records that are due.  Evaluation needs all of x: rank 0 has it, or the owners hand it in."""
        job, state = self.job, self.state
        together = len(job.roles.owners) > 1
        if job.roles.synchronous:
            evaluate = state.t % job.sampler.steps_per_epoch == 0
        else:
            evaluate = not alone and together
        x = self._whole() if evaluate and together else state.x
        if not self.recorder:
            return state.heads.clear()
        ended = self.recorder.read(state.heads, state.t)
        evaluate = evaluate or ended and not together
        if evaluate or self.recorder.due(state.t, ended):
            self._record(x if evaluate else None)

    def _record(self, x):
        """Make a record now, with an evaluation of x unless it is None."""
        with self.recorder.timed("evaluation"):
            test = {} if x is None else self.job.objective.evaluate(x)
        self.recorder.record(self.state.t, self.comm.clock(), self.job.virtual, test)

    def _explain(self, error):
        """The error of a non-finite gradient, with rank and layer, the same on every rank."""
        if not self.job.roles.synchronous:
            return error
        mine = np.array(self.local.fault or (0, 0, 0), np.int64)
        for rank, fault in enumerate(self.observer.allgather(mine.view(np.uint8))):
            fault = fault.view(np.int64)
            if fault[2]:
                return self._agreed(self.local.describe_fault(rank, fault))
        return self._agreed(str(error))

    def _agreed(self, text):
        """An error that every rank raises at this point."""
        error = NonFiniteGradient(text)
        error.agreed = True
        return error

    def _whole(self):
        """x (n,) on rank 0, put together from its owners."""
        parts = self.observer.gather(self.state.x if self.owner else self.state.x[:0])
        return np.concatenate([parts[rank] for rank, _, _ in self.job.roles.owners]) if parts else None

    # --- checkpoints

    def _save(self):
        """All ranks hand in what they own; rank 0 writes it.  Called while all of them stand still."""
        kept = {f"{self.comm.rank}/own/{name}": array for name, array in self.state.own.items()}
        kept[f"{self.comm.rank}/counters"] = np.array([self.comm.messages, self.comm.bytes, self.local.computed])
        if self.owner:
            kept["x"] = self.state.x
            kept |= {f"optimizer/{name}": array for name, array in self.optimizer.slots.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **kept)
        parts = self.observer.gather(np.frombuffer(buffer.getbuffer(), np.uint8))
        if parts is None or self.job.folder is None:
            return
        with self.recorder.timed("checkpoints"):
            manifest = self.job.manifest | {
                "step": self.state.t,
                "clock": self.comm.clock(),
                "recorder": self.recorder.save(),
            }
            save(self.job.folder, self._join(parts), manifest)

    def _join(self, parts):
        """{name: array} of a checkpoint from what each rank handed in: an owner's ranges are put together."""
        ranks = [dict(np.load(io.BytesIO(part))) for part in parts]
        arrays = {}
        for rank, _, _ in self.job.roles.owners:
            size = len(ranks[rank]["x"])
            for name in [name for name in ranks[rank] if name == "x" or name.startswith("optimizer/")]:
                array = ranks[rank].pop(name)
                joined = name in arrays and len(array) == size and array.dtype == self.comm.dtype
                arrays[name] = np.concatenate([arrays[name], array]) if joined else array
        for rank in ranks:
            arrays |= rank
        return arrays

    def _restore(self, arrays, manifest):
        """State, optimizer and counters from a checkpoint."""
        n = self.job.objective.layout.size
        self.state = State(arrays["x"][self.lo : self.hi])
        self.state.t = manifest["step"]
        prefix = f"{self.comm.rank}/own/"
        self.state.own = {
            name.removeprefix(prefix): array.copy() for name, array in arrays.items() if name.startswith(prefix)
        }
        for name, array in arrays.items():
            if name.startswith("optimizer/"):
                whole = array.shape == (n,) and array.dtype == self.comm.dtype
                self.optimizer.slots[name.removeprefix("optimizer/")] = (
                    array[self.lo : self.hi] if whole else array
                ).copy()
        counters = arrays[f"{self.comm.rank}/counters"]
        self.comm.messages, self.comm.bytes, self.local.computed = (int(number) for number in counters)

    def _finish(self, saved):
        """The end of the run: the last checkpoint, the last record, and what each rank counted."""
        counted = [self.comm.messages, self.comm.bytes, self.local.computed, os.getpid(), self.comm.clock()]
        ranks = self.observer.gather(np.array(counted, np.float64).view(np.uint8))
        broken = np.array([not np.isfinite(self.state.x).all()], np.float64)
        if self.observer.allreduce(broken)[0]:
            raise self._agreed(
                f"step {self.state.t}: the last update made parameters that are not finite; use a smaller --lr"
            )
        if saved != self.state.t and self.job.folder is not None:
            self._save()
        x = self._whole() if len(self.job.roles.owners) > 1 else self.state.x
        if not self.recorder:
            return None
        # Steps since the last record get one too, which a resumed run takes back.
        if self.recorder.record_sums[0]:
            self._record(x)
        self.recorder.finish()
        ranks = [numbers.view(np.float64) for numbers in ranks]
        clock = max(numbers[4] for numbers in ranks)
        return {"x": np.array(x), "ranks": ranks, "step": self.state.t, "clock": float(clock)}
