"""Whether the blocks of the page are read in the order of the reference."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

from olmrl.rewards.body import AgainstBody, body_of
from olmrl.rewards.words import words_of
from olmrl.types import RewardResult

_BREAK = re.compile(r"\n[ \t]*(?:\n[ \t]*)+|\n(?=#{1,6} )|^(#{1,6} [^\n]*)\n", re.MULTILINE)
_ALIKE = 0.7
"""Least share of words, in order, that a reading of a block has in common with it."""
_RESEMBLES = 0.4
"""The same of a bad reading."""
_OWN_WORDS = 0.9
"""Share of a block's words from which they are all those of another one."""
_INVENTED = 2
"""Weight of a word that the reference does not have, or not as often."""
_MOST_BLOCKS = 5000
_FIRST_SYMBOL = 0xE000
"""Words become characters from here on, so that whole blocks are compared as strings."""


@dataclass(frozen=True)
class ReadingOrder(AgainstBody):
    """2N / (words of the reference + N + 2 x invented words), N in order; 0..1.

    N is the number of words in the longest sequence of the reference's blocks that the completion
    reads in the same order (its heaviest increasing subsequence). A block that is missing, out of
    order, or read more often than it is on the page does not count, and one of which another block
    is a second, worse reading counts as if it were not there. N is at most the reference's words
    less those that stand for others (`_astray`). Definition and sources:
    docs/formats.md#reading-order. Parts: `found`, the share of the reference that is read as often
    as it should be, and `in_order`, the share of that which is in order.
    """

    compat: bool = False
    """Worse readings of a block do not matter; score 0 on a page without a reference, instead of
    leaving the reward out."""

    def lacking(self, reference: str) -> str:
        """Needs a reference with at least two blocks."""
        return "" if len(_blocks(reference)) > 1 else "the reference has fewer than two blocks"

    def judge(self, text: str, reference: str) -> RewardResult:
        """Score one text."""
        mine, true = _blocks(text), _blocks(reference)
        if not mine or len(mine) > _MOST_BLOCKS:
            return RewardResult(0.0)
        mine_strings, true_strings = _as_strings(mine, true)
        similarity_MN = _similarity(mine_strings, true_strings)
        excess = _count(mine) - _count(true)
        if excess and not self.compat:
            similarity_MN = _without_second_readings(similarity_MN, mine, true, excess)
        reads_MN = similarity_MN >= _ALIKE
        allowed_N = (_similarity(true_strings, true_strings) >= _ALIKE).sum(axis=0)
        reads_MN &= reads_MN.sum(axis=0) <= allowed_N
        astray = 0
        if not self.compat:
            twice_N = _misread(similarity_MN, reads_MN, *map(_lengths, (mine, true)))
            kept_M = ~(reads_MN & twice_N).any(axis=1)
            mine = [block for block, kept in zip(mine, kept_M, strict=True) if kept]
            reads_MN = reads_MN[kept_M] & ~twice_N
            parts_M = [any(piece in other for other in true_strings) for piece in mine_strings]
            alike_M = (similarity_MN >= _ALIKE).any(axis=1) | np.asarray(parts_M)
            astray = _astray(mine, true, alike_M[kept_M])
        sizes = np.asarray([len(block) for block in true])
        found = int(sizes[reads_MN.any(axis=0)].sum())
        invented = (_count(mine) - _count(true)).total()
        total = int(sizes.sum())
        in_order = min(heaviest_in_order(reads_MN, sizes), max(0, total - astray))
        parts = {"found": found / total, "in_order": in_order / found if found else 0.0}
        return RewardResult(2 * in_order / (total + in_order + _INVENTED * invented), parts)


def _blocks(text: str) -> list[tuple[str, ...]]:
    """The words of each block: paragraphs between blank lines, and headings."""
    pieces = _BREAK.split(body_of(text).text)
    return [words for piece in pieces if piece and (words := words_of(piece))]


def _count(blocks: Sequence[Sequence[str]]) -> Counter[str]:
    return Counter(word for block in blocks for word in block)


def _as_strings(*sides: Sequence[Sequence[str]]) -> tuple[list[str], ...]:
    """Each block as a string with one character for each word."""
    words = dict.fromkeys(word for side in sides for block in side for word in block)
    symbols = {word: chr(_FIRST_SYMBOL + number) for number, word in enumerate(words)}
    return tuple(["".join(symbols[word] for word in block) for block in side] for side in sides)


def _lengths(blocks: Sequence[Sequence[str]]) -> np.ndarray:
    return np.asarray([len(block) for block in blocks])


def _similarity(mine: Sequence[str], true: Sequence[str]) -> np.ndarray:
    """[M, N] share of the words of two blocks that they have in common, in order; 0 if it is low.

    Rounded up, so that exactly `_ALIKE` is not less.
    """
    scores = cdist(mine, true, scorer=Indel.normalized_similarity, score_cutoff=_RESEMBLES)
    return scores.astype(np.float64) + 1e-6


def _without_second_readings(
    similarity_MN: np.ndarray,
    mine: Sequence[tuple[str, ...]],
    true: Sequence[tuple[str, ...]],
    excess: Counter[str],
) -> np.ndarray:
    """The similarities if each invented word stands for one of the reference's block.

    A word that was read as another one is no less so with the right one beside it.

    Args:
        similarity_MN: of the blocks, by the words that they have in common.
        mine: blocks of the completion.
        true: blocks of the reference.
        excess: words that the reference has not, or not as often.
    """

    @cache
    def most(block: tuple[str, ...], other: tuple[str, ...]) -> float:
        invented = ((Counter(block) - Counter(other)) & excess).total()
        return 2 * max(0, len(other) - invented) / (len(block) + len(other)) + 1e-6

    similarity_MN = similarity_MN.copy()
    for m in np.flatnonzero([not excess.keys().isdisjoint(block) for block in mine]):
        for n in np.flatnonzero(similarity_MN[m] >= _RESEMBLES):
            similarity_MN[m, n] = min(similarity_MN[m, n], most(mine[m], true[n]))
    return similarity_MN


def _astray(
    mine: Sequence[tuple[str, ...]], true: Sequence[tuple[str, ...]], alike_M: np.ndarray
) -> int:
    """Number of words that stand for others of the reference, whether these are there or not.

    All words of blocks that are no reading or part of one, and of the others those that are
    invented.
    """
    others = [block for block, alike in zip(mine, alike_M, strict=True) if alike]
    lost = sum(map(len, mine)) - sum(map(len, others))
    return int(lost + (_count(others) - _count(true)).total())


def _misread(
    similarity_MN: np.ndarray, reads_MN: np.ndarray, mine_M: np.ndarray, true_N: np.ndarray
) -> np.ndarray:
    """[N] whether a block of the reference has another reading, too bad to be counted as one.

    That is a block that reads none, resembles this one most, rather one that nobody reads, and has
    words of its own: a part of a block that was divided has none.
    """
    found_N = np.zeros(len(true_N), bool)
    read_N = reads_MN.any(axis=0)
    for m in np.flatnonzero(~(similarity_MN >= _ALIKE).any(axis=1)):
        n = int(np.argmax(similarity_MN[m] - 1e-3 * read_N))
        shared = similarity_MN[m, n] * (mine_M[m] + true_N[n]) / 2
        if similarity_MN[m, n] >= _RESEMBLES and shared < _OWN_WORDS * mine_M[m]:
            found_N[n] = True
    return found_N


def heaviest_in_order(reads_MN: np.ndarray, sizes_N: np.ndarray) -> int:
    """Largest total size of blocks that are read in order, each by a block of its own.

    Args:
        reads_MN: whether block m of the completion is a reading of block n of the reference.
        sizes_N: size of each block of the reference.
    """
    best = np.zeros(len(sizes_N) + 1, np.int64)  # over the first n blocks of the reference
    for reads_N in reads_MN:
        taken = np.where(reads_N, best[:-1] + sizes_N, 0)
        best[1:] = np.maximum.accumulate(np.maximum(best[1:], taken))
    return int(best[-1])
