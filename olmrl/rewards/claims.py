"""Which letters of a transcription are on the page: an alignment with the reference text.

Every letter of the reference can be *claimed* once. A transcription claims it by a run of equal
letters, in the page's order or as a moved block (columns read across, a footnote at the end), or by
a misreading between two such runs. What is left over is *foreign*. If foreign text resembles a
passage that other text claims, that passage was given in several readings: it is *contested*, and
so nothing was read there.

Tests that look for text judge what is claimed and not contested (`Claims.earned`). Hence added text
cannot help: it is foreign, or it contests what was there.

Letters are compared without case, white space, punctuation and tags.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process
from rapidfuzz.distance import Indel, Levenshtein

from olmrl.markup.visible import TAG

SEED = 8
"""Equal letters in a row that show a common passage; half the text, if that is less."""
_REMNANT = 5
_PLACES = 4
"""Places in the truth that are tried for a block that moved."""
_MISREAD = 0.5
_MISREAD_LONG = 0.65
_LONG_GAP = 24
_LONGER = 1.2
"""Similarity of a gap's two sides that makes one a misreading of the other, for short and long
gaps (unrelated long texts have about 0.55), and how much longer a misreading may be."""
_SLIP = 2
"""Most letters inside a word that are a typing error."""
_SHORT_RUN = 3
_WORDS_BESIDE = 4
"""Most words on each side that added words contest."""
_CHUNK = 16
_STRIDE = 8
_COPY = 80.0
"""Similarity, 0..100, of foreign text to a passage that makes it another reading of it: compared
are stretches of `_CHUNK` letters, and words with the words beside them."""
_WORD_COPY = 60.0
_DIGITS = 2
"""Most edits that make one number another reading of a number."""
_SHORTEST_WORD = 3
_DRIFT = 4
"""Letters by which a word may be nearer to or farther from an edge of its gap than in the truth."""
_WORDS_AT_END = 6
_SAME_PARAGRAPH = 0.6
"""Share of a foreign paragraph's letters in words that resemble those nearby."""
_FORMULA_FOREIGN = 0.3
"""Share of foreign letters from which a formula is foreign."""
_LONGEST_FORMULA = 2000
"""Characters from which a formula is no formula."""
_LONGEST_MARKUP = 96
"""Characters between two letters of the page that may be markup."""
_MOST_ROOM = 20_000
_MOST_LETTERS = 8
_MOST_LETTERS_SLACK = 10_000
"""Letters that are aligned: so many times those of the reference, and some."""

UNEARNED = "\ufffc"
"""Stands for a letter that counts for nothing."""

_READ_TAGS = ("b", "i", "br")
"""Tags that the tests do not take for text."""
_ALNUM = re.compile(r"[^\W_]")
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n")
_DELIMITERS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"))
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_PRICE = re.compile(r"(?<!\$)\$(?= ?[\d\u00a3\u20ac\u00a5])")
_STYLE = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|nolimits|mathrm|mathbf|mathit"
    r"|boldsymbol|bm|text|textbf|textrm|operatorname|quad|qquad|dfrac|tfrac|tag)(?![a-zA-Z])"
)

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Span = tuple[int, int]
"""Start and end."""


_SIGNS = "+\u2030\u2031\u2020\u2021\u00a7\u00b6"
"""Punctuation, or symbols of ASCII, that a reader does not take for markup."""


def _is_letter(char: str) -> bool:
    """Whether a character says something: also vowel signs and symbols, but no punctuation."""
    if char.isalnum() or char in _SIGNS:
        return True
    return char > "\x7f" and unicodedata.category(char)[0] in "MS"


_IS_LETTER = np.array([_is_letter(chr(code)) for code in range(0x10000)])


@dataclass(frozen=True)
class Lettered:
    """A text and its letters and digits, lower case, with their places."""

    text: str
    key: str
    places: Ints
    """Index in `text` of each character of `key`."""

    @classmethod
    def of(cls, text: str) -> Lettered:
        """Find the letters of a text, tags and styling commands of LaTeX left out."""
        codes = _codes(text)
        is_letter = _IS_LETTER[np.minimum(codes, 0xFFFF)]
        beyond = np.flatnonzero(codes > 0xFFFF)
        is_letter[beyond] = [_is_letter(chr(code)) for code in codes[beyond]]
        for pattern, mark in ((TAG, "<"), (_STYLE, "\\")):
            if mark in text:
                for match in pattern.finditer(text):
                    is_letter[match.start() : match.end()] = False
        for match in _PRICE.finditer(text) if "$" in text else ():
            is_letter[match.start()] = True
        places = np.flatnonzero(is_letter)
        key = _text(codes[places])
        lower = key.lower()
        if len(lower) != len(key):
            lower = "".join(char.lower() if len(char.lower()) == 1 else char for char in key)
        return cls(text, lower, places)

    @cached_property
    def _words(self) -> list[tuple[int, int]]:
        """Start and end of each word in `key`: letters that stand side by side in the text."""
        if not len(self.places):
            return []
        cuts = np.flatnonzero(np.diff(self.places) > 1) + 1
        return list(pairwise([0, *cuts.tolist(), len(self.places)]))

    def words_between(self, start: int, end: int) -> list[tuple[int, int]]:
        """The words that lie between two places of `key`."""
        first = bisect_left(self._words, (start, start))
        last = bisect_left(self._words, (end, end))
        return [word for word in self._words[first:last] if word[1] <= end]

    def words_around(self, at: int, less: int, more: int) -> tuple[int, int]:
        """Where the words begin and end that are so many from that of a letter."""
        own = bisect_right(self._words, at, key=lambda word: word[0]) - 1
        first, last = max(0, own + less), min(len(self._words) - 1, own + more)
        return self._words[first][0], self._words[last][1]

    def glued(self, start: int, end: int) -> tuple[bool, bool]:
        """Whether a letter stands directly before a run of letters, and directly after it."""
        return self.joined(start - 1), self.joined(end - 1)

    def joined(self, at: int) -> bool:
        """Whether a letter and the next stand side by side."""
        if not 0 <= at < len(self.places) - 1:
            return False
        return int(self.places[at + 1] - self.places[at]) == 1

    @cached_property
    def _cuts(self) -> frozenset[int]:
        return frozenset(self._paragraphs)

    def begins_paragraph(self, at: int) -> bool:
        """Whether a paragraph begins at a letter, or ends before it."""
        return at in self._cuts

    @cached_property
    def _paragraphs(self) -> list[int]:
        """Where each paragraph begins and the last one ends, in `key`."""
        ends = [match.end() for match in _PARAGRAPH_END.finditer(self.text)]
        cuts = np.searchsorted(self.places, np.array(ends, np.int64)).tolist()
        return sorted({0, *cuts, len(self.key)})

    def paragraphs_between(self, start: int, end: int) -> list[tuple[int, int]]:
        """A run of letters, cut at the ends of paragraphs."""
        cuts = self._paragraphs
        inner = cuts[bisect_right(cuts, start) : bisect_left(cuts, end)]
        return list(pairwise([start, *inner, end]))

    def is_paragraph(self, start: int, end: int) -> bool:
        """Whether letters are a paragraph of their own."""
        cuts = self._paragraphs
        at = bisect_left(cuts, start)
        return at + 1 < len(cuts) and cuts[at] == start and cuts[at + 1] == end

    def pieces(self, start: int, end: int) -> list[tuple[int, int]]:
        """The words, or parts of words, of a run of letters."""
        cuts = np.flatnonzero(np.diff(self.places[start:end]) > 1) + 1 + start
        found = pairwise([start, *cuts.tolist(), end])
        return [
            (first, last)
            for first, last in found
            if last - first > _SLIP or _is_word(self, first, last)
        ]

    @cached_property
    def _delimited(self) -> list[tuple[int, int]]:
        return _formula_spans(self.text)

    @cached_property
    def no_formulas(self) -> list[tuple[int, int]]:
        """Where what is written as one formula is too long for one, in `text`."""
        return [span for span in self._delimited if not _is_formula(self.text, *span)]

    @cached_property
    def formulas(self) -> list[tuple[int, int, int, int]]:
        """Start and end of each formula in `text` and in `key`."""
        if "\\" not in self.text and "$$" not in self.text:
            return []
        spans = [span for span in self._delimited if _is_formula(self.text, *span)]
        ends = np.searchsorted(self.places, np.array(spans, np.int64).reshape(-1, 2))
        return [(*span, int(e[0]), int(e[1])) for span, e in zip(spans, ends, strict=True)]


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
        """Number of characters from the first to the last letter of each passage that is added;
        of one of which a part stands for something missing, so much less."""
        added, places = (self.source == -1) & ~self.standing, self.said.places
        return sum(
            float(added[start:end].mean()) * int(places[end - 1] - places[start] + 1)
            for start, end in _runs(self.source == -1)
        )

    @cached_property
    def foreign_text(self) -> str:
        """The foreign passages, one a line, as they are written."""
        text, places = self.said.text, self.said.places
        runs = _runs(self.source == -1)
        return "\n".join(text[places[start] : places[end - 1] + 1] for start, end in runs)

    @cached_property
    def foreign_letters(self) -> Bools:
        """[letters said] foreign, short slips inside a word excepted: for measures of distance."""
        flags: Bools = self.source == -1
        for start, end in _runs(flags):
            if end - start <= _SHORT_RUN and not _is_word(self.said, start, end):
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
                most = float(flags[start:end].mean()) >= _FORMULA_FOREIGN
                into[start:end] = most or self._adds_symbols(first, last, start, end)

    def _adds_symbols(self, first: int, last: int, start: int, end: int) -> bool:
        """Whether a formula has more symbols somewhere than the truth has there."""
        names = None
        for begin, stop in _runs(self.source[start:end] < 0):
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
        """The text with `UNEARNED` for each letter not read; its length is that of the text."""
        return _blotted(self.said, self._unearned(self.contested) | (self.source < 0))

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
        codes = _codes(self.said.text).copy()
        foreign = self.foreign_letters
        if not foreign.any() and len(codes) <= _LONGEST_MARKUP:
            return self.said.text
        places = self.said.places
        for start, end in _runs(foreign):
            codes[places[start] : places[end - 1] + 1] = ord(UNEARNED)
        edges = np.concatenate(([-1], places, [len(codes)]))
        for at in np.flatnonzero(np.diff(edges) > _LONGEST_MARKUP):
            codes[edges[at] + 1 : edges[at + 1]] = ord(UNEARNED)
        return _text(codes)

    @cached_property
    def said_once(self) -> str:
        """`earned`, without what is given again in the same reading: for questions of order."""
        if (self.copied == self.contested).all():
            return self.earned
        return _blotted(self.said, self._unearned(self.copied) | (self.source < 0))


def untagged(text: str) -> str:
    """A text with `UNEARNED` for every letter inside a tag: `<center>` is not the word."""
    return TAG.sub(lambda match: _blotted_tag(match[0]), text)


@lru_cache(maxsize=4096)
def _blotted_tag(tag: str) -> str:
    name = tag.strip("</>").partition(" ")[0]
    return tag if name in _READ_TAGS else _ALNUM.sub(UNEARNED, tag)


def _is_formula(text: str, start: int, end: int) -> bool:
    """Whether delimited text is short, and within a paragraph."""
    return end - start <= _LONGEST_FORMULA and not _PARAGRAPH_END.search(text, start, end)


def _formula_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each formula, delimiters included; none overlap."""
    found = []
    for opening, closing in _DELIMITERS:
        start = text.find(opening)
        while start >= 0:
            end = text.find(closing, start + 2)
            if end < 0:
                break
            found.append((start, end + 2))
            start = text.find(opening, end + 2)
    spans: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if not spans or start >= spans[-1][1]:
            spans.append((start, end))
    return spans


def _blotted(said: Lettered, flags: Bools, *, whole: bool = False) -> str:
    if not flags.any() and not (whole and said.no_formulas):
        return said.text
    codes = _codes(said.text).copy()
    codes[said.places[flags]] = ord(UNEARNED)
    if whole:
        for first, last, start, end in said.formulas:
            if end > start and flags[start]:
                codes[first:last] = ord(UNEARNED)
        for first, last in said.no_formulas:
            codes[first : first + 2] = codes[last - 2 : last] = ord(UNEARNED)
    return _text(codes)


def _command_names(said: Lettered, first: int, last: int) -> list[tuple[int, int]]:
    """Start and end, in letters, of the names of the commands in a formula."""
    spans = [match.span(1) for match in _COMMAND.finditer(said.text, first, last)]
    ends = np.searchsorted(said.places, np.array(spans, np.int64).reshape(-1, 2))
    return [(int(start), int(end)) for start, end in ends]


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _text(codes: NDArray[np.uint32]) -> str:
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


def claims(said: Lettered, truth: Lettered) -> Claims:
    """Align a text (as seen, without front matter) with a reference."""
    if said.key == truth.key:
        nothing = np.zeros(len(truth.key), np.bool_)
        every = np.arange(len(truth.key), dtype=np.int64)
        return Claims(said, truth, every, ~nothing, nothing, nothing, nothing)
    source = np.full(len(said.key), -1, np.int64)
    covered = np.zeros(len(truth.key), np.bool_)
    if len(said.key) > _MOST_LETTERS * len(truth.key) + _MOST_LETTERS_SLACK:
        none = source >= 0
        return Claims(said, truth, source, covered, covered, covered, none, too_long=True)
    aligner = _Aligner(said, truth, source, covered)
    aligner.seed()
    aligner.read_gaps()
    standing = aligner.standing()
    contested, copied = aligner.contested(standing)
    return Claims(said, truth, source, covered, contested, copied | contested, standing)


class _Aligner:
    """Fills `source` and `covered` step by step."""

    def __init__(self, said: Lettered, truth: Lettered, source: Ints, covered: Bools) -> None:
        self.said, self.truth = said, truth
        self.c, self.r = said.key, truth.key
        self.source, self.covered = source, covered
        self._seed = min(SEED, max(2, min(len(self.c), len(self.r)) // 2))

    def seed(self) -> None:
        """Claim runs of equal letters: those in order first, then blocks that moved."""
        if min(len(self.c), len(self.r)) < self._seed:
            return
        for start, origin, size in Indel.opcodes(self.c, self.r).as_matching_blocks():
            if size >= self._seed:
                self._claim(start, origin, size)
        self._seed_moved()
        self._slide()
        self._seed_remnants()

    def _seed_moved(self) -> None:
        size = self._seed
        places: dict[str, list[int]] = {}
        for origin, stop in _runs(~self.covered):
            for at in range(origin, stop - size + 1):
                places.setdefault(self.r[at : at + size], []).append(at)
        if not places:
            return
        for start, end in _runs(self.source == -1):
            at = start
            while at + size <= end:
                found = places.get(self.c[at : at + size], ())
                free = [p for p in found[:_PLACES] if not self.covered[p : p + size].any()]
                if free:
                    self._claim(at, max(free, key=lambda p: self._agreement(at, p)), size)
                    at += size
                    while at < end and self.source[at] != -1:
                        at += 1
                else:
                    at += 1

    def _slide(self) -> None:
        """Give letters back to the block that they belong to, if their claimants have another.

        Where blocks changed places, equal letters at their edges may be claimed by the wrong one.
        """
        owner = self._owners()
        for start, end in _runs(self.source == -1):
            for step in (1, -1):
                if self._take_back(start, end, step, owner):
                    owner = self._owners()

    def _owners(self) -> Ints:
        """[letters of the truth] the letter that claims each; -1 if none."""
        owner = np.full(len(self.r), -1, np.int64)
        here = np.flatnonzero(self.source >= 0)
        owner[self.source[here]] = here
        return owner

    def _take_back(self, start: int, end: int, step: int, owner: Ints) -> bool:
        """Continue the block before (step 1) or after (-1) a foreign run with claimed letters."""
        beside = start - 1 if step > 0 else end
        if not 0 <= beside < len(self.source) or self.source[beside] < 0:
            return False
        at, origin = beside + step, int(self.source[beside]) + step
        theirs: list[int] = []
        while start <= at < end and 0 <= origin < len(self.r) and self.source[at] == -1:
            other = int(owner[origin])
            follows = not theirs or other == theirs[-1] + step
            if self.c[at] != self.r[origin] or other < 0 or not follows:
                break
            theirs.append(other)
            at, origin = at + step, origin + step
        size, other = len(theirs), min(theirs, default=0)
        home = self._other_home(other, size) if size else -1
        if home < 0:
            return False
        mine, place = (at - size, origin - size) if step > 0 else (at + 1, origin + 1)
        self.source[other : other + size] = -1
        self.covered[place : place + size] = False
        self._claim(mine, place, size)
        self._claim(other, home, size)
        return True

    def _other_home(self, start: int, size: int) -> int:
        """Free place in the truth that continues what is claimed beside some letters; or -1."""
        end = start + size
        places = []
        if start and self.source[start - 1] >= 0:
            places.append(int(self.source[start - 1]) + 1)
        if end < len(self.source) and self.source[end] >= 0:
            places.append(int(self.source[end]) - size)
        for place in places:
            free = place >= 0 and not self.covered[place : place + size].any()
            if free and self.c[start:end] == self.r[place : place + size]:
                return place
        return -1

    def _seed_remnants(self) -> None:
        """Claim short runs that are all that is left in one place of both texts."""
        left = {self.r[slice(*run)]: run for run in _runs(~self.covered)}
        for start, end in _runs(self.source == -1):
            run = left.get(self.c[start:end])
            if run and end - start >= _REMNANT and not self.covered[run[0]]:
                self._claim(start, run[0], end - start)

    def _agreement(self, at: int, origin: int) -> int:
        """Number of equal letters from two places on."""
        mine, theirs = self.c[at : at + 400], self.r[origin : origin + 400]
        return next(
            (n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), len(mine)
        )

    def _claim(self, start: int, origin: int, size: int) -> None:
        """Claim what is free of a run, and the equal letters around it that are free."""
        source, covered = self.source, self.covered
        free = (source[start : start + size] == -1) & ~covered[origin : origin + size]
        if not free.all():
            first = int(free.argmax())
            start, origin, size = start + first, origin + first, int(free.sum())
        if not size:
            return
        end, stop = start + size, origin + size
        while start and origin and self._agree(start - 1, origin - 1):
            start, origin = start - 1, origin - 1
        while end < len(source) and stop < len(covered) and self._agree(end, stop):
            end, stop = end + 1, stop + 1
        source[start:end] = np.arange(origin, stop)
        covered[origin:stop] = True

    def _agree(self, at: int, origin: int) -> bool:
        free = self.source[at] == -1 and not self.covered[origin]
        return bool(free) and self.c[at] == self.r[origin]

    def read_gaps(self) -> None:
        """Take the text between two claims as a reading of what lies between their sources.

        As a whole, or else word by word: then between the words that stand where they should.
        """
        for start, end in _runs(self.source == -1):
            for origin, stop in self._openings(start, end):
                if self._misread(start, end, origin, stop):
                    break
                if self._claim_words(start, end, origin, stop):
                    self._read_between(start, end)
                    break

    def _read_between(self, start: int, end: int) -> None:
        for first, last in _runs(self.source[start:end] == -1):
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
        if self._source_before(start) == origin:
            found = self._words_from(mine, theirs, start, origin, 1)
        if self._source_after(end) == stop:
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
            drift = _DRIFT if word[1] - word[0] > _SHORT_RUN else 1
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
        if best is None or fuzz.ratio(text, self.r[slice(*best)]) < _WORD_COPY:
            return None
        if text == self.r[slice(*best)]:
            self._claim(word[0], best[0], len(text))
        elif len(text) <= _SHORT_RUN or not self._misread(*word, *best):
            return None
        return best

    def _openings(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Unclaimed parts of the truth next to what was claimed beside a foreign run."""
        length = end - start
        before, after = self._source_before(start), self._source_after(end)
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

    def _source_before(self, start: int) -> int:
        """Place in the truth after that of the letter before a run; -1 if unknown."""
        at = start
        while at and self.source[at - 1] == -2:
            at -= 1
        place = int(self.source[at - 1]) + 1 if at else 0
        if not place and at:
            return -1
        while place < len(self.covered) and self.covered[place] and at < start:
            place += 1
        return place

    def _source_after(self, end: int) -> int:
        """Place in the truth of the letter after a run; -1 if unknown."""
        at = end
        while at < len(self.source) and self.source[at] == -2:
            at += 1
        place = int(self.source[at]) if at < len(self.source) else len(self.covered)
        while place > 0 and self.covered[place - 1] and at > end:
            place -= 1
        return place

    def _misread(self, start: int, end: int, origin: int, stop: int) -> bool:
        mine, theirs = self.c[start:end], self.r[origin:stop]
        if len(mine) > _LONGER * len(theirs) + 1:
            return False
        least = _MISREAD if min(len(mine), len(theirs)) < _LONG_GAP else _MISREAD_LONG
        if fuzz.ratio(mine, theirs) < 100 * least:
            return False
        self.source[start:end] = -2
        for at, place, size in Levenshtein.opcodes(mine, theirs).as_matching_blocks():
            self.source[start + at : start + at + size] = np.arange(size) + origin + place
        self.covered[origin:stop] = True
        return True

    # -- what is missing, and what stands there

    def standing(self) -> Bools:
        """Which foreign letters are in the place of missing ones, as many as a misreading has."""
        flags = np.zeros(len(self.source), np.bool_)
        for start, end in _runs(self.source == -1):
            room = self._room(start, end)
            most = int(_LONGER * room) + 1 if room else 0
            flags[start : min(end, start + most)] = True
        return flags

    def _room(self, start: int, end: int) -> int:
        """Number of letters of the truth that nobody reads where a run of foreign letters is."""
        before, after = self._source_before(start), self._source_after(end)
        ahead = behind = 0
        if before >= 0:
            taken = self.covered[before : before + _MOST_ROOM]
            ahead = int(taken.argmax()) if taken.any() else len(taken)
        if after >= 0 and not before <= after <= before + ahead:
            taken = self.covered[max(0, after - _MOST_ROOM) : after][::-1]
            behind = int(taken.argmax()) if taken.any() else len(taken)
        return ahead + behind

    # -- other readings

    def contested(self, standing: Bools) -> tuple[Bools, Bools]:
        """Which letters of the truth are given in another reading as well, or in the same.

        What stands for something missing is a reading of that: it contests what it resembles only
        if it resembles what is missing less.
        """
        contested, copied = np.zeros((2, len(self.r)), np.bool_)
        known: dict[str, tuple[int, int] | None] = {}
        self._contest_formulas(contested, standing)
        self._contest_places(contested, standing)
        for start, end in _runs(self.source == -1):
            if not standing[start:end].all():
                self._contest_words(start, end, contested)
            for at in range(start, end - SEED + 1, _STRIDE):
                chunk = self.c[at : min(at + _CHUNK, end)]
                if chunk not in known:
                    known[chunk] = _resembled(chunk, self.r)
                found = known[chunk]
                if found:
                    same = self._says_the_same(at, at + len(chunk), *found)
                    (copied if same else contested)[slice(*found)] = True
        return contested, copied

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

    def _contest_formulas(self, contested: Bools, standing: Bools) -> None:
        """A foreign formula contests the most similar one of the truth."""
        for _, _, start, end in self.said.formulas:
            foreign = (self.source == -1)[start:end]
            if end == start or foreign.mean() < _FORMULA_FOREIGN:
                continue
            if standing[start:end][foreign].all():
                continue
            others = {
                (first, last): self.r[first:last] for _, _, first, last in self.truth.formulas
            }
            found = process.extractOne(
                self.c[start:end], others, scorer=fuzz.ratio, score_cutoff=_WORD_COPY
            )
            if found:
                contested[slice(*found[2])] = True

    def _contest_places(self, contested: Bools, standing: Bools) -> None:
        """What is added between two words contests both, whatever it says.

        Unless it is a paragraph of its own, or stands for letters that are missing there, or is a
        slip of one or two letters inside a word.
        """
        claimed = np.zeros(len(self.r) + 1, np.bool_)
        claimed[self.source[self.source >= 0]] = True
        for start, end in _runs(self.source < 0):
            if standing[start:end].all():
                continue
            for first, last in self.said.paragraphs_between(start, end):
                before = self._place_beside(first, first - 1) if first == start else None
                after = self._place_beside(last, last) if last == end else None
                if before is None and after is None:
                    continue
                if self._is_misplaced(self.c[first:last], claimed):
                    continue
                if standing[first:last].all():
                    continue
                if self._has_room(first, last, before, after, claimed):
                    continue
                before, after = self._own_side(first, last, before, after)
                self._contest_beside(first, last, before, after, contested)

    def _own_side(
        self, start: int, end: int, before: int | None, after: int | None
    ) -> tuple[int | None, int | None]:
        """A letter or two at one end of a word are no reading of a longer word beside it."""
        left, right = self.said.glued(start, end)
        if end - start > _SLIP or left == right or before is None or after is None:
            return before, after
        first, last = self.truth.words_around(after if left else before, 0, 0)
        if last - first <= 2 * (end - start) + 1:
            return before, after
        return (before, None) if left else (None, after)

    def _is_misplaced(self, text: str, claimed: Bools) -> bool:
        """Whether the truth has a text somewhere else, where it is not all claimed."""
        at = self.r.find(text) if len(text) >= _REMNANT else -1
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

    def _has_room(
        self, start: int, end: int, before: int | None, after: int | None, claimed: Bools
    ) -> bool:
        """Whether letters that are not claimed stand for what is missing in the truth there."""
        length = end - start
        plain = not any(map(str.isdigit, self.c[start:end]))
        glued = self.said.glued(start, end)
        if before is not None and after is not None and after == before + 1:
            return plain and length <= _SLIP and all(glued) and self.truth.joined(before)
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

    def _contest_beside(
        self, start: int, end: int, before: int | None, after: int | None, contested: Bools
    ) -> None:
        count = min(len(self.said.words_between(start, end)) or 1, _WORDS_BESIDE)
        if before is not None:
            first, last = self.truth.words_around(before, 1 - count, 0)
            contested[first:last] = True
        if after is not None:
            first, last = self.truth.words_around(after, 0, count - 1)
            contested[first:last] = True

    def _contest_words(self, start: int, end: int, contested: Bools) -> None:
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
                contested[origin:stop] = True

    def _words_near(self, start: int, end: int) -> list[tuple[int, int, str]]:
        """Words of the truth around the sources of what is claimed on both sides of a run."""
        reach = min(end - start, 4 * _CHUNK) + SEED
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


def _runs(flags: Bools) -> list[tuple[int, int]]:
    """Start and end of each run of true flags."""
    if not len(flags):
        return []
    edges = (np.flatnonzero(flags[1:] != flags[:-1]) + 1).tolist()
    if flags[0]:
        edges.insert(0, 0)
    if flags[-1]:
        edges.append(len(flags))
    return list(zip(edges[::2], edges[1::2], strict=True))


def _is_word(lettered: Lettered, start: int, end: int) -> bool:
    """Whether letters are whole words: none is beside them in the text."""
    places, text = lettered.places, lettered.text
    first, last = int(places[start]), int(places[end - 1])
    before = first > 0 and _is_letter(text[first - 1])
    after = last + 1 < len(text) and _is_letter(text[last + 1])
    return not before and not after
