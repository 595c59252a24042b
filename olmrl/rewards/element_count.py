"""Whether there are as many tables and formulas as in the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from olmrl.rewards.parsed import Reading, truth_of
from olmrl.rewards.reward import AgainstReference
from olmrl.types import Page, RewardResult

_TABLE_OPEN = re.compile(r"<table\b[^<>]*>", re.IGNORECASE)
_TABLE_CLOSE = re.compile(r"</table>", re.IGNORECASE)
_RECOGNISABLE = 3
"""Letters without which an element cannot be told from another."""
_MATH = ((r"$$", r"$$"), (r"\(", r"\)"), (r"\[", r"\]"))


@dataclass(frozen=True)
class ElementCount(AgainstReference):
    """0.5 for the reference's number of HTML tables, 0.5 for its number of formulas.

    In the default mode only what is seen counts, and there must be text of the page in as many as
    have text to claim: an invented table does not make up for a lost one.
    """

    def compare(self, page: Page, text: str, reference: str) -> RewardResult:
        """Score one text."""
        if self.compat:
            equal = [
                a == b for a, b in zip(count_elements(text), count_elements(reference), strict=True)
            ]
        else:
            truth = truth_of(page)
            assert truth.reading is not None
            pairs = zip(_counted(truth.read(text)), _counted(truth.reading), strict=True)
            equal = [mine[0] == wanted[0] and mine[1] >= wanted[1] for mine, wanted in pairs]
        parts = {"tables": float(equal[0]), "formulas": float(equal[1])}
        return RewardResult(sum(parts.values()) / 2, parts)


def _counted(reading: Reading) -> list[tuple[int, int]]:
    """For tables and formulas: how many there are, and how many have text of the page.

    For the reference itself: how many have enough letters to be recognised.
    """
    text = reading.seen.text
    claims = reading.claims
    earned = claims.said.places[~claims.unearned]
    counts = []
    for spans in (_table_spans(text), [s for marks in _MATH for s in _spans(text, *marks)]):
        ends = np.searchsorted(earned, np.array(spans, np.int64).reshape(-1, 2))
        least = _RECOGNISABLE if reading.claims.said is reading.claims.truth else 1
        counts.append((len(spans), int((ends[:, 1] - ends[:, 0] >= least).sum())))
    return counts


@lru_cache(maxsize=256)
def count_elements(text: str) -> tuple[int, int]:
    """Count `<table>...</table>` pairs and `$$ $$`, `\\( \\)`, `\\[ \\]` spans in linear time."""
    return len(_table_spans(text)), sum(len(_spans(text, *marks)) for marks in _MATH)


def _table_spans(text: str) -> list[tuple[int, int]]:
    spans = []
    start = _TABLE_OPEN.search(text)
    while start:
        end = _TABLE_CLOSE.search(text, start.end())
        if end is None:
            break
        spans.append((start.start(), end.end()))
        start = _TABLE_OPEN.search(text, end.end())
    return spans


def _spans(text: str, opening: str, closing: str) -> list[tuple[int, int]]:
    spans = []
    start = text.find(opening)
    while start >= 0:
        end = text.find(closing, start + len(opening) + 1)  # an empty span is not a formula
        if end < 0:
            break
        spans.append((start, end + len(closing)))
        start = text.find(opening, end + len(closing))
    return spans
