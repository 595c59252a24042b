"""What a scored prompt group costs the learner, and its statistics: pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from olmrl.metrics import Max, Mean, Measurements
from olmrl.models.cost import CostModel
from olmrl.models.mrope import VisionTokens
from olmrl.types import NO_SIGNAL_RANGE, PromptGroup


@dataclass(frozen=True, slots=True)
class GroupCost:
    """What a group costs the learner, image included; used to balance the ranks."""

    model: CostModel
    vision: VisionTokens
    page_once: bool
    """Prompt and image are computed once per group, else once per completion."""

    def __call__(self, group: PromptGroup) -> float:
        """Operations of one forward pass."""
        completions = [r.completion for r in group.rollouts]
        prompt_ids = completions[0].prompt_token_ids
        lengths = [len(c.token_ids) for c in completions]
        merged = int((prompt_ids == self.vision.image_token_id).sum())
        grid = np.asarray([[1, 1, merged * self.vision.merge_size**2]])
        parts = [lengths] if self.page_once else [[length] for length in lengths]
        return sum(self.model.page(len(prompt_ids), part, grid) for part in parts)


def measure_group(group: PromptGroup) -> Measurements:
    """Reward and length statistics of one group, trained or dropped."""
    totals = group.totals
    lengths = [len(r.completion.token_ids) for r in group.rollouts]
    measured: Measurements = {
        "reward/mean": Mean.of(totals),
        "reward/std": Mean.of([float(totals.std())]),
        "reward/frac_zero_std": Mean.of([float(np.ptp(group.signals) <= NO_SIGNAL_RANGE)]),
        "completion/mean_length": Mean.of(lengths),
        "completion/max_length": Max(float(max(lengths))),
        "completion/clipped_fraction": Mean.of(
            [float(r.completion.finish_reason == "length") for r in group.rollouts]
        ),
        "rollout/cached_prompt_fraction": Mean.of(
            r.completion.cached_tokens / max(1, len(r.completion.prompt_token_ids))
            for r in group.rollouts
        ),
    }
    for name in group.rollouts[0].rewards:
        results = [r.rewards[name] for r in group.rollouts]
        values = np.asarray([r.value for r in results])
        measured[f"reward/{name}/mean"] = Mean.of(values)
        measured[f"reward/{name}/std"] = Mean.of([float(values.std())])
        for part in {key for r in results for key in r.parts}:
            measured[f"reward/{name}/{part}"] = Mean.of(
                r.parts[part] for r in results if part in r.parts
            )
    return measured
