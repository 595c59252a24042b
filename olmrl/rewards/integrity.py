"""What a completion must show before a passed unit test counts for it.

A unit test looks at one thing, so many can be passed without reading the page: by saying little
(`absent`), everything twice (`order`), every reading of a word (`present`), every neighbour of a
cell (`table`), or by marking everything (`format`). In training a reward pays for what is on the
page and nothing else. Two means, both monotone: adding text can only take passes away.

With a reference text, positive tests judge what the completion *earned* (`rewards.claims`): text
that is not on the page, and passages given in several readings, are blotted out. Then

| test type | the completion also |
|---|---|
| absent | claims 10 % of the truth's letters; has the text nowhere among what is foreign |
| order | says no passage twice; adds no more than 60 % of the truth's length |
| baseline | claims 10 % of the truth; adds no more than 60 % of it; repeats nothing 30 times |
| format | shows unmarked at least 80 % of the 120 letters around the mark that are unmarked |
| footnote | has the mark no more often than the truth |
| table | offers no more neighbours and headings of the cell than the truth does |

Without a reference (or where the reference itself fails the test) only the page's other tests tell
what is there, so hedging is bounded, not excluded: see `hedges`.

A test that the truth fails for one of these reasons would be unfair, so each condition is measured
against the truth.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from olmrl.markup.letters import fold
from olmrl.markup.lookalike import skeleton
from olmrl.markup.visible import TAG
from olmrl.rewards.claims import Claims
from olmrl.rewards.lettered import Bools, Lettered

_NOT_TEXT = re.compile(r"[\W_]+")

_GRAM = 5
LEAST_SHARE = 0.1
"""Share of the truth that a completion must claim to have read the page."""
_LEAST_LETTERS = 20
"""Letters that count as having read the page if nothing is known about the truth."""

_LONG_GRAM = 12
_MOST_REPEATED = 0.3
_MOST_FOREIGN = 0.6
_FOREIGN_SLACK = 50
MOST_MARKED = (0.2, 0.5)
"""Share of a text that is bold or italic, and that is headings, without a reference."""
_LOOP_REPEATS = 30
_LOOP_PERIOD = 100

_AROUND = 60
_LEAST_UNMARKED = 0.8
_MOST_WRONGLY_MARKED = 100

_NEEDLE_GRAM = 4
_LEAST_NEEDLE = 8
_NEEDLE_SHARE = 0.6
_LONG_NEEDLE = 12
_SPREAD = 3
"""Letters that a needle may be spread over, in its own length."""

_NEEDLES = ("text", "before", "after", "cell")


def key(text: str) -> str:
    """Letters and digits in lower case, without tags: what is comparable across markup."""
    return _NOT_TEXT.sub("", TAG.sub(" ", text).lower())


def letters(text: str) -> str:
    """`key` without accents, look-alike letters as Latin ones: for what should not be there."""
    return key(skeleton(text))


@dataclass(frozen=True)
class Said:
    """How much is said and how much of it is repeated, where there is no reference to compare."""

    texts: tuple[str, ...]
    """`key` of each independent piece (one for a body, several for test needles)."""

    @classmethod
    def of_body(cls, body: str) -> Said:
        """What a transcription says, in the plain form of its letters."""
        return cls((key(fold(body)),))

    @classmethod
    def of_tests(cls, tests: Iterable[dict[str, Any]]) -> Said:
        """What the positive tests of a page look for."""
        wanted = [t for t in tests if t.get("type") != "absent"]
        needles = [str(t[name]) for t in wanted for name in _NEEDLES if t.get(name)]
        return cls(tuple(key(fold(needle)) for needle in needles))

    @cached_property
    def length(self) -> int:
        """Letters and digits in all pieces."""
        return sum(map(len, self.texts))

    @cached_property
    def grams(self) -> frozenset[str]:
        """Distinct 5-grams; a piece shorter than 5 is one gram."""
        return frozenset(grams(self.texts, _GRAM))

    @cached_property
    def repeats(self) -> bool:
        """Whether passages recur that make up 30 % of what is said once; filler does not help."""
        counts = Counter(grams(self.texts, _LONG_GRAM))
        twice = counts.total() - len(counts)
        # 200 are a passage, however much else is said
        once = sum(count == 1 for count in counts.values()) if twice < 200 else 0
        return twice > _MOST_REPEATED * max(1, once) and twice > _GRAM


def grams(texts: Sequence[str], size: int) -> Iterable[str]:
    """All runs of `size` characters; of a shorter text, itself."""
    for text in texts:
        for start in range(max(1, len(text) - size + 1) if text else 0):
            yield text[start : start + size]


# -- with a reference


def has_read(claims: Claims) -> bool:
    """Whether a completion shows that the page was read at all; always true for a blank page."""
    return claims.share >= LEAST_SHARE


def runs_on(claims: Claims, hidden: int) -> bool:
    """Whether a completion adds much to the page, hidden letters included."""
    return claims.added + hidden > _MOST_FOREIGN * len(claims.truth.key) + _FOREIGN_SLACK


def foreign_has(needle: str, claims: Claims) -> bool:
    """Whether foreign text has most of a needle, in one piece or several, or reversed."""
    wanted, there = letters(needle), letters(claims.foreign_text)
    return len(wanted) >= _LEAST_NEEDLE and (
        _has_pieces(wanted, there) or _has_pieces(wanted[::-1], there)
    )


def _has_pieces(wanted: str, there: str) -> bool:
    if len(there) < _NEEDLE_SHARE * len(wanted):
        return False
    pieces = list(grams((wanted,), _NEEDLE_GRAM))
    return sum(piece in there for piece in pieces) >= _NEEDLE_SHARE * len(pieces)


def spells_out(needle: str, there: str) -> bool:
    """Whether `letters` of a text have most of a long needle within few words, or reversed."""
    wanted = letters(needle)
    if len(wanted) < _LONG_NEEDLE:
        return False
    width = _SPREAD * len(wanted)
    for word in (wanted, wanted[::-1]):
        starts = range(0, max(1, len(there) - width // 2), width // 2)
        if _has_pieces(word, there) and any(
            _has_pieces(word, there[at : at + width]) for at in starts
        ):
            return True
    return False


def loops(text: str) -> bool:
    """Whether something of up to 100 letters is repeated more than 30 times in a row."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    for period in range(1, min(_LOOP_PERIOD, len(codes) // (_LOOP_REPEATS + 1)) + 1):
        differs = np.flatnonzero(codes[period:] != codes[:-period])
        edges = np.concatenate(([-1], differs, [len(codes) - period]))
        if np.diff(edges).max() - 1 >= _LOOP_REPEATS * period:
            return True
    return False


@dataclass(frozen=True)
class Marks:
    """Which letters a text sets as heading, bold or italic."""

    lettered: Lettered
    spans: tuple[tuple[int, int], ...]
    """Start and end of the marked pieces, in letters."""

    @classmethod
    def of(cls, lettered: Lettered, spans: Iterable[tuple[int, int]]) -> Marks:
        """From spans in the text."""
        found = [tuple(np.searchsorted(lettered.places, span).tolist()) for span in spans]
        return cls(lettered, tuple((start, end) for start, end in found if end > start))

    @cached_property
    def marked(self) -> Bools:
        """[letters] inside a piece."""
        flags = np.zeros(len(self.lettered.key), np.bool_)
        for start, end in self.spans:
            flags[start:end] = True
        return flags


def marks_too_much(said: Marks, truth: Marks, needle: str, claims: Claims) -> bool:
    """Whether a completion marks what the truth does not, around a mark or in many places.

    Or in as many as it marks what the truth does: of two places one may be a guess. What is missing
    around the mark counts as wrong, too: leaving out what is wrongly marked must not pay.
    """
    plain = ~truth.marked
    source = claims.source
    if _guesses(said, truth, claims):
        return True
    claimed_marked = source[(source >= 0) & said.marked]
    wrong = np.zeros(len(plain), np.bool_)
    wrong[claimed_marked] = True
    wrong &= plain
    if wrong.sum() > max(_MOST_WRONGLY_MARKED, 2 * truth.marked.sum()):
        return True
    shown = claims.covered & ~wrong & ~claims.contested
    places = np.flatnonzero(plain)
    wanted = Lettered.of(needle).key
    for start, end in truth.spans:
        if wanted and wanted not in truth.lettered.key[start:end]:
            continue
        before, after = np.searchsorted(places, (start, end))
        around = places[max(0, before - _AROUND) : after + _AROUND]
        if not len(around) or shown[around].mean() >= _LEAST_UNMARKED:
            return False
    return True


def _guesses(said: Marks, truth: Marks, claims: Claims) -> bool:
    """Whether at least half of the marked pieces of the page are not marked in the truth."""
    balance = 0
    for start, end in said.spans:
        there = claims.source[start:end]
        there = there[there >= 0]
        if len(there):
            balance += 1 if 2 * np.count_nonzero(truth.marked[there]) >= len(there) else -1
    return balance < 1


# -- without


def has_read_some(said: Said, known: Said) -> bool:
    """As `has_read`, from what the tests look for."""
    if not known.texts:
        return said.length >= _LEAST_LETTERS
    if not known.grams:
        return True
    return len(said.grams & known.grams) >= LEAST_SHARE * len(known.grams)


def marks_most(pieces: Iterable[str], said: Said, most: float) -> bool:
    """Whether more than a share of a text is inside the given (heading, bold or italic) pieces."""
    return sum(len(key(piece)) for piece in pieces) > most * max(1, said.length)
