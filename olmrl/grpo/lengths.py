"""How long the completions of a page are likely to be.

A long group that starts last keeps engines idle behind it, so groups that may be issued together
are requested longest first (the longest-processing-time rule, Graham 1969).
"""

from __future__ import annotations

from collections.abc import Sequence

from olmrl.types import Page

_TOKENS_PER_CHARACTER = 0.3
"""Assumed of a page's truth; only the order of pages depends on it."""


def expected_tokens(page: Page, seen: float | None) -> float | None:
    """Mean completion tokens to expect of a page; None where nothing is known.

    Args:
        page: the page; its truth says how long a good transcription is.
        seen: mean of its completions in an earlier epoch, which counts for more.
    """
    if seen is not None or page.reference is None:
        return seen
    return _TOKENS_PER_CHARACTER * len(page.reference)


def longest_first(expected: Sequence[float | None]) -> list[int]:
    """Order of work: longest first, unknown ones counted as average, equal ones as they came."""
    known = [length for length in expected if length is not None]
    average = sum(known) / len(known) if known else 0.0
    lengths = [average if length is None else length for length in expected]
    return sorted(range(len(lengths)), key=lambda k: -lengths[k])
