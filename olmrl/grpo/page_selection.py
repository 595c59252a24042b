"""Which pages are left out of the next epochs: those that are always or never solved, or too sure.

A page without differences between its completions teaches nothing, and most such pages stay so for
a while; leaving them out saves their generation. (DAPO, arXiv 2503.14476, drops them after
sampling, as `algorithm.drop_zero_variance` does.) Entropy is that of the sampled tokens, by which
FD-RL chooses its pages (arXiv 2601.08834): formulas and tables have more of it than plain text.

What is learnt about a page holds from the next step on, so that in a synchronous run the choice
does not depend on when a group was scored.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from olmrl.config.schema import SelectionConfig
from olmrl.metrics import Last, Measurements
from olmrl.types import PromptGroup

REASONS = ("solved", "failed", "sure")
"""Why a page is at rest: all completions solve it, all fail, or their entropy is low."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """A page that is left out."""

    reason: str
    until: int
    """Epoch in which it comes back."""
    step: int
    """Step of the weights under which this was found out."""


class PageSelection:
    """The pages at rest; part of a run's state."""

    def __init__(self, config: SelectionConfig) -> None:
        self._config = config
        self._resting: dict[str, _Rest] = {}

    def note(self, group: PromptGroup, epoch: int, step: int) -> None:
        """Learn from a scored group, trained or dropped.

        Args:
            group: all completions of a page.
            epoch: of the page's position.
            step: of the learner's weights now.
        """
        if not self._config.rest_epochs:
            return
        reason = reason_to_rest(group, self._config)
        if reason:
            until = epoch + 1 + self._config.rest_epochs
            self._resting[group.page_id] = _Rest(reason, until, step)

    def leaves_out(self, page_id: str, epoch: int, step: int) -> bool:
        """Whether a page is left out of an epoch; if it comes back, its rest is over."""
        rest = self._resting.get(page_id)
        if rest is None or step <= rest.step:
            return False
        if epoch < rest.until:
            return True
        del self._resting[page_id]
        return False

    def measurements(self) -> Measurements:
        """Pages at rest now, all and by reason; nothing if no page can be."""
        if not self._config.rest_epochs:
            return {}
        counts = Counter(rest.reason for rest in self._resting.values())
        measured: Measurements = {
            f"selection/{name}": Last(float(counts[name])) for name in REASONS
        }
        return measured | {"selection/resting": Last(float(counts.total()))}

    def snapshot(self) -> dict[str, Any]:
        """JSON-able state."""
        return {page: [r.reason, r.until, r.step] for page, r in self._resting.items()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Return to a snapshot."""
        self._resting = {page: _Rest(*row) for page, row in snapshot.items()}


def reason_to_rest(group: PromptGroup, config: SelectionConfig) -> str:
    """Why a page can be left out (one of `REASONS`), or an empty string."""
    results = [rollout.rewards.get(config.reward) for rollout in group.rollouts]
    values = [result.value for result in results if result is not None]
    if not values:
        return ""
    if min(values) >= config.solved:
        return "solved"
    if max(values) <= config.failed:
        return "failed"
    return "sure" if token_entropy(group) < config.min_entropy else ""


def token_entropy(group: PromptGroup) -> float:
    """Entropy of the sampled tokens in nats, estimated by the mean of -log-prob over the group."""
    logprobs = np.concatenate([rollout.completion.logprobs for rollout in group.rollouts])
    return float(-logprobs.mean()) if len(logprobs) else 0.0
