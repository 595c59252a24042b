"""The cheapest way to turn the words of a completion into those of the reference.

Like the Levenshtein alignment, except that a passage cannot stand for another one. Letters and
words of an invented passage agree with a missing one by accident, so by plain Levenshtein distance
any filler is better than a gap. Here a word only stands for another one if

- they are alike (at most a third of the letters of the longer one differ), or
- it is alone: right before and right after it stand pairs that are alike, or an end; or
- one of them is exactly two neighbours of the other side, written together.

Any other word is invented (it costs what deleting it costs) or missing. A word that is like no word
of the reference therefore never lowers the cost: without it, the pair it was in becomes a missing
word at the same cost or less.

A word of the reference that the completion gives in several readings costs as much as if it were
missing, whichever of them stands for it: a second reading must not pay.

Shape letters: M words of the completion, N of the reference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from olmrl.types import Float64Array

Unit = Literal["word", "character"]
_MOST_DIFFERENT = 1 / 3
_DOUBTFUL = "\0"
"""Stands before a word of the reference that is given in several readings; in no text."""


@dataclass(frozen=True)
class _Sides:
    """Both lists of words and what pairs of them cost."""

    mine: tuple[str, ...]
    true: tuple[str, ...]
    """Of a word in several readings `_DOUBTFUL`, and the word."""
    mine_cost_M: Float64Array
    """Of an invented word."""
    true_cost_N: Float64Array
    """Of a missing word."""
    alike: Float64Array
    """Cost by numbers of distinct words; infinite unless they are alike."""
    mine_at: np.ndarray
    """[M] number of each word among the distinct ones."""
    true_at: np.ndarray
    """[N] the same for the reference."""


def alignment_cost(
    mine: Sequence[str], true: Sequence[str], unit: Unit, doubtful: Sequence[bool] = ()
) -> float:
    """Cost of the cheapest alignment, in words, or in characters with the space after each word.

    Args:
        mine: words of the completion.
        true: words of the reference.
        unit: what is counted.
        doubtful: whether each word of the reference is given in several readings; default: none.
    """
    mine, true = tuple(mine), tuple(true)
    if doubtful:
        marked = zip(true, doubtful, strict=True)
        true = tuple(_DOUBTFUL + word if several else word for word, several in marked)
    if mine == true:
        return 0.0
    if not mine or not true:
        return float(sum(word_cost(word, unit) for word in (*mine, *true)))
    sides = _sides(mine, true, unit)
    joined = _joined(mine, true) if unit == "character" else {}
    split = _split(mine, true) if unit == "character" else {}
    missing = np.concatenate([[0.0], np.cumsum(sides.true_cost_N)])
    nothing = np.full(len(missing), np.inf)
    # [3, N + 1] of the words so far: after a pair that is alike, after a lone word, in a gap
    now = np.stack([np.where(missing > 0, np.inf, 0.0), nothing, missing])
    before = now
    for m, cost in enumerate(sides.mine_cost_M):
        alike, lone = nothing.copy(), nothing.copy()
        alike[1:] = now.min(axis=0)[:-1] + sides.alike[sides.mine_at[m], sides.true_at]
        lone[1:] = now[0, :-1] + np.maximum(cost, sides.true_cost_N)
        for n in joined.get(m, ()):
            alike[n + 2] = min(alike[n + 2], now[:, n].min() + 1)
        for n in split.get(m, ()):
            alike[n + 1] = min(alike[n + 1], before[:, n].min() + 1)
        gap = np.minimum(np.minimum(now[0], now[2]) + cost, alike)
        gap = np.minimum.accumulate(gap - missing) + missing
        before, now = now, np.stack([alike, lone, gap])
    return float(now[:, -1].min())


def word_cost(word: str, unit: Unit) -> int:
    """Cost of an invented or a missing word."""
    return 1 if unit == "word" else len(word.lstrip(_DOUBTFUL)) + 1


def _sides(mine: tuple[str, ...], true: tuple[str, ...], unit: Unit) -> _Sides:
    mine_words, true_words = list(dict.fromkeys(mine)), list(dict.fromkeys(true))
    bare = [word.lstrip(_DOUBTFUL) for word in true_words]
    distances = cdist(mine_words, bare, scorer=Levenshtein.distance, dtype=np.int32)
    lengths = np.maximum(
        np.asarray([len(word) for word in mine_words])[:, None],
        np.asarray([len(word) for word in bare])[None],
    )
    price = distances if unit == "character" else np.minimum(distances, 1)
    doubtful = np.asarray([word.startswith(_DOUBTFUL) for word in true_words])
    price = np.where(doubtful, [word_cost(word, unit) for word in bare], price)
    alike = np.where(distances <= _MOST_DIFFERENT * lengths, price, np.inf)
    mine_at = {word: number for number, word in enumerate(mine_words)}
    true_at = {word: number for number, word in enumerate(true_words)}
    return _Sides(
        mine,
        true,
        np.asarray([word_cost(word, unit) for word in mine], np.float64),
        np.asarray([word_cost(word, unit) for word in true], np.float64),
        alike,
        np.asarray([mine_at[word] for word in mine]),
        np.asarray([true_at[word] for word in true]),
    )


def _joined(mine: Sequence[str], true: Sequence[str]) -> Mapping[int, list[int]]:
    """Where a word of the completion is words n and n + 1 of the reference."""
    pairs = _neighbours(true)
    return {m: pairs[word] for m, word in enumerate(mine) if word in pairs}


def _split(mine: Sequence[str], true: Sequence[str]) -> Mapping[int, list[int]]:
    """Where words m - 1 and m of the completion are one word of the reference."""
    pairs = _neighbours(mine)
    found = defaultdict(list)
    for n, word in enumerate(true):
        for m in pairs.get(word, ()):
            found[m + 1].append(n)
    return found


def _neighbours(words: Sequence[str]) -> dict[str, list[int]]:
    pairs = defaultdict(list)
    for place in range(len(words) - 1):
        pairs[words[place] + words[place + 1]].append(place)
    return pairs
