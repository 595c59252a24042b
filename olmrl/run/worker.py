"""The LearnerWorker: one rank under Ray Train, a thin shell around the learner core.

    begin    newest checkpoint -> weights, a new incarnation
    step     next -> train -> commit -> report -> evaluate, save
    end      evaluate, save, export

SFT and GRPO add where a step's pages come from, what is done with them, and what a checkpoint holds
besides the weights. A killed rank, group or job continues from its newest checkpoint as if nothing
had happened.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from olmrl.checkpoint.state import CheckpointStore, Restored
from olmrl.config.schema import LearnerConfig
from olmrl.export.hf import export
from olmrl.learner.core import GrpoLearner, SftLearner
from olmrl.learner.describe import describe
from olmrl.learner.strategy import Strategy
from olmrl.metrics import Clock, Max, Measurements, Sum
from olmrl.run.events import EventLog
from olmrl.run.task import Task
from olmrl.types import PackedBatch, PolicyVersion

TaskType = TypeVar("TaskType", bound=Task)

_OWED = "evaluation_owed"
"""In a checkpoint's extras: whether its evaluation was cut short, as the run was asked to end."""


class LearnerWorker(ABC, Generic[TaskType]):
    """Base of the workers; a subclass's constructor builds its learner around `_strategy`.

    Args:
        task: The run.
        best_mode: Whether the best checkpoint has the smallest or the largest score.
    """

    waits_for: str
    """Seconds spent in `_next` are `time/<waits_for>_wait`."""
    _learner: GrpoLearner | SftLearner
    """Set by the subclass."""

    def __init__(self, task: TaskType, best_mode: Literal["min", "max"] = "max") -> None:
        config = task.config
        self._task = task
        self._actor = task.actor
        self._rank = ray.train.get_context().get_world_rank()
        torch.set_num_threads(_threads(config.learner))
        torch.manual_seed(config.run.seed)
        self._encoder = task.encoder.build()
        use_gpu = config.learner.use_gpu
        self._strategy = self._build(
            ray.train.torch.get_device() if use_gpu else torch.device("cpu")
        )
        self._store = CheckpointStore(
            f"{task.run_dir}/checkpoints",
            keep_last=config.checkpoint.keep_last,
            keep_best=config.checkpoint.keep_best,
            best_mode=best_mode,
            asynchronous=config.checkpoint.asynchronous,
        )
        self._log = EventLog(task.run_dir, "learner", self._rank)
        self._version = PolicyVersion(0, 0)
        """Of the weights."""
        self._saved_step = -1
        self._owed = -1
        """Step whose evaluation was cut short by the end of the run; the resumed run makes it."""

    def run(self) -> None:
        """Train until steps or pages run out, or the run is asked to end."""
        self._begin()
        clock = Clock()
        if self._version.step in (0, self._owed):
            self._evaluate_if_due(clock)
        started = time.monotonic()
        while self._version.step < self._task.total_steps:
            work = self._next()
            clock.lap(f"{self.waits_for}_wait")
            if work is None:
                break
            measured = self._train(work, clock)
            self._version = PolicyVersion(self._version.incarnation, self._version.step + 1)
            measured |= self._commit(work, clock)
            self._log.write("step", self._version, seconds=clock.parts)
            self._report(measured, clock)
            # The step is reported; what follows counts towards the next one.
            clock = Clock()
            is_best = self._evaluate_if_due(clock)
            self._save_if_due(is_best)
            clock.lap("checkpoint")
            limit = self._task.config.run.max_seconds
            if limit is not None and self._any_rank(time.monotonic() - started > limit):
                break
        self._end()

    # -- what differs between SFT and GRPO

    @abstractmethod
    def _build(self, device: torch.device) -> Strategy:
        """Load the policy."""

    @abstractmethod
    def _announce(self, restored: Restored | None) -> PolicyVersion:
        """On rank 0, tell the actor where the run stands; returns the version of the weights."""

    @abstractmethod
    def _next(self) -> Any:
        """Wait for this rank's part of the next step; None, on all ranks alike, at the end."""

    @abstractmethod
    def _train(self, work: Any, clock: Clock) -> Measurements:
        """Make a step; `_version` is still that of the weights before it."""

    @abstractmethod
    def _commit(self, work: Any, clock: Clock) -> Measurements:
        """Make the step count; `_version` is now that of the weights it produced."""

    @abstractmethod
    def _evaluate(self, *, last: bool) -> bool | None:
        """Have the current weights evaluated, if that is due after this step.

        Sets `_owed` if the run is asked to end and does not wait for it.

        Args:
            last: The run ends here.

        Returns:
            Whether they are among the best and so must be saved, on all ranks alike; None if
            nothing was due.
        """

    @abstractmethod
    def _extras(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """What a checkpoint holds besides the weights, on rank 0: JSON extras and binary ones."""

    # -- begin and end

    def _begin(self) -> None:
        newest = self._store.newest()
        restored = None
        if newest is not None:
            restored = self._store.load(newest, self._strategy.state_dict())
            self._strategy.load_state_dict(restored.state)
            self._saved_step = newest.step
            self._owed = newest.step if restored.extra.get(_OWED) else -1
        shared: list[Any] = [None]
        if self._rank == 0:
            shared = [self._announce(restored)]
            said = describe(self._strategy)
            self._actor.say.remote([f"learner: {line}" for line in said])
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.broadcast_object_list(shared, src=0)
        self._version = PolicyVersion(*shared[0])
        precision = self._strategy.optim.precision
        chosen = {} if precision is None else {"newton_schulz": precision}
        self._log.write("begins", self._version, **chosen)

    def _end(self) -> None:
        if not self._any_rank(ray.get(self._actor.stopping.remote())):
            self._evaluate(last=True)
        self._save()
        self._store.wait()
        if self._rank == 0:
            if not ray.get(self._actor.stopping.remote()):
                export(self._task.run_dir, f"{self._task.run_dir}/model", replace=True)
            ray.get(self._actor.all_written.remote())
            ray.get(self._actor.finish.remote())

    # -- a step

    def _learn(self, batches: Sequence[PackedBatch], clock: Clock) -> Measurements:
        """Do the learner's step on this rank's micro-batches."""
        measured = self._learner.step(batches, self._version.step)
        clock.lap("learner")
        packed = float(sum(batch.num_tokens for batch in batches))
        return measured | {
            "throughput/learner_tokens_per_s": Sum(packed / clock.parts["learner"]),
            "learner/micro_batches": Max(float(len(batches))),
        }

    def _report(self, measured: Measurements, clock: Clock) -> None:
        row, spans = measured | clock.measurements(), tuple(clock.spans)
        ray.get(self._actor.report.remote(self._version.step, self._rank, row, spans))

    def _evaluate_if_due(self, clock: Clock) -> bool:
        is_best = self._evaluate(last=False)
        if is_best is not None:
            clock.lap("evaluation")
        return bool(is_best)

    def _save_if_due(self, is_best: bool) -> None:
        every = self._task.config.checkpoint.every
        if is_best or (every and self._version.step % every == 0):
            self._save()

    def _save(self) -> None:
        if self._saved_step == self._version.step:
            return
        extra: dict[str, Any] = {}
        blobs: dict[str, bytes] = {}
        if self._rank == 0:
            ray.get(self._actor.all_written.remote())
            extra, blobs = self._extras()
            extra["config"] = self._task.config.model_dump(mode="json")
            extra[_OWED] = self._owed == self._version.step
        self._store.save(self._version.step, self._strategy.state_dict(), extra=extra, blobs=blobs)
        self._log.write("checkpoint", self._version)
        self._saved_step = self._version.step

    def _any_rank(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank calls it."""
        return self._strategy.max_over_ranks([float(flag)])[0] > 0.0


def _threads(learner: LearnerConfig) -> int:
    """Threads of a rank.

    It asked Ray for a few; where the optimizer works in host memory it takes its share of all.
    """
    if not (learner.cpu_offload and learner.use_gpu):
        return max(1, int(learner.cpus_per_worker))
    ranks: int = ray.train.get_context().get_local_world_size()
    return max(1, len(os.sched_getaffinity(0)) // ranks)
