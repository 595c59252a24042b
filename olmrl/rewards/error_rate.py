"""Character and word error rate against the reference, as a reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rapidfuzz.distance import Levenshtein

from olmrl.rewards.body import AgainstBody, body_of
from olmrl.rewards.word_alignment import Unit, alignment_cost, word_cost
from olmrl.rewards.words import words_of
from olmrl.types import Page, RewardResult


@dataclass(frozen=True)
class ErrorRate(AgainstBody):
    """1 - edits / length of the reference, at least 0.

    Both sides without front matter and markup (`words.plain_text`). Edits are counted between words
    that stand for each other (`word_alignment`): there k words for j others cost the larger number,
    so that filler is no better than a gap and a second reading is one addition more. In characters
    an added word costs as much as the longest one beside it; the part `as_read` leaves that out.
    Definition and sources: docs/formats.md#cer-and-wer.
    """

    unit: ClassVar[Unit]

    compat: bool = False
    """Plain Levenshtein distance, under which filler and second readings can pay; score 0 on a page
    without a reference, instead of leaving the reward out."""

    def lacking(self, reference: str) -> str:
        """Needs a reference with text."""
        return "" if _words(reference) else "the reference has no text"

    def compare(self, page: Page, text: str, reference: str) -> RewardResult:
        """Score one text of a page."""
        mine, true = _words(text), _words(reference)
        if self.compat:
            return RewardResult(max(0.0, 1.0 - self._plain(mine, true)))
        if self._size(mine) >= 2 * self._size(true):  # more invented words than there are words
            return RewardResult(0.0, {"as_read": 0.0})
        flags = (False, True) if self.unit == "character" else (False,)  # both say the same
        costs = [alignment_cost(mine, true, self.unit, as_read=flag) for flag in flags]
        value, as_read = (max(0.0, 1.0 - costs[k] / self._size(true)) for k in (0, -1))
        return RewardResult(value, {"as_read": as_read})

    def _size(self, words: tuple[str, ...]) -> int:
        """Length in words, or in characters with a space between words."""
        total = sum(word_cost(word, self.unit) for word in words)
        return total - 1 if self.unit == "character" and words else total

    def _plain(self, mine: tuple[str, ...], true: tuple[str, ...]) -> float:
        if self.unit == "character":
            return Levenshtein.distance(" ".join(mine), " ".join(true)) / self._size(true)
        return Levenshtein.distance(mine, true) / self._size(true)


def _words(text: str) -> tuple[str, ...]:
    return words_of(body_of(text).text)


@dataclass(frozen=True)
class Cer(ErrorRate):
    """1 - character error rate; see `ErrorRate`."""

    unit: ClassVar[Unit] = "character"


@dataclass(frozen=True)
class Wer(ErrorRate):
    """1 - word error rate; see `ErrorRate`."""

    unit: ClassVar[Unit] = "word"
