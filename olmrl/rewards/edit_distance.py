"""Closeness of the whole transcription, front matter included, to the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

from olmrl.rewards.claims import UNEARNED
from olmrl.rewards.parsed import Reading, truth_of
from olmrl.rewards.reward import AgainstReference
from olmrl.types import Page, RewardResult

_MARKS = "#*_"
_MARK = re.compile(f"[{_MARKS}]")
_SPACES = re.compile(r"[ \t]{2,}")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class EditDistance(AgainstReference):
    """(Characters of the reference that are read - those added) / its characters; 0..1.

    Read are those of the longest common subsequence of the heads, and of the bodies, in which
    letters that are not on the page match nothing: else any prose in place of a lost paragraph
    would share half of its letters. Added are passages, signs and marks of headings and emphasis
    that stand for nothing, and what is not seen. A misread passage is not added, up to the length
    of what is missing in its place, and a moved one is not, so that neither is worth less than
    silence. Marks match nothing if there are too many of them.

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
        mine, theirs = (
            _SPACES.sub(" ", body) for body in (reading.claims.native, truth.reading.seen.text)
        )
        for mark in _MARKS:
            if mine.count(mark) > theirs.count(mark):
                mine = mine.replace(mark, UNEARNED)
        heads = [_head(r) for r in (reading, truth.reading)]
        unseen = max(0, _unseen(reading) - _unseen(truth.reading))
        marks = max(0, _signs(reading) - _signs(truth.reading))
        total = len(heads[1]) + len(theirs) + unseen + marks
        if not total:
            return RewardResult(1.0)
        read = LCSseq.similarity(*heads) + LCSseq.similarity(mine, theirs)
        added = reading.claims.added_chars + _wrong_marks(reading, truth.reading)
        return RewardResult(max(0.0, (read - added) / total))


def _head(reading: Reading) -> str:
    return f"{reading.head.strip()}\n" if reading.head else ""


def _wrong_marks(reading: Reading, true: Reading) -> int:
    """Number of marks beside a letter of the page that has none there.

    A right mark may not pay beside a wrong one; which of them is right is seen by their places.
    """
    there = set(_marks(true))
    source = reading.claims.source
    count = 0
    for mark, after in _marks(reading):
        before = int(source[after - 1]) + 1 if after else 0
        behind = int(source[after]) if after < len(source) else len(true.lettered.key)
        places = {before} if before > 0 or not after else set()
        places |= {behind} if behind >= 0 else set()
        count += bool(places) and not any((mark, place) in there for place in places)
    return count


def _marks(reading: Reading) -> list[tuple[str, int]]:
    """Each mark outside of formulas, and the number of letters before it."""
    text, lettered = reading.seen.text, reading.lettered
    found = [match.start() for match in _MARK.finditer(text)]
    formulas = np.array([span[:2] for span in lettered.formulas if found], np.int64).reshape(-1, 2)
    inside = np.searchsorted(formulas.ravel(), found, "right") % 2 == 1
    found = [at for at, skip in zip(found, inside, strict=True) if not skip]
    ends = np.searchsorted(lettered.places, np.array(found, np.int64)).tolist()
    return [(text[at], after) for at, after in zip(found, ends, strict=True)]


def _unseen(reading: Reading) -> int:
    return max(0, len(reading.body.text) - len(reading.seen.text))


def _signs(reading: Reading) -> int:
    """Number of characters that are neither letters nor white space."""
    return len(_SPACE.sub("", reading.seen.text)) - reading.lettered.n_written
