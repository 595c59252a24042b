"""The SFT LearnerWorker: one rank under Ray Train, a thin shell around the learner core.

begin    newest checkpoint -> weights, page position
step     take -> pack -> learner step -> report, save, evaluate
"""

from __future__ import annotations

import time

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from olmrl.checkpoint.hf import export
from olmrl.checkpoint.state import CheckpointStore
from olmrl.data.feed import TRAIN, StepShare
from olmrl.data.pack import pack_examples
from olmrl.learner.build import build_strategy, head_spec
from olmrl.learner.core import SftLearner
from olmrl.learner.task import SftTask
from olmrl.metrics import Clock, Last, Max, Mean, Measurements, Sum
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
        mode = config.evaluation.best_mode
        self._store = CheckpointStore(
            f"{task.run_dir}/checkpoints",
            keep_last=config.checkpoint.keep_last,
            keep_best=config.checkpoint.keep_best,
            best_mode=mode,
            asynchronous=config.checkpoint.asynchronous,
        )
        self._saved_step = -1

    def run(self) -> None:
        """Train until the steps or the pages are used up."""
        task, config = self._task, self._config
        step, position = self._begin()
        if step == 0:
            self._evaluate(step)
        started, evaluated = time.monotonic(), step if step == 0 else -1
        while step < task.total_steps:
            clock = Clock()
            share: StepShare | None = ray.get(task.feed.take.remote(TRAIN, step, self._rank))
            clock.lap("data_wait")
            if share is None:
                break
            measured = self._train(share, step, clock)
            step, position = step + 1, share.position
            every = config.checkpoint.every
            if every and step % every == 0:
                self._save(step, position)
                clock.lap("checkpoint")
            epoch = position[0] + position[1] / task.pages_per_epoch
            measured |= {"data/epoch": Last(epoch)}
            ray.get(task.feed.report.remote(step, {**measured, **clock.measurements()}))
            every = config.evaluation.every
            if every and step % every == 0:
                self._evaluate(step)
                evaluated = step
            limit = config.run.max_seconds
            if limit is not None and self._any_rank(time.monotonic() - started > limit):
                break
        stopping = self._any_rank(ray.get(task.feed.stopping.remote()))
        if evaluated != step and not stopping:
            self._evaluate(step)
        self._save(step, position)
        self._store.wait()
        if self._rank == 0:
            if not stopping:
                export(task.run_dir, f"{task.run_dir}/model", replace=True)
            ray.get(task.feed.finish.remote())

    def _begin(self) -> tuple[int, tuple[int, int]]:
        step, position = 0, (0, 0)
        newest = self._store.newest()
        if newest is not None:
            restored = self._store.load(newest, self._strategy.state_dict())
            self._strategy.load_state_dict(restored.state)
            step, position = newest.step, tuple(restored.extra["position"])
            self._saved_step = step
        if self._rank == 0:
            ray.get(self._task.feed.begin.remote(step, position))
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.barrier()
        return step, position

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

    def _evaluate(self, step: int) -> None:
        names = self._task.evaluation_sets
        if not names:
            return
        if self._rank == 0:
            ray.get(self._task.feed.evaluate.remote(step))
        losses: Measurements = {}
        for name in names:
            losses[f"eval/{name}/loss"] = self._evaluate_set(f"eval/{name}/{step}")
        means = [loss.value() for loss in self._over_ranks(losses).values()]
        mean = sum(means) / len(means)
        report = losses | {"eval/loss": Mean(mean)}
        ray.get(self._task.feed.report.remote(step, report))
        if self._rank == 0 and self._config.evaluation.best_metric == "eval/loss":
            self._store.record_score(step, mean)

    def _evaluate_set(self, channel: str) -> Mean:
        total, index = Mean(0.0, 0.0), 0
        while True:
            share = ray.get(self._task.feed.take.remote(channel, index, self._rank))
            if share is None:
                return total
            total = total.merge(self._learner.evaluate(self._pack(share)))
            index += 1

    def _over_ranks(self, losses: Measurements) -> dict[str, Mean]:
        merged = {}
        for name, loss in losses.items():
            assert isinstance(loss, Mean)
            merged[name] = Mean(*self._strategy.sum_over_ranks([loss.total, loss.weight]))
        return merged

    def _save(self, step: int, position: tuple[int, int]) -> None:
        if step == self._saved_step:
            return
        extra = {"position": list(position), "config": self._config.model_dump(mode="json")}
        self._store.save(step, self._strategy.state_dict(), extra=extra)
        self._saved_step = step

    def _any_rank(self, flag: bool) -> bool:
        return self._strategy.max_over_ranks([float(flag)])[0] > 0.0
