"""Character and word error rate against the reference, as a reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rapidfuzz.distance import Levenshtein

from olmrl.rewards.body import AgainstBody, body_of
from olmrl.rewards.word_alignment import Unit, alignment_cost, word_cost
from olmrl.rewards.words import words_of
from olmrl.types import RewardResult


@dataclass(frozen=True)
class ErrorRate(AgainstBody):
    """1 - edits / length of the reference, at least 0.

    Both sides without front matter and markup (`words.plain_text`). Edits are counted along an
    alignment of words in which no passage stands for another one (`word_alignment`), so that filler
    is no better than a gap. Definition and sources: docs/formats.md#cer-and-wer.
    """

    unit: ClassVar[Unit]

    compat: bool = False
    """Plain Levenshtein distance, under which filler can pay; score 0 on a page without a
    reference, instead of leaving the reward out."""

    def lacking(self, reference: str) -> str:
        """Needs a reference with text."""
        return "" if _words(reference) else "the reference has no text"

    def judge(self, text: str, reference: str) -> RewardResult:
        """Score one text."""
        mine, true = _words(text), _words(reference)
        if self.compat:
            return RewardResult(max(0.0, 1.0 - self._plain(mine, true)))
        mine_size, true_size = self._size(mine), self._size(true)
        if mine_size >= 2 * true_size:  # more invented words than the reference has
            return RewardResult(0.0)
        return RewardResult(max(0.0, 1.0 - alignment_cost(mine, true, self.unit) / true_size))

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
