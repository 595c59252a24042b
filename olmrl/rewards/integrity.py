"""What a completion must show before tests that are easy to pass count for it.

Each unit test looks at one thing, so some can be passed without reading the page: `absent` by
saying little or nothing, `order` by saying everything twice, `format` by marking everything,
`baseline` by a loop longer than five characters. In training, such a test counts as passed only if

| test type | the completion also |
|---|---|
| absent | has at least 10 % of the truth's letter 5-grams, so it has read the page |
| order, baseline | is not much longer than the truth, and does not repeat passages much more |
| format | marks at most half of its text, or twice the truth's share, in that way |

Unrelated text three times as long as the truth has 3 % of its 5-grams (median of 30 pages); a
transcription with 30 % wrong letters has 17 % or more. The truth itself meets all conditions.
Without a reference text, what the page's positive tests look for takes its place, and the length
rule does not apply.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_TAG = re.compile(r"<[^<>]{0,2000}>")
_NOT_TEXT = re.compile(r"[\W_]+")

_GRAM = 5
_LEAST_COVERAGE = 0.1
_LEAST_LETTERS = 20
"""Letters that count as having read the page if nothing is known about the truth."""

_LONG_GRAM = 12
_MORE_REPEATED = 0.3
_LONGEST = 1.6
_LONGEST_SLACK = 50
_MOST_MARKED = 0.5

_NEEDLES = ("text", "before", "after", "cell")


def key(text: str) -> str:
    """Letters and digits in lower case, without tags: what is comparable across markup."""
    composed = text if text.isascii() else unicodedata.normalize("NFC", text)
    return _NOT_TEXT.sub("", _TAG.sub(" ", composed).lower())


@dataclass(frozen=True)
class Said:
    """How much a text says, and how much of it is repeated."""

    texts: tuple[str, ...]
    """`key` of each independent piece (one for a body, several for test needles)."""

    @classmethod
    def of_body(cls, body: str) -> Said:
        """What a transcription says."""
        return cls((key(body),))

    @classmethod
    def of_tests(cls, tests: Iterable[dict[str, Any]]) -> Said:
        """What the positive tests of a page look for, if there is no reference."""
        wanted = [t for t in tests if t.get("type") != "absent"]
        needles = [str(t[name]) for t in wanted for name in _NEEDLES if t.get(name)]
        return cls(tuple(key(needle) for needle in needles))

    @cached_property
    def length(self) -> int:
        """Letters and digits in all pieces."""
        return sum(map(len, self.texts))

    @cached_property
    def grams(self) -> frozenset[str]:
        """Distinct 5-grams; a piece shorter than 5 is one gram."""
        return frozenset(_grams(self.texts, _GRAM))

    @cached_property
    def repeated(self) -> float:
        """Share of 12-grams that occurred before, 0..1; a text given twice has one half."""
        grams = list(_grams(self.texts, _LONG_GRAM))
        return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def _grams(texts: Sequence[str], size: int) -> Iterable[str]:
    for text in texts:
        for start in range(max(1, len(text) - size + 1) if text else 0):
            yield text[start : start + size]


def has_read(said: Said, truth: Said) -> bool:
    """Whether a completion shows that the page was read at all; always true for a blank page."""
    if not truth.texts:
        return said.length >= _LEAST_LETTERS
    if not truth.grams:
        return True
    return len(said.grams & truth.grams) >= _LEAST_COVERAGE * len(truth.grams)


def runs_on(said: Said, truth: Said, whole: bool) -> bool:
    """Whether a completion says much more than the truth, or repeats itself much more.

    Args:
        said: The completion.
        truth: The truth, or what is known about it.
        whole: `truth` is a complete reference text, so lengths can be compared.
    """
    if whole and said.length > _LONGEST * truth.length + _LONGEST_SLACK:
        return True
    return said.repeated > (truth.repeated if whole else 0.0) + _MORE_REPEATED


def marked_share(pieces: Iterable[str], said: Said) -> float:
    """Share of a text that is inside the given (heading, bold or italic) pieces, 0..1."""
    return min(1.0, sum(len(key(piece)) for piece in pieces) / max(1, said.length))


def marks_too_much(share: float, truth_share: float) -> bool:
    """Whether a completion marks most of its text in a way that the truth does not."""
    return share > max(_MOST_MARKED, 2 * truth_share)
