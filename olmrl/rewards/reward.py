"""What a reward is: Page x completions -> results, and what it may share with other rewards.

A reward is a small object whose constructor arguments are its options in the configuration. It is
pure: the same page, text, token ids and finish reason always score the same, so identical
completions are scored once. It reads texts and pages through `parsed`, where every text is parsed
once for all rewards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from olmrl.types import Completion, Page, RewardResult


class UnscorablePage(ValueError):
    """A page on which no completion can be scored (invalid test, or no reward applies)."""


@runtime_checkable
class Reward(Protocol):
    """One criterion for a good transcription."""

    @property
    def needs_group(self) -> bool:
        """True: needs all G completions of a page at once (medoid). False: completions are scored
        one by one as they finish, and `score_group` may get any number of them. Can be a class
        attribute.
        """

    def missing(self, page: Page) -> str:
        """What the page lacks for this reward to apply; empty if it applies.

        Depends on the page alone, not on any completion: a reward is left out for all rollouts of a
        page or for none. (Advantages are relative to the group, so leaving it out has the same
        effect as giving every rollout the same value, but keeps false zeros out of the metrics.)
        """

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Score completions of one page; one result each, in order.

        Raises:
            UnscorablePage: the page itself is unusable, whatever the completion.
        """


def failed(error: str) -> RewardResult:
    """The result of a reward that could not be computed: NaN, never a number."""
    return RewardResult(value=math.nan, failed=True, error=error)


@dataclass(frozen=True)
class AgainstReference:
    """Base class of rewards that compare each text with the page's reference."""

    needs_group: ClassVar[bool] = False

    compat: bool = False
    """Score 0 on a page without a reference, instead of leaving the reward out."""

    def missing(self, page: Page) -> str:
        """Needs a reference."""
        known = self.compat or page.reference is not None
        return "" if known else "the page has no reference text"

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Compare each text with the page's reference."""
        if page.reference is None:
            return [RewardResult(0.0) for _ in completions]
        return [self.compare(page, c.text, page.reference) for c in completions]

    def compare(self, page: Page, text: str, reference: str) -> RewardResult:
        """Score one text of a page."""
        raise NotImplementedError
