"""What a reward is: Page x completions -> results, and what it may share with other rewards.

A reward is a small object whose constructor arguments are its options in the configuration. It is
pure: the same page, text, token ids and finish reason always score the same, so that identical
completions are scored once. What it needs of a text or a page it takes from `parsed`, where every
text is parsed once for all rewards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from olmrl.types import Completion, Page, RewardResult


class UnscorablePage(ValueError):
    """A page that no completion can be scored on (a broken test, or no reward applies to it)."""


@runtime_checkable
class Reward(Protocol):
    """One idea of what a good transcription is."""

    @property
    def needs_group(self) -> bool:
        """True: wants all G completions of a page at once (medoid). False: completions are scored
        one by one as they finish, and `score_group` gets any number of them. A class attribute will
        do.
        """

    def missing(self, page: Page) -> str:
        """Say what the page lacks for this reward to apply; empty when it applies.

        Decided by the page alone, before any completion is looked at: a reward is left out of all
        rollouts of a page or of none. (Advantages are relative to the group, so leaving it out is
        the same as giving every rollout the same value, but keeps false zeros out of the metrics.)
        """

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Score completions of one page; one result each, in order.

        Raises:
            UnscorablePage: the page itself is unusable, whatever the completion.
        """


def failed(error: str) -> RewardResult:
    """Make the result of a reward that could not be computed: NaN, never a number."""
    return RewardResult(value=math.nan, failed=True, error=error)


@dataclass(frozen=True)
class AgainstReference:
    """Base of rewards that compare each text with the page's reference."""

    needs_group: ClassVar[bool] = False

    compat: bool = False
    """Score 0 on a page without reference, instead of leaving the reward out there."""

    def missing(self, page: Page) -> str:
        """A reference is needed."""
        known = self.compat or page.reference is not None
        return "" if known else "the page has no reference text"

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Compare each text with the page's reference."""
        if page.reference is None:
            return [RewardResult(0.0) for _ in completions]
        return [self.compare(c.text, page.reference) for c in completions]

    def compare(self, text: str, reference: str) -> RewardResult:
        """Score one text."""
        raise NotImplementedError
