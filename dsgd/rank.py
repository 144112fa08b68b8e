"""What one rank does in a run, the same in both worlds: start or restore, drive the algorithm, observe, save."""

import json
import os
from functools import partial

import numpy as np

from dsgd.arrays import to_host
from dsgd.checkpoint import NAME, save
from dsgd.device import explained
from dsgd.errors import NonFiniteGradient, ReplicasDiffer
from dsgd.local import Local
from dsgd.norms import Norms
from dsgd.optimizers import OPTIMIZERS
from dsgd.order import Order
from dsgd.progress import Progress
from dsgd.replicas import differences, hashes
from dsgd.schedules import make_schedule
from dsgd.snapshot import hand_in, join, take_out
from dsgd.specs import build
from dsgd.staging import Staged
from dsgd.state import ALONE, State
from dsgd.strike import Killed, Strikes
from dsgd.update import Update


class Rank:
    """One rank of a job.

    Args:
        comm: for the algorithm.  observer: the same ranks, for watching and saving.
    """

    def __init__(self, job, comm, observer):
        if job.xp is not np:
            comm = Staged(comm, job.xp)
        self.job, self.comm, self.observer = job, comm, observer
        spare = job.roles.spare and comm.worker is not None
        self.strikes = Strikes(job.faults, comm.rank, job.virtual, spare)
        config = job.config
        self.local = Local(
            comm,
            job.objective,
            job.sampler,
            rest=config.checkpoint_every,
            wish=job.wish,
            strikes=self.strikes,
            order=job.order or Order(),
            seed=config.seed,
            controller=job.controller,
        )
        self.owner = comm.rank in job.roles.owned
        self.lo, self.hi = job.roles.owned.get(comm.rank, (0, job.objective.layout.size))
        self.together = len(job.roles.owners) > 1  # whether x has to be put together from its owners
        epoch = job.sampler.steps_per_epoch
        self.norms = Norms(job.objective.layout, self.lo, self.hi)
        all_norms = Norms(job.objective.layout)
        self.update = self._make_update(self.norms, all_norms)
        self.local.update = self._make_update(all_norms)
        self.schedule = make_schedule(config.schedule, lr=job.lr, steps=job.steps, warmup=config.warmup_steps)
        self.progress = Progress(
            config.log_every or epoch, self.schedule, config.tolerance, config.patience, config.stop_on_divergence
        )
        if job.restored:
            take_out(self, *job.restored)
        else:
            self.state = State(*self.share_of(job.xp.asarray(job.objective.start(config.seed, comm.dtype))))
        self.recorder = job.recorder if comm.rank == 0 else None

    def _make_update(self, norms, all_norms=None):
        """An Update as the configuration says."""
        config = self.job.config
        optimizer = build(config.optimizer, OPTIMIZERS, "--optimizer")
        return Update(optimizer, norms, config.clip_norm, config.l1, config.l2, all_norms)

    def share_of(self, x):
        """(own range, x (n,) if this rank holds a range and works on all of it), of a start."""
        return x[self.lo : self.hi], x if self.owner and self.comm.worker is not None else None

    def run(self):
        """Drive the algorithm to its end; returns on rank 0 {"x": (n,), "ranks": [...], ...}, None elsewhere."""
        explain = explained(self.job.xp, self.job.room, lambda: f"rank {self.comm.rank}, step {self.state.t + 1}")
        with explain, np.errstate(over="ignore", invalid="ignore"):  # a gradient that is not finite is named below
            return self._run()

    def _run(self):
        job, state, config = self.job, self.state, self.job.config
        every = config.checkpoint_every
        program = job.algorithm.run(
            self.comm,
            self.local,
            state,
            optimizer=self.update,
            schedule=self.schedule,
            steps=job.steps,
            **job.options,
        )
        if self.recorder:
            self.recorder.start()
        saved, stopped = state.t, False
        while not stopped and not self.progress.ended:
            self.update.watch = self.owner and (self._due(state.t + 1) or state.t + 1 == job.steps)
            self.strikes.before(state)
            try:
                alone = next(program) == ALONE
            except StopIteration:
                break
            except Killed:
                return None
            except NonFiniteGradient as error:
                if self.recorder:
                    self.recorder.explode(state.t + 1, self.comm.clock(), job.virtual)
                raise self._explain(error) from None
            stopped = not alone and self.state.stop
            if config.check_replicas and self.state.t % config.check_replicas == 0:
                self._check_replicas()
            self._observe(alone)
            ended = stopped or self.progress.ended
            if not alone and (ended or every and self.state.t % every == 0):
                self._save(last=bool(ended) or self.state.t == job.steps)
                saved = self.state.t
        stopped_by = "replay" if job.replayed else "signal"
        return self._finish(saved, stopped_by if stopped else self.progress.ended or "steps")

    def _due(self, t):
        """Whether a record is made at step t, by the number of the step alone."""
        every = self.job.config.log_every
        return t % self.job.sampler.steps_per_epoch == 0 or bool(every) and t % every == 0

    def _observe(self, alone):
        """Make the records that are due.  Evaluation needs all of x: rank 0 has it, or the owners hand it in."""
        job, state = self.job, self.state
        if self.progress.needed:
            self.progress.read(state.heads, state.t)
        if job.roles.synchronous:
            evaluate = state.t % job.sampler.steps_per_epoch == 0 or bool(self.progress.ended)
        else:
            evaluate = not alone and self.together
        x = self._whole() if evaluate and self.together else state.x
        squares = self._squares() if self._due(state.t) and self.together else None
        if not self.recorder:
            return state.heads.clear()
        ended = self.recorder.read(state.heads, state.t)
        evaluate = evaluate or ended and not self.together
        if evaluate or self.recorder.due(state.t, ended):
            self._record(x if evaluate else None, squares if self.together else self._squares())
        self.recorder.keep_up(self.local.order, state.t)

    def _record(self, x, squares):
        """Make a record now, with an evaluation of x unless it is None."""
        with self.recorder.timed("evaluation"):
            test = {} if x is None else self.job.objective.evaluate(x)
        self.recorder.record(self.state.t, self.comm.clock(), self.job.virtual, test, squares)
        self.recorder.write_order(self.local.order, self.state.t)

    def _squares(self):
        """{array: Σ g²} of the averaged gradient on rank 0, put together from the owners; None if nobody looked at it."""
        if self.together and not self.job.roles.synchronous:
            return None  # the owners have seen different pushes last
        sums, self.update.sums = self.update.sums, None
        sums = sums if sums is None else to_host(sums)
        if self.together:
            parts = self._gather(np.zeros(0) if sums is None or not self.owner else sums)
            sums = np.concatenate([parts[rank] for rank, _, _ in self.job.roles.owners]) if parts else None
        if self.recorder is None or sums is None or not len(sums):
            return None
        return self.norms.by_array(sums)

    def _check_replicas(self):
        """Raise on every rank if a worker's x is not that of the others."""
        layout, workers = self.job.objective.layout, self.job.roles.workers
        mine = hashes(layout, to_host(self.state.x)) if self.comm.worker is not None else np.zeros(0, np.uint8)
        found = differences(layout, self.observer.allgather(mine), workers, self.state.t)
        if found:
            raise self._agreed(found, ReplicasDiffer)

    def _explain(self, error):
        """The error of a non-finite gradient, with rank and layer, the same on every rank."""
        if not self.job.roles.synchronous:
            return error
        mine = np.array(self.local.find_fault() or (0, 0, 0), np.int64)
        for rank, fault in enumerate(self.observer.allgather(mine.view(np.uint8))):
            fault = fault.view(np.int64)
            if fault[2]:
                return self._agreed(self.local.describe_fault(rank, fault))
        return self._agreed(str(error))

    def _agreed(self, text, kind=NonFiniteGradient):
        """An error that every rank raises at this point."""
        error = kind(text)
        error.agreed = True
        return error

    def _gather(self, x):
        """{rank: its x} on rank 0, None elsewhere; ranks that were given up are missing."""
        lost = self.state.lost
        parts = self.observer.without(lost).gather(x)
        return parts and dict(zip((rank for rank in range(self.comm.size) if rank not in lost), parts))

    def _whole(self):
        """x (n,) on rank 0, put together from its owners."""
        x = self.state.x if self.owner else self.state.x[:0]
        parts = self._gather(to_host(x))
        return np.concatenate([parts[rank] for rank, _, _ in self.job.roles.owners]) if parts else None

    def _save(self, last):
        """All ranks hand in what they own; rank 0 writes it.  Called while all of them stand still.   last: of the run"""
        parts = self._gather(hand_in(self))
        if parts is None or self.job.folder is None:
            return
        with self.recorder.timed("checkpoints"):
            write = partial(save, self.job.folder, *self._checkpoint(parts))
            self.recorder.write_order(self.local.order, self.state.t, last)  # a checkpoint needs its log
            self.recorder.disk.attempt(NAME, write, self.state.t, last)

    def _checkpoint(self, parts):
        """(arrays, manifest) of a checkpoint, on rank 0.   parts: {rank: what it handed in}"""
        manifest = self.job.manifest | {
            "step": self.state.t,
            "clock": self.comm.clock(),
            "recorder": self.recorder.save(),
            "progress": self.progress.state,
            "order": self.local.order.kept,
        }
        return join(parts, self.job.roles, self.comm.dtype), manifest

    def _finish(self, saved, ended_by):
        """The end of the run: the last checkpoint, the last record, and what each rank counted."""
        counted = [self.comm.sent.messages, self.comm.sent.bytes, self.local.computed, os.getpid(), self.comm.clock()]
        ranks = self._gather(np.array(counted, np.float64).view(np.uint8))
        logs = self._logs() if self.job.config.trace else None
        broken = np.array([not np.isfinite(to_host(self.state.x)).all()], np.float64)
        if self.observer.without(self.state.lost).allreduce(broken)[0]:
            raise self._agreed(
                f"step {self.state.t}: the last update made parameters that are not finite; use a smaller --lr"
            )
        if saved != self.state.t and self.job.folder is not None:
            self._save(last=True)
        handed = self._gather(hand_in(self)) if self.job.keep else None
        checkpoint = handed and self._checkpoint(handed)
        x = self._whole() if self.together else self.state.x
        squares = self._squares()
        if not self.recorder:
            return None
        # Steps since the last record get one too, which a resumed run takes back.
        if self.recorder.record_sums[0]:
            self._record(x, squares)
        self.recorder.finish()
        ranks = {rank: numbers.view(np.float64) for rank, numbers in ranks.items()}
        clock = max(numbers[4] for numbers in ranks.values())
        return {
            "x": np.array(to_host(x)),
            "ranks": ranks,
            "step": self.state.t,
            "clock": float(clock),
            "ended_by": ended_by,
            "logs": logs,
            "checkpoint": checkpoint,
        }

    def _logs(self):
        """[what each rank noted] on rank 0, for the timeline."""
        packed = json.dumps(self.comm.log.pack()).encode()
        logs = self._gather(np.frombuffer(packed, np.uint8))
        none = {"records": [], "begin": 0.0, "full": False}  # of a rank that was given up, beside its place
        return logs and [
            json.loads(logs[r].tobytes()) if r in logs else none | {"places": {self.comm.name: r}}
            for r in range(self.comm.size)
        ]
