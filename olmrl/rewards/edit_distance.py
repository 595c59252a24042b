"""Closeness of the whole transcription, front matter included, to the reference."""

from __future__ import annotations

from dataclasses import dataclass

from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

from olmrl.rewards.claims import UNEARNED
from olmrl.rewards.parsed import Reading, truth_of
from olmrl.rewards.reward import AgainstReference
from olmrl.types import Page, RewardResult

_MARKS = "#*_"


@dataclass(frozen=True)
class EditDistance(AgainstReference):
    """1 - (insertions + deletions) / (characters of both texts); two empty texts score 1.

    In the default mode letters that are not on the page match nothing: else any prose in place of
    a lost paragraph would share half of its letters. Marks of headings and emphasis match nothing
    if there are too many of them, and what is not seen counts as inserted.
    """

    def compare(self, page: Page, text: str, reference: str) -> RewardResult:
        """Score one text."""
        if self.compat:
            return RewardResult(fuzz.ratio(text, reference) / 100.0)
        truth = truth_of(page)
        assert truth.reading is not None
        reading = truth.read(text)
        if reading.claims.too_long:
            return RewardResult(0.0)
        mine, theirs = _whole(reading, reading.claims.native), _whole(truth.reading)
        for mark in _MARKS:
            if mine.count(mark) > theirs.count(mark):
                mine = mine.replace(mark, UNEARNED)
        unseen = max(0, _unseen(reading) - _unseen(truth.reading))
        both = len(mine) + unseen + len(theirs)
        return RewardResult(2 * LCSseq.similarity(mine, theirs) / both if both else 1.0)


def _whole(reading: Reading, body: str | None = None) -> str:
    body = reading.seen.text if body is None else body
    return f"{reading.head.strip()}\n{body}" if reading.head else body


def _unseen(reading: Reading) -> int:
    return len(reading.body.text) - len(reading.seen.text)
