"""Closeness of the whole transcription, front matter included, to the reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

from olmrl.markup.visible import TAG
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
        mine = _SPACES.sub(" ", _without_strange_tags(reading, truth.reading))
        theirs = _SPACES.sub(" ", truth.reading.seen.text)
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
    """Number of marks where the page has none.

    A right mark may not pay beside a wrong one; which of them is right is seen by their places.
    """
    there = set(_placed(true, _MARK))
    return sum(
        bool(places) and there.isdisjoint((mark, place) for place in places)
        for (mark, _), places in _with_places(reading, _MARK)
    )


def _without_strange_tags(reading: Reading, true: Reading) -> str:
    """What is native of a text, with `UNEARNED` for each tag where the page has none.

    Empty elements would else be read for those that were lost somewhere else.
    """
    text = reading.claims.native
    there = {place for _, place in _placed(true, TAG)} if "<" in text else set()
    kept, at = [], 0
    for (tag, start), places in _with_places(reading, TAG) if "<" in text else ():
        if places and there.isdisjoint(places):
            kept += [text[at:start], UNEARNED * len(tag)]
            at = start + len(tag)
    return "".join(kept) + text[at:]


def _placed(reading: Reading, pattern: re.Pattern[str]) -> list[tuple[str, int]]:
    """Each mark or tag outside of formulas, and the number of letters before it."""
    return [(mark, after) for mark, _, after in _found(reading, pattern)]


def _with_places(
    reading: Reading, pattern: re.Pattern[str]
) -> Iterator[tuple[tuple[str, int], set[int]]]:
    """Each mark or tag with its start, and where the letters of the page beside it have it: the
    number of letters before it."""
    source, last = reading.claims.source, len(reading.claims.covered)
    for mark, start, after in _found(reading, pattern):
        before = int(source[after - 1]) + 1 if after else 0
        behind = int(source[after]) if after < len(source) else last
        known = (before if before > 0 or not after else -1, behind)
        yield (mark, start), {place for place in known if place >= 0}


def _found(reading: Reading, pattern: re.Pattern[str]) -> Iterator[tuple[str, int, int]]:
    """Each mark or tag outside of formulas: itself, its start, the number of letters before it."""
    text, lettered = reading.seen.text, reading.lettered
    found = [(match[0], match.start()) for match in pattern.finditer(text)]
    starts = np.array([start for _, start in found], np.int64)
    formulas = np.array([span[:2] for span in lettered.formulas if found], np.int64).reshape(-1, 2)
    inside = np.searchsorted(formulas.ravel(), starts, "right") % 2 == 1
    after = np.searchsorted(lettered.places, starts)
    for (mark, start), skip, count in zip(found, inside.tolist(), after.tolist(), strict=True):
        if not skip:
            yield mark, start, count


def _unseen(reading: Reading) -> int:
    return max(0, len(reading.body.text) - len(reading.seen.text))


def _signs(reading: Reading) -> int:
    """Number of characters that are neither letters nor white space."""
    return len(_SPACE.sub("", reading.seen.text)) - reading.lettered.n_written
