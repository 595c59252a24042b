"""Which letters of a transcription are on the page: an alignment with the reference text.

Every letter of the reference can be *claimed* once. A transcription claims it by a run of equal
letters, in the page's order or as a moved block (columns read across, a footnote at the end), or by
a misreading between two such runs. What is left over is *foreign*. If foreign text resembles a
passage that other text claims, that passage was given in several readings: it is *contested*, and
so nothing was read there.

Tests that look for text judge what is claimed and not contested (`Claims.earned`). Hence added text
cannot help: it is foreign, or it contests what was there.

The letters are found by `lettered`, aligned by `alignment` and `misreadings`, and judged by
`contests`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from olmrl.markup.text import FORMATTING_TAGS
from olmrl.markup.visible import TAG
from olmrl.rewards import contests, misreadings
from olmrl.rewards.alignment import Alignment
from olmrl.rewards.lettered import Bools, Ints, Lettered, codes_of, is_word, runs, share, text_of

_SLIP = 3
"""Most letters inside a word that measures of distance take for a typing error."""
_LONGEST_MARKUP = 96
"""Characters between two letters of the page that may be markup."""
_MOST_LETTERS = 8
_MOST_LETTERS_SLACK = 10_000
"""Letters that are aligned: so many times those of the reference, and some."""

UNEARNED = "\ufffc"
"""Stands for a letter that counts for nothing."""

_READ_TAGS = frozenset({*FORMATTING_TAGS, "br"})
"""Tags that the tests do not take for text."""
_ALNUM = re.compile(r"[^\W_]")
_COMMAND = re.compile(r"\\([a-zA-Z]+)")


@dataclass(frozen=True)
class Claims:
    """What a transcription says of a reference."""

    said: Lettered
    truth: Lettered
    source: Ints
    """[letters said] the letter of the truth that each claims; -1: foreign, -2: a misreading."""
    covered: Bools
    """[letters of the truth] claimed, or misread."""
    contested: Bools
    """[letters of the truth] given in more than one reading."""
    copied: Bools
    """[letters of the truth] contested, or given again in the same reading."""
    standing: Bools
    """[letters said] foreign, in the place of letters that are missing: a misreading of them."""
    beside_slips: Bools
    """[letters of the truth] after a letter that was added within their word."""
    too_long: bool = False
    """The text was too long to be aligned; all of it is foreign."""

    @property
    def share(self) -> float:
        """Share of the truth that was read, 0..1."""
        return float(self.covered.mean()) if len(self.covered) else 1.0

    @property
    def added(self) -> int:
        """Number of foreign letters that stand for none of the page."""
        return int(((self.source == -1) & ~self.standing).sum())

    @property
    def added_chars(self) -> float:
        """Number of characters from the first to the last letter of each passage that is added, and
        the space after it; of one of which a part stands for something missing, so much less."""
        added, places = (self.source == -1) & ~self.standing, self.said.places
        return sum(
            float(added[start:end].mean()) * int(places[end - 1] - places[start] + 2)
            for start, end in runs(self.source == -1)
        )

    @cached_property
    def foreign_text(self) -> str:
        """The foreign passages, one a line, as they are written."""
        text, places = self.said.text, self.said.places
        passages = runs(self.source == -1)
        return "\n".join(text[places[start] : places[end - 1] + 1] for start, end in passages)

    @cached_property
    def foreign_letters(self) -> Bools:
        """[letters said] foreign, short slips inside a word excepted: for measures of distance."""
        flags: Bools = self.source == -1
        for start, end in runs(flags):
            if end - start <= _SLIP and not is_word(self.said, start, end):
                flags[start:end] = False
        return flags

    @cached_property
    def unearned(self) -> Bools:
        """[letters said] foreign or contested; each formula is so as a whole, or not at all."""
        flags = self._unearned(self.contested)
        self._whole_formulas(flags, flags)
        return flags

    def _unearned(self, contested: Bools) -> Bools:
        flags: Bools = self.source == -1
        known = self.source >= 0
        flags[known] |= contested[self.source[known]]
        return flags

    def _whole_formulas(self, flags: Bools, into: Bools) -> None:
        """Whether each formula counts for nothing: too much is foreign, or one symbol is added."""
        for first, last, start, end in self.said.formulas:
            if end > start:
                most = share(flags[start:end]) >= contests.FORMULA_FOREIGN
                into[start:end] = most or self._adds_symbols(first, last, start, end)

    def _adds_symbols(self, first: int, last: int, start: int, end: int) -> bool:
        """Whether a formula has more symbols somewhere than the truth has there."""
        names = None
        for begin, stop in runs(self.source[start:end] < 0):
            begin, stop = start + begin, start + stop
            before = int(self.source[begin - 1]) if begin else -1
            after = int(self.source[stop]) if stop < len(self.source) else len(self.covered)
            between = max(0, after - before - 1)
            gap = between - int(self._claimed[before + 1 : after].sum()) if between else 0
            if stop - begin > gap:
                names = names or _command_names(self.said, first, last)
                if not self._respells(begin, stop, names):
                    return True
        return False

    @cached_property
    def _claimed(self) -> Bools:
        flags = np.zeros(len(self.covered), np.bool_)
        flags[self.source[self.source >= 0]] = True
        return flags

    def _respells(self, start: int, end: int, names: list[tuple[int, int]]) -> bool:
        """Whether letters are a part of a command's name whose other letters are claimed."""
        return any(
            first <= start and end <= last and (self.source[first:last] >= 0).any()
            for first, last in names
        )

    @cached_property
    def earned(self) -> str:
        """The text with `UNEARNED` for each letter not read.

        A letter added within a word stands for the one after it, which goes: tests mind a letter
        more less than a wrong one, so that a right letter beside a wrong one would pay.
        """
        return self._without_slips(self._unearned(self.contested) | (self.source < 0))

    def _without_slips(self, flags: Bools) -> str:
        known = self.source >= 0
        gone = np.zeros(len(self.source), np.bool_)
        gone[known] = self.beside_slips[self.source[known]]
        text = _blotted(self.said, flags)
        return text_of(np.delete(codes_of(text), self.said.places[gone])) if gone.any() else text

    @cached_property
    def earned_formulas(self) -> str:
        """The text with each formula as it is, or blotted out: for questions of formulas."""
        flags = self._unearned(self.copied)
        self._whole_formulas(flags, flags)
        return _blotted(self.said, flags, whole=True)

    @cached_property
    def native(self) -> str:
        """The text with `UNEARNED` from the first to the last foreign letter of each passage, and
        for what is between letters and longer than markup can be."""
        codes = codes_of(self.said.text).copy()
        foreign = self.foreign_letters
        if not foreign.any() and len(codes) <= _LONGEST_MARKUP:
            return self.said.text
        places = self.said.places
        for start, end in runs(foreign):
            codes[places[start] : places[end - 1] + 1] = ord(UNEARNED)
        edges = np.concatenate(([-1], places, [len(codes)]))
        for at in np.flatnonzero(np.diff(edges) > _LONGEST_MARKUP):
            codes[edges[at] + 1 : edges[at + 1]] = ord(UNEARNED)
        return text_of(codes)

    @cached_property
    def said_once(self) -> str:
        """`earned`, without what is given again in the same reading: for questions of order."""
        if (self.copied == self.contested).all():
            return self.earned
        return self._without_slips(self._unearned(self.copied) | (self.source < 0))


def untagged(text: str) -> str:
    """A text with `UNEARNED` for every letter inside a tag: `<center>` is not the word."""
    return TAG.sub(lambda match: _blotted_tag(match[0]), text)


@lru_cache(maxsize=4096)
def _blotted_tag(tag: str) -> str:
    name = tag.strip("</>").partition(" ")[0]
    return tag if name in _READ_TAGS else _ALNUM.sub(UNEARNED, tag)


def _blotted(said: Lettered, flags: Bools, *, whole: bool = False) -> str:
    if not flags.any() and not (whole and said.no_formulas):
        return said.text
    codes = codes_of(said.text).copy()
    codes[said.places[flags]] = ord(UNEARNED)
    if whole:
        for first, last, start, end in said.formulas:
            if end > start and flags[start]:
                codes[first:last] = ord(UNEARNED)
        for first, last in said.no_formulas:
            codes[first : first + 2] = codes[last - 2 : last] = ord(UNEARNED)
    return text_of(codes)


def _command_names(said: Lettered, first: int, last: int) -> list[tuple[int, int]]:
    """Start and end, in letters, of the names of the commands in a formula."""
    spans = [match.span(1) for match in _COMMAND.finditer(said.text, first, last)]
    ends = np.searchsorted(said.places, np.array(spans, np.int64).reshape(-1, 2))
    return [(int(start), int(end)) for start, end in ends]


def claims(said: Lettered, truth: Lettered) -> Claims:
    """Align a text (as seen, without front matter) with a reference."""
    if said.key == truth.key:
        nothing = np.zeros(len(truth.key), np.bool_)
        every = np.arange(len(truth.key), dtype=np.int64)
        return Claims(said, truth, every, ~nothing, nothing, nothing, nothing, nothing)
    aligned = Alignment(said, truth)
    source, covered = aligned.source, aligned.covered
    if len(said.key) > _MOST_LETTERS * len(truth.key) + _MOST_LETTERS_SLACK:
        none = source >= 0
        return Claims(said, truth, source, covered, covered, covered, none, covered, too_long=True)
    aligned.claim_equal()
    misreadings.read_gaps(aligned)
    standing = misreadings.standing(aligned)
    contested, copied, slips = contests.find(aligned, standing)
    return Claims(said, truth, source, covered, contested, copied | contested, standing, slips)
