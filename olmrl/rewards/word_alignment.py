"""What it costs to turn the words of a completion into those of the reference.

A word stands for one of the reference if it claims most of its letters (`alignment`,
`misreadings`) and is like it. Of such pairs the heaviest sequence in order is kept. What lies
between two pairs is a *gap*: k words of the completion for j of the reference, and costs what the
costlier side does. That is Levenshtein's price for passages that have nothing in common, with one
difference: in gaps of more than a few words, those that agree by accident are no pairs. Hence

- filler in place of a missing passage costs what silence does, or more if it is longer;
- an added passage costs its own words, whatever it says;
- a second reading pays nothing. Say k words were read as j others, and the right j are added beside
  them. Before, the gap cost the larger of k and j; afterwards k words stand for none, and cost k.
  What can be won is j - k, where that is positive: words that nobody read before.

Counted in characters the last does not follow, since k short words may be a wrong reading of k long
ones. So a gap with e words more than the reference has there costs at least what it would if it
stood for e words beside it as well, the longest e in a row. That is the least price which no right
reading beside a wrong one can beat, and bounds what an addition costs: never more than the same
number of words misread at that place.

Shape letters: M words of the completion, N of the reference.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

from olmrl.rewards import misreadings
from olmrl.rewards.alignment import Alignment
from olmrl.rewards.lettered import SLIP, Ints, Lettered

Unit = Literal["word", "character"]
Words = tuple[str, ...]
Pair = tuple[int, int]
Gap = tuple[slice, slice]
_MOST_DIFFERENT = 1 / 3
"""Share of the letters of the longer one in which words, or passages, may differ and be alike."""
_FEW = 3
"""Words of the reference in a gap that are compared one by one."""


def alignment_cost(mine: Words, true: Words, unit: Unit, *, as_read: bool = False) -> int:
    """Cost in words, or in characters with the space after each word.

    Args:
        mine: words of the completion.
        true: words of the reference.
        unit: what is counted.
        as_read: leave out what a gap costs because it may be a reading of words beside it.
    """
    if mine == true:
        return 0
    pairs = paired_words(mine, true, unit)
    cost = 0
    if unit == "word":
        cost += sum(mine[m] != true[n] for m, n in pairs)
        return cost + sum(max(_length(a), _length(b)) for a, b in _gaps(pairs, mine, true))
    cost += sum(Levenshtein.distance(mine[m], true[n]) for m, n in pairs)
    sizes_N = np.array([len(word) + 1 for word in true], np.int64)
    starts_N = np.concatenate(([0], np.cumsum(sizes_N)))
    for said, there in _gaps(pairs, mine, true):
        here, missing = mine[said], true[there]
        if len(here) != len(missing) and _is_like("".join(here), "".join(missing)):
            cost += Levenshtein.distance(" ".join(here), " ".join(missing))  # joined, or divided
            continue
        more = 0 if as_read else max(0, len(here) - len(missing))
        cost += max(_size(here), _most_beside(starts_N, there, more))
    return cost


def word_cost(word: str, unit: Unit) -> int:
    """Cost of an invented or a missing word."""
    return 1 if unit == "word" else len(word) + 1


def paired_words(mine: Words, true: Words, unit: Unit) -> tuple[Pair, ...]:
    """Words that stand for one of the reference: numbers of both, in order of both."""
    found = [(m, n, word_cost(true[n], unit)) for m, n in _claiming(mine, true)]
    return _with_equal_words(_heaviest_in_order(found), mine, true)


@lru_cache(maxsize=64)
def _claiming(mine: Words, true: Words) -> tuple[Pair, ...]:
    """Words and those that they are a reading of, in order of the first; cached for both units."""
    said, truth = Lettered.of(" ".join(mine)), _lettered(true)
    aligned = Alignment(said, truth)
    aligned.claim_equal()
    misreadings.read_gaps(aligned)
    letters = np.flatnonzero(aligned.source >= 0)
    mine_at, true_at = _word_numbers(said, mine), _word_numbers(truth, true)
    mine_M, true_N = (np.bincount(at) for at in (mine_at, true_at))
    both = mine_at[letters] * len(true) + true_at[aligned.source[letters]]
    found = []
    for place, count in zip(*np.unique(both, return_counts=True), strict=True):
        m, n = divmod(int(place), len(true))
        if 2 * count > max(mine_M[m], true_N[n]) and _is_like(mine[m], true[n]):
            found.append((m, n))
    return tuple(found)


@lru_cache(maxsize=32)
def _lettered(words: Words) -> Lettered:
    return Lettered.of(" ".join(words))


def _word_numbers(lettered: Lettered, words: Words) -> Ints:
    """[letters] number of the word of each letter."""
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])
    return np.searchsorted(starts, lettered.places, "right") - 1


def _is_like(mine: str, true: str) -> bool:
    """Whether one text may be a reading of another one.

    More letters than a slip has may be another reading, glued to it.
    """
    if mine == true:
        return True
    most = int(_MOST_DIFFERENT * max(len(mine), len(true)))
    if len(mine) > len(true) + SLIP:
        return False
    return Levenshtein.distance(mine, true, score_cutoff=most) <= most


def _heaviest_in_order(found: Sequence[tuple[int, int, int]]) -> list[Pair]:
    """Of pairs (m, n, weight) in order of m those whose n rise and weigh most together."""
    ends: list[int] = []  # n of the last pair of sequences, rising, and so are their weights
    totals: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for number, (_, n, weight) in enumerate(found):
        at = bisect_left(ends, n)
        total = weight + (totals[at - 1] if at else 0)
        before.append(last[at - 1] if at else -1)
        if at and totals[at - 1] >= total:
            continue
        stop = at
        while stop < len(ends) and totals[stop] <= total:
            stop += 1
        ends[at:stop], totals[at:stop], last[at:stop] = [n], [total], [number]
    pairs: list[Pair] = []
    number = last[-1] if last else -1
    while number >= 0:
        pairs.append(found[number][:2])
        number = before[number]
    return pairs[::-1]


def _with_equal_words(pairs: list[Pair], mine: Words, true: Words) -> tuple[Pair, ...]:
    """Pairs, and equal words of the gaps between them that no accident can explain.

    Those at the edges of a gap (signs have no letters), and those for a few words of the reference.
    """
    made: list[Pair] = []
    ends = [*pairs, (len(mine), len(true))]
    for (said, there), end in zip(_all_gaps(pairs, mine, true), ends, strict=True):
        a, b = said.start, there.start
        same = Levenshtein.opcodes(mine[said], true[there]) if _length(there) else ()
        few = _length(there) <= _FEW
        for op in same:
            at_edge = op.src_start == op.dest_start == 0 or (
                (op.src_end, op.dest_end) == (_length(said), _length(there))
            )
            if op.tag == "equal" and (few or at_edge):
                size = op.src_end - op.src_start
                made += [(a + op.src_start + k, b + op.dest_start + k) for k in range(size)]
        made.append(end)
    return tuple(made[:-1])


def _all_gaps(pairs: Sequence[Pair], mine: Words, true: Words) -> Iterator[Gap]:
    """What lies before each pair, and after the last one."""
    a = b = 0
    for m, n in (*pairs, (len(mine), len(true))):
        yield slice(a, m), slice(b, n)
        a, b = m + 1, n + 1


def _gaps(pairs: Sequence[Pair], mine: Words, true: Words) -> Iterator[Gap]:
    """The gaps that hold a word."""
    return ((a, b) for a, b in _all_gaps(pairs, mine, true) if _length(a) or _length(b))


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _size(words: Words) -> int:
    return sum(map(len, words)) + len(words)


def _most_beside(starts_N: Ints, there: slice, more: int) -> int:
    """Characters of a gap's words in the reference and of so many words beside them, the most."""
    first = np.arange(max(0, there.start - more), there.start + 1)
    last = np.minimum(first + _length(there) + more, len(starts_N) - 1)
    return int((starts_N[last] - starts_N[first]).max())
