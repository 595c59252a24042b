"""Closeness of the whole transcription, front matter included, to the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

from olmrl.rewards.claims import UNEARNED
from olmrl.rewards.parsed import Reading, truth_of
from olmrl.rewards.reward import AgainstReference
from olmrl.types import Page, RewardResult

_MARKS = "#*_"
_SPACES = re.compile(r"[ \t]{2,}")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class EditDistance(AgainstReference):
    """(Characters of the reference that are read - those added) / its characters; 0..1.

    Read are those of the longest common subsequence in which letters that are not on the page
    match nothing: else any prose in place of a lost paragraph would share half of its letters.
    Added are passages and signs that stand for nothing, and what is not seen. A misread passage is
    not added, up to the length of what is missing in its place, and a moved one is not, so that
    neither is worth less than silence. Marks of headings and emphasis match
    nothing if there are too many of them.

    `compat`: 1 - (insertions + deletions) / (characters of both texts).
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
        marks = max(0, _signs(reading) - _signs(truth.reading))
        total = len(theirs) + unseen + marks
        if not total:
            return RewardResult(1.0)
        read = LCSseq.similarity(mine, theirs) - reading.claims.added_chars
        return RewardResult(max(0.0, read / total))


def _whole(reading: Reading, body: str | None = None) -> str:
    body = reading.seen.text if body is None else body
    body = _SPACES.sub(" ", body)
    return f"{reading.head.strip()}\n{body}" if reading.head else body


def _unseen(reading: Reading) -> int:
    return max(0, len(reading.body.text) - len(reading.seen.text))


def _signs(reading: Reading) -> int:
    """Number of characters that are neither letters nor white space."""
    return len(_SPACE.sub("", reading.seen.text)) - reading.lettered.n_written
