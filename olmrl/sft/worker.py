"""The SFT LearnerWorker: takes its share of each step from the StepFeed.

begin    also restores the position in the pages
step     take -> pack -> learner step
"""

from __future__ import annotations

from typing import Any

import ray
import torch

from olmrl.checkpoint.state import Restored
from olmrl.data.items import IMAGE_CALLS
from olmrl.data.pack import pack_examples
from olmrl.data.payload import unpack_block
from olmrl.learner.build import build_strategy, head_spec
from olmrl.learner.core import SftLearner
from olmrl.learner.strategy import Strategy
from olmrl.metrics import Clock, Last, Mean, Measurements, Sum, merge
from olmrl.models.patches import images_encoded
from olmrl.run.worker import LearnerWorker
from olmrl.sft.evaluator import SftEvaluator
from olmrl.sft.feed import TRAIN, PagesUsed, StepShare
from olmrl.sft.task import SftTask
from olmrl.types import PackedBatch, PolicyVersion


class SftWorker(LearnerWorker[SftTask]):
    """One rank of the learner."""

    waits_for = "data"

    def __init__(self, task: SftTask) -> None:
        super().__init__(task, task.config.evaluation.mode)
        self._learner = SftLearner(self._strategy, replay_dir=f"{task.run_dir}/replay")
        self._evaluator = SftEvaluator(task, self._strategy, self._learner, self._store, self._pack)
        self._used = PagesUsed()
        """Pages used up to the current weights."""
        self._ahead: Any = None
        """Ref of the next share; its pages travel here while a step is trained."""

    def _build(self, device: torch.device) -> Strategy:
        config = self._task.config
        return build_strategy(
            config.model,
            config.learner,
            head_spec(config.learner),
            total_steps=self._task.total_steps,
            device=device,
        )

    # -- start and checkpoints

    def _announce(self, restored: Restored | None) -> PolicyVersion:
        step = 0
        if restored is not None:
            step, self._used = restored.step, PagesUsed.from_json(restored.extra)
        return PolicyVersion(ray.get(self._actor.begin.remote(step, self._used)), step)

    def _extras(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        return self._used.as_json(), {}

    # -- a step

    def _next(self) -> StepShare | None:
        step = self._version.step
        share: StepShare | None = ray.get(self._ahead or self._ask(step))
        self._ahead = None
        if share is not None and step + 1 < self._task.total_steps:
            self._ahead = self._ask(step + 1)
        return share

    def _ask(self, step: int) -> Any:
        share = self._actor.take.remote(TRAIN, step, self._rank)
        ray.wait([share], timeout=0)
        return share

    def _fetch_ahead(self) -> None:
        """Fetch the pages of the next step to this node while this step is trained."""
        if self._ahead is not None and ray.wait([self._ahead], timeout=0)[0]:
            share: StepShare | None = ray.get(self._ahead)
            if share is not None and share.examples:
                ray.wait(list(share.examples), num_returns=len(share.examples), timeout=0)

    def _train(self, work: StepShare, clock: Clock) -> Measurements:
        encoded = images_encoded()
        batches = self._pack(work)
        clock.lap("pack")
        self._fetch_ahead()
        measured = self._learn(batches, clock)
        pages_per_s = len(work.examples) / clock.parts["learner"]
        again: Measurements = {IMAGE_CALLS: Mean(images_encoded() - encoded, 0.0)}
        return measured | merge(work.moved, again) | {"throughput/pages_per_s": Sum(pages_per_s)}

    def _commit(self, work: StepShare, clock: Clock) -> Measurements:
        self._used = work.after
        epoch, index = self._used.position
        return {"data/epoch": Last(epoch + index / self._task.pages_per_epoch)}

    def _pack(self, share: StepShare) -> list[PackedBatch]:
        examples = [unpack_block(block) for block in ray.get(list(share.examples))]
        budget = self._task.config.learner.token_budget
        return pack_examples(examples, budget, self._encoder.vision)

    # -- evaluation

    def _evaluate(self, *, last: bool) -> bool | None:
        return self._evaluator.run(self._version, always=last or self._version.step == 0)
