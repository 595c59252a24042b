"""Is the head of the transcription present, readable and correct?."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from olmrl.markup import front_matter
from olmrl.types import Completion, Page, RewardResult

_READABLE = 0.5
_FIELD = 0.1


@dataclass(frozen=True)
class FrontMatter:
    """0 if the head does not parse, else 0.5 plus 0.1 for each field equal to the reference's.

    Without a reference, or with one that does not parse, the maximum is 0.5 (for all rollouts of
    the page alike).
    """

    needs_group: ClassVar[bool] = False

    compat: bool = False
    """Read heads as the public code does (`None` is a language, an unquoted `no` is not)."""

    def missing(self, page: Page) -> str:
        """Nothing: a readable head scores even without a reference."""
        return ""

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Score the head of each completion."""
        truth = None if page.reference is None else _head(page.reference, self.compat)
        return [_compare(_head(c.text, self.compat), truth) for c in completions]


Head = tuple[object, ...]


def _head(text: str, compat: bool) -> Head | None:
    """The values of the five fields, or None if the head does not parse."""
    end = text.find("\n---", 4)
    return _parse_head(text if end < 0 else text[: end + 4], compat)


@lru_cache(maxsize=1024)
def _parse_head(head: str, compat: bool) -> Head | None:
    try:
        response = front_matter.parse(head, compat=compat)
    except (ValueError, TypeError):
        return None
    return tuple(getattr(response, name) for name in front_matter.HEAD_FIELDS)


def _compare(head: Head | None, truth: Head | None) -> RewardResult:
    if head is None:
        return RewardResult(0.0, {"readable": 0.0})
    if truth is None:
        return RewardResult(_READABLE, {"readable": 1.0})
    equal = [float(mine == theirs) for mine, theirs in zip(head, truth, strict=True)]
    value = _READABLE + _FIELD * sum(equal)
    parts = dict(zip(front_matter.HEAD_FIELDS, equal, strict=True))
    return RewardResult(value, {"readable": 1.0, **parts})
