"""One rank's part of the evaluations of an SFT run: losses per set, and transcriptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import ray
import torch

from olmrl.checkpoint.state import CheckpointStore
from olmrl.learner.core import SftLearner
from olmrl.learner.generation import transcribe, whole_copy
from olmrl.learner.strategy import Strategy
from olmrl.metrics import Mean, Measurements
from olmrl.sft.feed import EvaluationRequest, PromptShare, StepShare, Transcript
from olmrl.sft.task import SftTask
from olmrl.types import PackedBatch


class SftEvaluator:
    """Evaluates when it is due, and notes the scores of checkpoints.

    Args:
        task: The run.
        strategy: The policy.
        learner: What takes its loss.
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
        self._losses_at = self._transcripts_at = -1

    def run(self, step: int, *, always: bool = False) -> bool:
        """Evaluate what is due after a step; every rank calls it.

        Args:
            step: Optimizer steps in the weights.
            always: At start and end: whatever was not evaluated at this very step.

        Returns:
            Whether these weights are among the best and so are to be saved, on all ranks alike.
        """
        settings = self._task.config.evaluation
        generate = settings.generate
        losses = bool(self._task.evaluation_sets) and (always or _due(settings.every, step))
        losses &= step != self._losses_at
        transcripts = generate is not None and (always or _due(generate.every, step))
        transcripts &= step != self._transcripts_at
        if not losses and not transcripts:
            return False
        if self._strategy.rank == 0:
            request = EvaluationRequest(step, losses, transcripts)
            ray.get(self._task.feed.evaluate.remote(request))
        figures: dict[str, float] = {}
        if losses:
            figures |= self._take_losses(step)
            self._losses_at = step
        if transcripts:
            figures |= self._read(step)
            self._transcripts_at = step
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
        ray.get(self._task.feed.report.remote(step, report))
        return figures

    def _set_loss(self, channel: str) -> Mean:
        total, index = Mean(0.0, 0.0), 0
        while True:
            share = ray.get(self._task.feed.take.remote(channel, index, self._strategy.rank))
            if share is None:
                return total
            total = total.merge(self._learner.evaluate(self._pack(share)))
            index += 1

    def _read(self, step: int) -> dict[str, float]:
        feed, config = self._task.feed, self._task.config
        generate = config.evaluation.generate
        assert generate is not None
        share: PromptShare = ray.get(feed.take.remote(f"read/{step}", 0, self._strategy.rank))
        model = whole_copy(self._strategy, config.model)
        encoder = self._task.encoder.build()
        read = transcribe(
            model,
            [page for _, page in share.prompts],
            encoder,
            max_tokens=generate.max_tokens,
            batch_pages=generate.batch_pages,
        )
        transcripts = [
            Transcript(number, ids, bool(np.isin(encoder.end_id, ids)))
            for (number, _), ids in zip(share.prompts, read, strict=True)
        ]
        del model, read
        if self._strategy.device.type == "cuda":
            torch.cuda.empty_cache()
        ray.get(feed.transcribed.remote(step, transcripts))
        scores: dict[str, float] = ray.get(feed.scores.remote(step))
        return scores

    def _note(self, step: int, figures: dict[str, float]) -> bool:
        """Note the score, but for step 0: its weights are the model that the run began with."""
        score = figures.get(self._task.config.evaluation.best_metric)
        if score is None or step == 0:
            return False
        is_best = self._strategy.rank == 0 and self._store.record_score(step, score)
        return self._strategy.max_over_ranks([float(is_best)])[0] > 0.0


def with_mean(losses: Mapping[str, Mean]) -> dict[str, float]:
    """Losses of the sets and `eval/loss`, their mean; a set whose pages were all dropped has none.

    Args:
        losses: over all ranks, by `eval/<set>/loss`.
    """
    figures = {name: loss.value() for name, loss in losses.items() if loss.weight}
    return figures | ({"eval/loss": sum(figures.values()) / len(figures)} if figures else {})


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0
