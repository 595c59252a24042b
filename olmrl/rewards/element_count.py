"""Whether there are as many tables and formulas as in the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from olmrl.rewards.closed_tables import closed_tables
from olmrl.rewards.lettered import Ints
from olmrl.rewards.parsed import Reading, truth_of
from olmrl.rewards.reward import AgainstReference
from olmrl.types import Page, RewardResult

_TABLE_OPEN = re.compile(r"<table\b[^<>]*>", re.IGNORECASE)
_TABLE_CLOSE = re.compile(r"</table>", re.IGNORECASE)
_RECOGNISABLE = 3
"""Letters without which an element cannot be told from another."""
_MATH = ((r"$$", r"$$"), (r"\(", r"\)"), (r"\[", r"\]"))


Kind = Literal["table", "formula"]
KINDS: tuple[Kind, ...] = ("table", "formula")


@dataclass(frozen=True)
class ElementCount(AgainstReference):
    """0.5 for the reference's number of HTML tables, 0.5 for its number of formulas.

    In the default mode only what is seen counts, each element of the reference that has text must
    have some of it in an element of its own, and none may have only text that is not on the page:
    neither an invented table nor half of another one makes up for a lost one.
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
            mine, wanted = truth.read(text), truth.reading
            equal = [
                len(elements_of(mine, kind)) == len(elements_of(wanted, kind))
                and not has_strange(mine, wanted, kind)
                and recognised(mine, wanted, kind) >= recognised(wanted, wanted, kind)
                for kind in KINDS
            ]
        parts = {"tables": float(equal[0]), "formulas": float(equal[1])}
        return RewardResult(sum(parts.values()) / 2, parts)


def elements_of(reading: Reading, kind: Kind) -> list[tuple[int, int]]:
    """Start and end of each table or formula in what is seen."""
    text = reading.seen.text
    return closed_tables(text)[0] if kind == "table" else _formula_spans(text)


def has_strange(mine: Reading, wanted: Reading, kind: Kind) -> bool:
    """Whether an element has only letters that are not on the page and stand for none of it, or
    more are without letters than in the reference, or tables are left open: an invented one would
    close them."""
    if kind == "table" and open_tables(mine) > open_tables(wanted):
        return True
    strange = (mine.claims.source == -1) & ~mine.claims.standing
    ends = _in_letters(mine, kind)
    if any(end > start and strange[start:end].all() for start, end in ends):
        return True
    empty, allowed = ((e[:, 0] == e[:, 1]).sum() for e in (ends, _in_letters(wanted, kind)))
    return bool(empty > allowed)


def open_tables(reading: Reading) -> int:
    """Number of tags of tables without a partner."""
    return closed_tables(reading.seen.text)[1]


def _in_letters(reading: Reading, kind: Kind) -> Ints:
    """[elements, 2] start and end of each table or formula, counted in letters."""
    spans = np.array(elements_of(reading, kind), np.int64).reshape(-1, 2)
    return np.searchsorted(reading.lettered.places, spans)


def recognised(mine: Reading, wanted: Reading, kind: Kind) -> int:
    """How many elements of a reference have text in elements of their own in a transcription.

    For the reference itself: how many have enough letters to be recognised.
    """
    claims = mine.claims
    ends = _in_letters(wanted, kind)
    if mine is wanted:
        return int((ends[:, 1] - ends[:, 0] >= _RECOGNISABLE).sum())
    owner = np.full(len(wanted.lettered.key), -1, np.int64)
    for number, (start, end) in enumerate(ends):
        owner[start:end] = number
    source = np.where(claims.unearned | (claims.source < 0), -1, claims.source)
    found: set[int] = set()
    for start, end in _in_letters(mine, kind):
        letters = source[start:end]
        owners = owner[letters[letters >= 0]]
        inside = owners[owners >= 0]
        if 2 * len(inside) > len(owners):  # else it is around other text
            found.add(int(np.bincount(inside).argmax()))
    return len(found)


@lru_cache(maxsize=256)
def count_elements(text: str) -> tuple[int, int]:
    """Count `<table>...</table>` pairs and `$$ $$`, `\\( \\)`, `\\[ \\]` spans in linear time."""
    return len(_table_spans(text)), len(_formula_spans(text))


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


def _formula_spans(text: str) -> list[tuple[int, int]]:
    return [span for marks in _MATH for span in _spans(text, *marks)]


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
