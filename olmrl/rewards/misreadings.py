"""What an alignment leaves between two runs of equal letters: a misreading, or single words.

Text that is none of either and stands where letters are missing is called standing: it stands for
them, whatever it says.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from olmrl.rewards.alignment import Alignment
from olmrl.rewards.lettered import Bools, Span, runs

_SIMILAR = 0.5
_SIMILAR_LONG = 0.65
_LONG_GAP = 24
_LONGER = 1.2
"""Similarity of a gap's two sides that makes one a misreading of the other, for short and long
gaps (unrelated long texts have about 0.55), and how much longer a misreading may be."""
_SIMILAR_WORD = 60.0
"""Similarity, 0..100, of a word to that which should be in its place."""
_SHORT_WORD = 3
_DRIFT = 4
"""Letters by which a word may be nearer to or farther from an edge of its gap than in the truth."""
_MOST_ROOM = 20_000


def read_gaps(alignment: Alignment) -> None:
    """Take the text between two claims as a reading of what lies between their sources.

    As a whole, or else word by word: then between the words that stand where they should.
    """
    _Gaps(alignment).read()


def standing(alignment: Alignment) -> Bools:
    """[letters said] foreign, in the place of missing ones, as many as a misreading has."""
    flags = np.zeros(len(alignment.source), np.bool_)
    for start, end in runs(alignment.source == -1):
        room = _room(alignment, start, end)
        most = int(_LONGER * room) + 1 if room else 0
        flags[start : min(end, start + most)] = True
    return flags


def _room(alignment: Alignment, start: int, end: int) -> int:
    """Number of letters of the truth that nobody reads where a run of foreign letters is."""
    covered = alignment.covered
    before, after = alignment.place_before(start), alignment.place_after(end)
    ahead = behind = 0
    if before >= 0:
        taken = covered[before : before + _MOST_ROOM]
        ahead = int(taken.argmax()) if taken.any() else len(taken)
    if after >= 0 and not before <= after <= before + ahead:
        taken = covered[max(0, after - _MOST_ROOM) : after][::-1]
        behind = int(taken.argmax()) if taken.any() else len(taken)
    return ahead + behind


class _Gaps:
    """Reads the foreign runs of an alignment."""

    def __init__(self, alignment: Alignment) -> None:
        self._alignment = alignment
        self.said, self.truth = alignment.said, alignment.truth
        self.c, self.r = alignment.c, alignment.r
        self.source, self.covered = alignment.source, alignment.covered

    def read(self) -> None:
        """Read each."""
        for start, end in runs(self.source == -1):
            for origin, stop in self._openings(start, end):
                if self._misread(start, end, origin, stop):
                    break
                if self._claim_words(start, end, origin, stop):
                    self._read_between(start, end)
                    break

    def _read_between(self, start: int, end: int) -> None:
        for first, last in runs(self.source[start:end] == -1):
            for origin, stop in self._openings(start + first, start + last):
                if self._misread(start + first, start + last, origin, stop):
                    break

    def _claim_words(self, start: int, end: int, origin: int, stop: int) -> bool:
        """Claim the words of a gap that stand where they should: so far from its start or end.

        A reader of few words is paid for them in this way. Prose of its own has them elsewhere.
        """
        if not 1 < end - start <= _LONGER * (stop - origin) + _DRIFT:
            return False
        mine = self.said.words_between(start, end)
        theirs = self.truth.words_between(origin, stop)
        found = False
        if self._alignment.place_before(start) == origin:
            found = self._words_from(mine, theirs, start, origin, 1)
        if self._alignment.place_after(end) == stop:
            found |= self._words_from(mine, theirs, end, stop, -1)
        return found

    def _words_from(
        self, mine: list[Span], theirs: list[Span], at: int, place: int, step: int
    ) -> bool:
        """Claim words from an edge of a gap on; each that is claimed is the next edge."""
        side = 0 if step > 0 else 1
        edges = [word[side] for word in theirs]
        found = False
        for word in mine[::step]:
            if self.source[word[0]] != -1:
                continue
            expected = place + word[side] - at
            drift = _DRIFT if word[1] - word[0] > _SHORT_WORD else 1
            least, most = (place, len(self.r)) if step > 0 else (0, place)
            first = bisect_left(edges, max(expected - drift, least))
            last = bisect_right(edges, min(expected + drift, most))
            there = self._word_there(word, theirs[first:last])
            if there is not None:
                at, place, found = word[1 - side], there[1 - side], True
        return found

    def _word_there(self, word: Span, near: list[Span]) -> Span | None:
        """Claim a word as one of those that are where it should be; the most similar one."""
        text = self.c[slice(*word)]
        free = [other for other in near if not self.covered[slice(*other)].any()]
        best = max(free, key=lambda other: fuzz.ratio(text, self.r[slice(*other)]), default=None)
        if best is None or fuzz.ratio(text, self.r[slice(*best)]) < _SIMILAR_WORD:
            return None
        if text == self.r[slice(*best)]:
            self._alignment.claim(word[0], best[0], len(text))
        elif len(text) <= _SHORT_WORD or not self._misread(*word, *best):
            return None
        return best

    def _openings(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Unclaimed parts of the truth next to what was claimed beside a foreign run."""
        length = end - start
        before, after = self._alignment.place_before(start), self._alignment.place_after(end)
        if 0 <= before <= after and not self.covered[before:after].any():
            if after > before:
                yield before, after
            return
        reach = length + length // 2 + 4
        if before >= 0:
            taken = np.flatnonzero(self.covered[before : before + reach])
            stop = before + (
                int(taken[0]) if len(taken) else min(reach, len(self.covered) - before)
            )
            if stop > before:
                yield before, stop
        if after >= 0:
            taken = np.flatnonzero(self.covered[max(0, after - reach) : after])
            origin = max(0, after - reach) + (int(taken[-1]) + 1 if len(taken) else 0)
            if after > origin:
                yield origin, after

    def _misread(self, start: int, end: int, origin: int, stop: int) -> bool:
        mine, theirs = self.c[start:end], self.r[origin:stop]
        if len(mine) > _LONGER * len(theirs) + 1:
            return False
        least = _SIMILAR if min(len(mine), len(theirs)) < _LONG_GAP else _SIMILAR_LONG
        if fuzz.ratio(mine, theirs) < 100 * least:
            return False
        self.source[start:end] = -2
        for at, place, size in Levenshtein.opcodes(mine, theirs).as_matching_blocks():
            self.source[start + at : start + at + size] = np.arange(size) + origin + place
        self.covered[origin:stop] = True
        return True
