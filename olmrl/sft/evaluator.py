"""One rank's part in the evaluations of an SFT run: losses per set, and pages that it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ray
import torch

from olmrl.checkpoint.state import CheckpointStore
from olmrl.data.payload import unpack_block
from olmrl.evaluation.reading import ReadingSpec, read_pages
from olmrl.learner.core import SftLearner
from olmrl.learner.generation import whole_copy
from olmrl.learner.strategy import Strategy
from olmrl.metrics import Mean, Measurements
from olmrl.sft.feed import EvaluationRequest, PromptShare, StepShare
from olmrl.sft.policy_generator import PolicyGenerator
from olmrl.sft.task import SftTask
from olmrl.types import PackedBatch, PolicyVersion


class SftEvaluator:
    """Evaluates when it is due, and records the scores of checkpoints.

    Args:
        task: The run.
        strategy: The policy.
        learner: Computes its loss.
        store: Keeps the best checkpoints by the scores.
        pack: Pages to micro-batches.
    """

    def __init__(
        self,
        task: SftTask,
        strategy: Strategy,
        learner: SftLearner,
        store: CheckpointStore,
        pack: Callable[[StepShare], list[PackedBatch]],
    ) -> None:
        self._task = task
        self._strategy = strategy
        self._learner = learner
        self._store = store
        self._pack = pack
        self._losses_at = self._read_at = -1

    def run(self, version: PolicyVersion, *, always: bool = False) -> bool | None:
        """Evaluate what is due after a step; every rank calls it.

        Args:
            version: Of the weights.
            always: Evaluate even if nothing is due, unless this step was already evaluated.

        Returns:
            Whether these weights are among the best and so must be saved, on all ranks alike;
            None if nothing was due.
        """
        settings = self._task.config.evaluation
        generate, step = settings.generate, version.step
        losses = bool(self._task.evaluation_sets) and (always or _due(settings.every, step))
        losses &= step != self._losses_at
        pages = generate is not None and (always or _due(generate.every, step))
        pages &= step != self._read_at
        if not losses and not pages:
            return None
        if self._strategy.rank == 0:
            request = EvaluationRequest(step, losses, pages)
            ray.get(self._task.actor.evaluate.remote(request))
        figures: dict[str, float] = {}
        if losses:
            figures |= self._take_losses(step)
            self._losses_at = step
        if pages:
            figures |= self._read_pages(version)
            self._read_at = step
        return self._note(step, figures)

    def _take_losses(self, step: int) -> dict[str, float]:
        losses: Measurements = {}
        whole: dict[str, Mean] = {}
        for name in self._task.evaluation_sets:
            loss = self._set_loss(f"eval/{name}/{step}")
            losses[f"eval/{name}/loss"] = loss
            totals = self._strategy.sum_over_ranks([loss.total, loss.weight])
            whole[f"eval/{name}/loss"] = Mean(*totals)
        figures = with_mean(whole)
        report = {name: losses.get(name, Mean(value)) for name, value in figures.items()}
        ray.get(self._task.actor.report.remote(step, self._strategy.rank, report))
        return figures

    def _set_loss(self, channel: str) -> Mean:
        total, index = Mean(0.0, 0.0), 0
        while True:
            share = ray.get(self._task.actor.take.remote(channel, index, self._strategy.rank))
            if share is None:
                return total
            total = total.merge(self._learner.evaluate(self._pack(share)))
            index += 1

    def _read_pages(self, version: PolicyVersion) -> dict[str, float]:
        actor, config, step = self._task.actor, self._task.config, version.step
        generate = config.evaluation.generate
        assert generate is not None
        share: PromptShare = ray.get(actor.take.remote(f"read/{step}", 0, self._strategy.rank))
        model = whole_copy(self._strategy, config.model)
        policy = PolicyGenerator(model, self._task.encoder.build(), version, generate.batch_pages)
        pages = [(name, unpack_block(ray.get(block))) for name, block in share.prompts]
        readings = list(read_pages(policy, pages, ReadingSpec(generate.max_tokens)))
        del model, policy
        if self._strategy.device.type == "cuda":
            torch.cuda.empty_cache()
        ray.get(actor.have_read.remote(step, readings))
        scores: dict[str, float] = ray.get(actor.scores.remote(step))
        return scores

    def _note(self, step: int, figures: dict[str, float]) -> bool:
        """Record the score, except that of step 0, the run's base model."""
        score = figures.get(self._task.config.evaluation.best_metric)
        if score is None or step == 0:
            return False
        is_best = self._strategy.rank == 0 and self._store.record_score(step, score)
        return self._strategy.max_over_ranks([float(is_best)])[0] > 0.0


def with_mean(losses: Mapping[str, Mean]) -> dict[str, float]:
    """Losses of the sets and `eval/loss`, their mean; a set whose pages were all dropped has none.

    Args:
        losses: Over all ranks, by `eval/<set>/loss`.
    """
    figures = {name: loss.value() for name, loss in losses.items() if loss.weight}
    return figures | ({"eval/loss": sum(figures.values()) / len(figures)} if figures else {})


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0
