"""Which passages of a reference a transcription gives in more than one reading.

Foreign text that resembles a passage which other text claims contests it. So do a foreign formula
the most similar one, or the nearest ones if it is like none, foreign words those that they resemble
where they stand, and whatever is added within a paragraph the words on both sides of it.
"""

from __future__ import annotations

import numpy as np
from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

from olmrl.rewards.alignment import Alignment
from olmrl.rewards.lettered import SLIP, Bools, Span, all_of, runs, share

FORMULA_FOREIGN = 0.3
"""Share of foreign letters from which a formula is foreign."""
_LEAST_CHUNK = 8
_CHUNK = 16
_STRIDE = 8
_COPY = 80.0
"""Similarity, 0..100, of foreign text to a passage that makes it another reading of it: compared
are stretches of `_CHUNK` letters, and words with the words beside them."""
_WORD_COPY = 60.0
_DIGITS = 2
"""Most edits that make one number another reading of a number."""
_SHORTEST_WORD = 3
_LEAST_MISPLACED = 5
_LEAST_PARAGRAPH = 24
_LEAST_AT_EDGE = 60
_AS_LONG = 1.2
"""Letters of an added paragraph that may be a reading of the one beside it, within the page and at
its edges, where running heads are; and how much longer one of the two may be."""
_WORDS_AT_END = 6
_SAME_PARAGRAPH = 0.6
"""Share of a foreign paragraph's letters in words that resemble those nearby."""


def find(alignment: Alignment, standing: Bools) -> tuple[Bools, Bools, Bools]:
    """Which letters of the truth are given in another reading as well, in the same, or have a
    letter more before them within their word.

    What stands for something missing is a reading of that: it contests what it resembles only if
    it resembles what is missing less.
    """
    return _Contests(alignment, standing).find()


class _Contests:
    """Marks letters of the truth as contested, one kind of foreign text after the other."""

    def __init__(self, alignment: Alignment, standing: Bools) -> None:
        self.said, self.truth = alignment.said, alignment.truth
        self.c, self.r = alignment.c, alignment.r
        self.source, self._covered = alignment.source, alignment.covered
        self._standing = standing
        self._contested = np.zeros(len(self.r), np.bool_)
        self._beside_slips = np.zeros(len(self.r), np.bool_)

    def find(self) -> tuple[Bools, Bools, Bools]:
        """[letters of the truth] contested; given again in the same reading; beside a slip."""
        contested, copied = self._contested, np.zeros(len(self.r), np.bool_)
        known: dict[str, tuple[int, int] | None] = {}
        self._contest_formulas()
        self._contest_places()
        for start, end in runs(self.source == -1):
            if not all_of(self._standing[start:end]):
                self._contest_words(start, end)
            for at in range(start, end - _LEAST_CHUNK + 1, _STRIDE):
                chunk = self.c[at : min(at + _CHUNK, end)]
                if chunk not in known:
                    known[chunk] = _resembled(chunk, self.r)
                found = known[chunk]
                if found:
                    same = self._says_the_same(at, at + len(chunk), *found)
                    (copied if same else contested)[slice(*found)] = True
        return contested, copied, self._beside_slips

    def _says_the_same(self, start: int, end: int, origin: int, stop: int) -> bool:
        """Whether foreign text repeats, to the letter and mark, what claims a passage."""
        first = np.flatnonzero(self.source == origin)
        if end - start != stop - origin or not len(first):
            return False
        at = int(first[0])
        last = at + end - start
        if last > len(self.source) or self.source[last - 1] != stop - 1:
            return False
        return self._written(start, end) == self._written(at, last)

    def _written(self, start: int, end: int) -> list[str]:
        places = self.said.places
        return self.said.text[places[start] : places[end - 1] + 1].split()

    def _contest_formulas(self) -> None:
        """A foreign formula contests the most similar one of the truth, or those beside it."""
        for _, _, start, end in self.said.formulas:
            foreign = self.source[start:end] == -1
            if end == start or share(foreign) < FORMULA_FOREIGN:
                continue
            if self._standing[start:end][foreign].all():
                continue
            others = {
                (first, last): self.r[first:last] for _, _, first, last in self.truth.formulas
            }
            found = process.extractOne(
                self.c[start:end], others, scorer=fuzz.ratio, score_cutoff=_WORD_COPY
            )
            for span in [found[2]] if found else self._formulas_beside(start, end):
                self._contested[slice(*span)] = True

    def _formulas_beside(self, start: int, end: int) -> list[Span]:
        """The formulas of the truth before and after a formula that is on the page nowhere, and
        those whose place it has taken; none if one of them was not read: it stands for that one."""
        known = np.flatnonzero(self.source >= 0)
        at, after = np.searchsorted(known, (start, end))
        first = int(self.source[known[at - 1]]) if at else 0
        last = int(self.source[known[after]]) if after < len(known) else len(self.r)
        spans = [(begin, stop) for _, _, begin, stop in self.truth.formulas if stop > begin]
        beside = {span for span in spans if span[1] > first and span[0] <= last}
        for place in (first, last):
            beside.update([span for span in spans if span[0] <= place][-1:])
            beside.update([span for span in spans if span[1] > place][:1])
        read = all(2 * self._covered[slice(*span)].sum() >= span[1] - span[0] for span in beside)
        return list(beside) if read else []

    def _contest_places(self) -> None:
        """What is added between two words contests both, whatever it says, and as many words on
        each side as it has.

        Unless it is a paragraph of its own (for which see `_contest_paragraphs`), or stands for
        letters that are missing there, or is a slip of one or two letters inside a word.
        """
        claimed = np.zeros(len(self.r) + 1, np.bool_)
        claimed[self.source[self.source >= 0]] = True
        for start, end in runs(self.source < 0):
            if all_of(self._standing[start:end]):
                continue
            self._contest_paragraphs(start, end, claimed)
            for first, last in self.said.paragraphs_between(start, end):
                before = self._place_beside(first, first - 1) if first == start else None
                after = self._place_beside(last, last) if last == end else None
                if before is None and after is None:
                    continue
                if self._is_misplaced(self.c[first:last], claimed):
                    continue
                if self._standing[first:last].all():
                    continue
                if before is not None and after is not None and after == before + 1:
                    if self._is_slip(first, last, before):
                        self._mark_slip(first, last, before)
                        continue
                elif self._has_room(first, last, before, after, claimed):
                    continue
                before, after = self._own_side(first, last, before, after)
                self._contest_beside(first, last, before, after)

    def _contest_paragraphs(self, start: int, end: int, claimed: Bools) -> None:
        """Added paragraphs contest those beside them that are about as long, one each, in order.

        If these had not been read, the added ones would stand for them.
        """
        added = [
            part
            for part in self.said.paragraphs_between(start, end)
            if self.said.is_paragraph(*part) and not self._standing[slice(*part)].all()
        ]
        at_edge = start == 0 or end == len(self.source)
        least = _LEAST_AT_EDGE if at_edge else _LEAST_PARAGRAPH
        for step, place in ((-1, start - 1), (1, end)):
            if not added or not 0 <= place < len(self.source) or self.source[place] < 0:
                continue
            beside = self.truth.paragraphs_from(int(self.source[place]), step)
            for mine, theirs in zip(added[::step], beside, strict=False):
                shorter, longer = sorted((mine[1] - mine[0], theirs[1] - theirs[0]))
                if shorter < least or longer > _AS_LONG * shorter + 1:
                    continue
                if not self._is_misplaced(self.c[slice(*mine)], claimed):
                    self._contested[slice(*theirs)] = True

    def _own_side(
        self, start: int, end: int, before: int | None, after: int | None
    ) -> tuple[int | None, int | None]:
        """A letter or two at one end of a word are no reading of a longer word beside it."""
        left, right = self.said.glued(start, end)
        if end - start > SLIP or left == right or before is None or after is None:
            return before, after
        first, last = self.truth.words_around(after if left else before, 0, 0)
        if last - first <= 2 * (end - start) + 1:
            return before, after
        return (before, None) if left else (None, after)

    def _is_misplaced(self, text: str, claimed: Bools) -> bool:
        """Whether the truth has a text somewhere else, where it is not all claimed."""
        at = self.r.find(text) if len(text) >= _LEAST_MISPLACED else -1
        while at >= 0:
            if not claimed[at : at + len(text)].all():
                return True
            at = self.r.find(text, at + 1)
        return False

    def _place_beside(self, edge: int, at: int) -> int | None:
        """Place in the truth of the letter before or after an edge, in the same paragraph."""
        if not 0 <= at < len(self.source) or self.said.begins_paragraph(edge):
            return None
        return int(self.source[at])

    def _is_slip(self, start: int, end: int, before: int) -> bool:
        """Whether one or two letters are added within a word of the truth."""
        plain = not any(map(str.isdigit, self.c[start:end]))
        inside = all(self.said.glued(start, end)) and self.truth.joined(before)
        return plain and end - start <= SLIP and inside

    def _mark_slip(self, start: int, end: int, before: int) -> None:
        """Letters added within a word may be readings of as many beside them.

        The same letters twice are one reading.
        """
        length = end - start
        left, right = before + 1 - length, before + 1 + length
        if self.c[start:end] not in (self.r[left : before + 1], self.r[before + 1 : right]):
            _, last = self.truth.words_around(before, 0, 0)
            self._beside_slips[before + 1 : min(right, last)] = True

    def _has_room(
        self, start: int, end: int, before: int | None, after: int | None, claimed: Bools
    ) -> bool:
        """Whether letters that are not claimed stand for what is missing in the truth there."""
        length = end - start
        plain = not any(map(str.isdigit, self.c[start:end]))
        glued = self.said.glued(start, end)
        gap = 0
        if before is not None:
            gap += self._missing(before + 1, 1, claimed)
        if after is not None and not (before is not None and before + 1 + gap == after):
            gap += self._missing(after - 1, -1, claimed)
        more = gap // 4 if plain else 0
        return length <= gap + max(more, 1 if gap and plain and any(glued) else 0)

    def _missing(self, at: int, step: int, claimed: Bools) -> int:
        """Number of letters of the truth that nobody claims, from one on, in its paragraph."""
        count = 0
        while 0 <= at < len(self.r) and not claimed[at]:
            if count and self.truth.begins_paragraph(at if step > 0 else at + 1):
                break
            count, at = count + 1, at + step
        return count

    def _contest_beside(self, start: int, end: int, before: int | None, after: int | None) -> None:
        count = len(self.said.words_between(start, end)) or 1
        if before is not None:
            first, last = self.truth.words_around(before, 1 - count, count)
            self._contested[first:last] = True
        if after is not None:
            first, last = self.truth.words_around(after, -count, count - 1)
            self._contested[first:last] = True

    def _contest_words(self, start: int, end: int) -> None:
        """Foreign words contest the words that they resemble where they stand.

        Unless they are in a paragraph of their own which is about something else: a running head
        may have a word of the title below it.
        """
        near: list[tuple[int, int, str]] | None = None
        for first, last in self.said.paragraphs_between(start, end):
            words = self.said.pieces(first, last)
            if not words:
                continue
            near = self._words_near(start, end) if near is None else near
            if len(words) > 2 * _WORDS_AT_END:
                words = [*words[:_WORDS_AT_END], *words[-_WORDS_AT_END:]]
            found = [
                (word, other)
                for word in words
                for other in near
                if _is_reading(self.c[slice(*word)], other[2])
            ]
            resembling = sum(stop - begin for begin, stop in {word for word, _ in found})
            of_its_own = self.said.is_paragraph(first, last)
            if of_its_own and resembling < _SAME_PARAGRAPH * (last - first):
                continue
            for _, (origin, stop, _) in found:
                self._contested[origin:stop] = True

    def _words_near(self, start: int, end: int) -> list[tuple[int, int, str]]:
        """Words of the truth around the sources of what is claimed on both sides of a run."""
        reach = min(end - start, 4 * _CHUNK) + _LEAST_CHUNK
        near: set[Span] = set()
        for beside in (start - 1, end):
            if 0 <= beside < len(self.source) and self.source[beside] >= 0:
                center = int(self.source[beside])
                near.update(self.truth.words_between(center - reach, center + reach + 1))
        return [(*word, self.r[slice(*word)]) for word in near]


def _is_reading(mine: str, theirs: str) -> bool:
    """Whether one word may be a misreading of another."""
    shorter, longer = sorted((len(mine), len(theirs)))
    if mine.isdigit() and theirs.isdigit():
        return Levenshtein.distance(mine, theirs) <= _DIGITS
    if shorter < _SHORTEST_WORD or longer > shorter + shorter // 3 + 1:
        return False
    return fuzz.ratio(mine, theirs) >= _WORD_COPY


def _resembled(chunk: str, truth: str) -> tuple[int, int] | None:
    found = fuzz.partial_ratio_alignment(chunk, truth, score_cutoff=_COPY)
    if found is None or len(truth) < len(chunk):
        return (0, len(truth)) if found is not None else None
    return found.dest_start, found.dest_end
