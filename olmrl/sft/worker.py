"""The SFT LearnerWorker: one rank under Ray Train, a thin shell around the learner core.

begin    newest checkpoint -> weights, progress over the pages
step     take -> pack -> learner step -> report, save, evaluate
"""

from __future__ import annotations

import time
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from olmrl.checkpoint.state import CheckpointStore
from olmrl.data.pack import pack_examples
from olmrl.export.hf import export
from olmrl.learner.build import build_strategy, head_spec
from olmrl.learner.core import SftLearner
from olmrl.metrics import Clock, Last, Max, Measurements, Sum
from olmrl.sft.evaluator import SftEvaluator
from olmrl.sft.feed import TRAIN, Progress, StepShare
from olmrl.sft.task import SftTask
from olmrl.types import PackedBatch


def sft_loop(task: SftTask) -> None:
    """Entry point of every rank."""
    SftWorker(task).run()


class SftWorker:
    """One rank of the learner."""

    def __init__(self, task: SftTask) -> None:
        self._task = task
        self._config = config = task.config
        self._rank = ray.train.get_context().get_world_rank()
        self._vision = task.encoder.build().vision
        device = ray.train.torch.get_device() if config.learner.use_gpu else torch.device("cpu")
        torch.set_num_threads(max(1, int(config.learner.cpus_per_worker)))
        torch.manual_seed(config.run.seed)
        self._strategy = build_strategy(
            config.model,
            config.learner,
            head_spec(config.learner),
            total_steps=task.total_steps,
            device=device,
        )
        self._learner = SftLearner(self._strategy, replay_dir=f"{task.run_dir}/replay")
        self._store = CheckpointStore(
            f"{task.run_dir}/checkpoints",
            keep_last=config.checkpoint.keep_last,
            keep_best=config.checkpoint.keep_best,
            best_mode=config.evaluation.mode,
            asynchronous=config.checkpoint.asynchronous,
        )
        self._evaluator = SftEvaluator(task, self._strategy, self._learner, self._store, self._pack)
        self._saved_step = -1

    def run(self) -> None:
        """Train until the steps or the pages are used up."""
        task, config = self._task, self._config
        step, progress = self._begin()
        if step == 0:
            self._evaluator.run(step, always=True)
        started = time.monotonic()
        clock = Clock()
        ahead = self._ask(step)
        while step < task.total_steps:
            share: StepShare | None = ray.get(ahead)
            clock.lap("data_wait")
            if share is None:
                break
            if step + 1 < task.total_steps:
                ahead = self._ask(step + 1)
            measured = self._train(share, step, clock)
            step, progress = step + 1, share.after
            epoch, index = progress.position
            measured |= {"data/epoch": Last(epoch + index / task.pages_per_epoch)}
            ray.get(task.feed.report.remote(step, {**measured, **clock.measurements()}))
            is_best = self._evaluator.run(step)
            # Saved when all that is told of the step is on disk; its seconds count into the next.
            clock = Clock()
            every = config.checkpoint.every
            if is_best or (every and step % every == 0):
                self._save(step, progress)
                clock.lap("checkpoint")
            limit = config.run.max_seconds
            if limit is not None and self._any_rank(time.monotonic() - started > limit):
                break
        stopping = self._any_rank(ray.get(task.feed.stopping.remote()))
        if not stopping:
            self._evaluator.run(step, always=True)
        self._save(step, progress)
        self._store.wait()
        if self._rank == 0:
            if not stopping:
                export(task.run_dir, f"{task.run_dir}/model", replace=True)
            ray.get(task.feed.finish.remote())

    def _ask(self, step: int) -> Any:
        """Ref of this rank's share of a step, which travels here while another step is trained."""
        share = self._task.feed.take.remote(TRAIN, step, self._rank)
        ray.wait([share], timeout=0)
        return share

    def _begin(self) -> tuple[int, Progress]:
        step, progress = 0, Progress()
        newest = self._store.newest()
        if newest is not None:
            restored = self._store.load(newest, self._strategy.state_dict())
            self._strategy.load_state_dict(restored.state)
            step, progress = newest.step, Progress.from_json(restored.extra)
            self._saved_step = step
        if self._rank == 0:
            ray.get(self._task.feed.begin.remote(step, progress))
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.barrier()
        return step, progress

    def _train(self, share: StepShare, step: int, clock: Clock) -> Measurements:
        batches = self._pack(share)
        clock.lap("pack")
        measured = self._learner.step(batches, step)
        clock.lap("learner")
        packed = float(sum(batch.num_tokens for batch in batches))
        return measured | {
            "throughput/learner_tokens_per_s": Sum(packed / clock.parts["learner"]),
            "throughput/pages_per_s": Sum(len(share.examples) / clock.parts["learner"]),
            "learner/micro_batches": Max(float(len(batches))),
        }

    def _pack(self, share: StepShare) -> list[PackedBatch]:
        return pack_examples(share.examples, self._config.learner.token_budget, self._vision)

    def _save(self, step: int, progress: Progress) -> None:
        if step == self._saved_step:
            return
        if self._rank == 0:
            ray.get(self._task.feed.all_written.remote())
        extra = {**progress.as_json(), "config": self._config.model_dump(mode="json")}
        self._store.save(step, self._strategy.state_dict(), extra=extra)
        self._saved_step = step

    def _any_rank(self, flag: bool) -> bool:
        return self._strategy.max_over_ranks([float(flag)])[0] > 0.0
