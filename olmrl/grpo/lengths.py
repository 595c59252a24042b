"""How long the completions of a page are likely to be.

Engines idle while a long group that started last finishes, so groups that may be issued together
are requested longest first (the longest-processing-time rule, Graham 1969).
"""

from __future__ import annotations

from collections.abc import Sequence

from olmrl.types import Page

_TOKENS_PER_CHARACTER = 0.3
"""Assumed for reference texts; only the order of pages depends on it."""


def expected_tokens(page: Page, seen: float | None) -> float | None:
    """Mean completion tokens to expect for a page; None if nothing is known.

    Args:
        page: the page; its reference is as long as a good transcription.
        seen: mean of its completions in an earlier epoch, which takes precedence.
    """
    if seen is not None or page.reference is None:
        return seen
    return _TOKENS_PER_CHARACTER * len(page.reference)


def longest_first(expected: Sequence[float | None]) -> list[int]:
    """Places in order of work: longest first, unknown lengths count as average, ties keep order."""
    known = [length for length in expected if length is not None]
    average = sum(known) / len(known) if known else 0.0
    lengths = [average if length is None else length for length in expected]
    return sorted(range(len(lengths)), key=lambda k: -lengths[k])
