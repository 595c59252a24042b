"""One training step, without Ray: packed batches in, new weights and measurements out.

Losses are averaged over everything in the optimizer step, over all micro-batches and ranks; ranks
with less work run blank batches of zero weight, so that all make the same collective calls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from olmrl.config.schema import AlgorithmConfig
from olmrl.data.pack import Column
from olmrl.learner.flops import forward_flops, step_flops, utilisation
from olmrl.learner.loss import LossFn, StepCounts, grpo_loss, sft_loss
from olmrl.learner.minibatches import Minibatches
from olmrl.learner.optim import NonFiniteStep
from olmrl.learner.packed import count_weighted
from olmrl.learner.replay import replay_path, save_batches
from olmrl.learner.strategy import Strategy, pad_to_largest
from olmrl.metrics import Max, Mean, Measurements, Sum, merge
from olmrl.types import Float32Array, PackedBatch


class GrpoLearner:
    """Policy updates from packed rollouts.

    Args:
        strategy: the policy, its optimizer and, with a KL term, its reference.
        algorithm: losses and passes per batch.
        max_tokens: limit of completions, dr_grpo's default normaliser.
        outlier_gap: |engine - learner| log-prob gap that makes a token an outlier.
        replay_dir: folder for the batches of a step that was stopped by NaN or infinity.
        save_every: also save the batches of every k-th step; 0: never.
    """

    def __init__(
        self,
        strategy: Strategy,
        algorithm: AlgorithmConfig,
        *,
        max_tokens: int,
        outlier_gap: float = 1.0,
        replay_dir: str | None = None,
        save_every: int = 0,
    ) -> None:
        self._strategy = strategy
        self._algorithm = algorithm
        self._save_every = save_every
        self._max_tokens = max_tokens
        self._outlier_gap = outlier_gap
        self._replay_dir = replay_dir

    def step(self, batches: Sequence[PackedBatch], step: int = 0) -> Measurements:
        """Learn from this rank's share of a batch of prompt groups.

        Makes `epochs_per_batch` x `minibatches` optimizer updates; with more than one, log-probs
        under the policy before the first are computed and ratios taken against them. A token, or a
        sequence, weighs the same in whichever minibatch it is: each is divided by an equal part of
        the whole step's size.

        Args:
            batches: micro-batches of this rank, by minibatch (`Minibatches`) if there are several;
                may be empty if other ranks have some.
            step: number of the step, for messages and the replay file.

        Returns:
            This rank's measurements; merging those of all ranks gives the step's.

        Raises:
            NonFiniteStep: NaN or infinity in loss or gradients, on every rank, before the optimizer
                step, or in weights after it; the batches are saved in `replay_dir`.
            ValueError: there are several minibatches, but `batches` does not say which.
        """
        algorithm, strategy = self._algorithm, self._strategy
        work = self._by_minibatch(batches)
        if self._replay_dir and self._save_every and step % self._save_every == 0:
            save_batches(replay_path(self._replay_dir, step, strategy.rank), work)
        begin = time.perf_counter()
        needs_old = algorithm.epochs_per_batch > 1 or algorithm.minibatches > 1
        parts: list[Measurements] = [measure_tokens(batches)]
        columns: dict[Column, Callable[[PackedBatch], Float32Array]] = {}
        if needs_old:
            columns["old_logprobs"] = strategy.logprobs
        if algorithm.kl_beta:
            columns["reference_logprobs"] = strategy.reference_logprobs
        if algorithm.teacher is not None and algorithm.teacher.use == "reward":
            columns["teacher_logprobs"] = strategy.teacher_logprobs
        for name, compute in columns.items():
            start = time.perf_counter()
            work.add_column(name, [_observed(strategy, part, compute) for part in work.rows(0)])
            parts.append({f"time/{name}": Max(time.perf_counter() - start)})
        guard = StepGuard(strategy, self._replay_dir, step, work)
        whole = strategy.sum_over_ranks(count_weighted(work))
        for epoch in range(algorithm.epochs_per_batch):
            minibatches = work.rows(epoch)
            size = StepCounts(*(count / max(1, len(minibatches)) for count in whole))
            for part in minibatches:
                padded = pad_to_largest(strategy, part)
                parts.append(update(strategy, padded, self._loss, guard, size))
            if len(minibatches) > 1:
                strategy.forget_features()  # the next pass has rows of its own
        strategy.forget_features()
        flops = step_flops(
            batches,
            strategy.shape,
            strategy.trained,
            trained_passes=algorithm.epochs_per_batch,
            observed_passes=int(needs_old),
            reference_passes=int(algorithm.kl_beta > 0),
        )
        if strategy.teacher_shape is not None:
            flops += algorithm.teacher_passes * forward_flops(batches, strategy.teacher_shape)
        seconds = time.perf_counter() - begin
        return merge(*parts, utilisation(flops, seconds, strategy.device))

    def _loss(self, counts: StepCounts) -> LossFn:
        return grpo_loss(
            self._algorithm, counts, max_tokens=self._max_tokens, outlier_gap=self._outlier_gap
        )

    def _by_minibatch(self, batches: Sequence[PackedBatch]) -> Minibatches:
        if isinstance(batches, Minibatches):
            return batches
        if self._algorithm.minibatches > 1:
            raise ValueError(
                f"algorithm.minibatches: {self._algorithm.minibatches} minibatches are cut by "
                "prompt groups, and rows do not say which groups they hold"
            )
        return Minibatches([batches])


def _observed(
    strategy: Strategy, rows: Sequence[PackedBatch], compute: Callable[[PackedBatch], Float32Array]
) -> list[Float32Array]:
    """A column of each row; blank rows keep this rank in step with one that has more."""
    return [compute(row) for row in pad_to_largest(strategy, rows)][: len(rows)]


class SftLearner:
    """Next-token training on packed pages.

    Args:
        strategy: the policy and its optimizer.
        replay_dir: folder for the batches of a step that was stopped by NaN or infinity.
    """

    def __init__(self, strategy: Strategy, *, replay_dir: str | None = None) -> None:
        self._strategy = strategy
        self._replay_dir = replay_dir

    def step(self, batches: Sequence[PackedBatch], step: int = 0) -> Measurements:
        """One optimizer step on this rank's share of a batch of pages; see `GrpoLearner.step`."""
        strategy = self._strategy
        guard = StepGuard(strategy, self._replay_dir, step, batches)
        begin = time.perf_counter()
        updated = update(strategy, pad_to_largest(strategy, batches), sft_loss, guard)
        strategy.forget_features()
        flops = step_flops(batches, strategy.shape, strategy.trained, trained_passes=1)
        used = utilisation(flops, time.perf_counter() - begin, strategy.device)
        return merge(measure_tokens(batches), updated, used)

    def evaluate(self, batches: Sequence[PackedBatch]) -> Mean:
        """Cross-entropy per target token of this rank's pages; merges exactly over ranks."""
        loss = sft_loss(StepCounts(1.0, 1.0))
        total = Mean(0.0, 0.0)
        for batch in pad_to_largest(self._strategy, batches):
            part = self._strategy.evaluate(batch, loss)["loss/sft"]
            assert isinstance(part, Mean)
            total = total.merge(part)
        self._strategy.forget_features()
        return total


class StepGuard:
    """Stops a step with NaN or infinity on all ranks together, and saves its batches."""

    def __init__(
        self,
        strategy: Strategy,
        replay_dir: str | None,
        step: int,
        batches: Sequence[PackedBatch],
    ) -> None:
        self._strategy = strategy
        self._replay_dir = replay_dir
        self._step = step
        self._batches = batches
        self._updates = 0

    def check_losses(self, parts: Sequence[Measurements]) -> None:
        """Stop if any rank saw a loss that is NaN or infinite."""
        bad = [
            name
            for part in parts
            for name, value in part.items()
            if name.startswith("loss/") and not math.isfinite(value.value()) and _weighs(value)
        ]
        (count,) = self._strategy.sum_over_ranks([len(bad)])
        if count:
            self.stop(f"{', '.join(sorted(set(bad))) or 'a loss on another rank'} is not finite")

    def check_weights(self) -> None:
        """Count an update, and stop if it made weights on any rank NaN or infinite."""
        self._updates += 1
        (broken,) = self._strategy.max_over_ranks([float(not self._strategy.weights_are_finite())])
        if broken:
            self.stop("the update made weights NaN or infinite")

    def stop(self, reason: str) -> NoReturn:
        """Drop the gradients, save the batches, raise."""
        self._strategy.discard_gradients()
        self._strategy.forget_features()
        state = "the weights were not changed"
        if self._updates:
            state = f"{self._updates} of its updates were made, but neither sent nor saved"
        saved = ""
        if self._replay_dir is not None:
            path = replay_path(self._replay_dir, self._step, self._strategy.rank)
            save_batches(path, self._batches)
            saved = f"; its batches are saved in {path}"
        error = NonFiniteStep(f"step {self._step}: {reason}; {state}{saved}")
        error.weights_changed = self._updates > 0
        raise error


def update(
    strategy: Strategy,
    batches: Sequence[PackedBatch],
    make_loss: Callable[[StepCounts], LossFn],
    guard: StepGuard,
    size: StepCounts | None = None,
) -> Measurements:
    """One optimizer step over micro-batches, equally many on every rank.

    A step without any target of positive weight, on all ranks, changes nothing and is counted.

    Args:
        strategy: the policy.
        batches: micro-batches.
        make_loss: the loss, given what it is averaged over.
        guard: of the step.
        size: what the loss is averaged over; None: all of `batches`, on all ranks.
    """
    counts = StepCounts(*strategy.sum_over_ranks(count_weighted(batches)))
    if counts.tokens == 0:
        return {"policy/empty_steps": Sum(1.0)}
    loss_fn = make_loss(size or counts)
    start = time.perf_counter()
    parts = [strategy.forward_backward(batch, loss_fn) for batch in batches]
    middle = time.perf_counter()
    guard.check_losses(parts)
    try:
        stepped = strategy.optim_step()
    except NonFiniteStep as error:
        guard.stop(str(error))
    guard.check_weights()
    end = time.perf_counter()
    times: Measurements = {
        "time/forward_backward": Sum(middle - start),
        "time/optim": Sum(end - middle),
    }
    return merge(*parts, stepped, times)


def measure_tokens(batches: Sequence[PackedBatch]) -> Measurements:
    """Size of a step."""
    return {
        "tokens/packed": Sum(float(sum(b.num_tokens for b in batches))),
        "tokens/trained": Sum(float(sum((b.weights > 0).sum() for b in batches))),
        "tokens/patches": Sum(float(sum(len(b.patches) for b in batches))),
    }


def _weighs(value: object) -> bool:
    """Whether a mean has anything under it; a blank batch's loss is 0 / 0."""
    return not isinstance(value, Mean) or value.weight != 0
