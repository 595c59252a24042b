"""What it costs to turn the words of a completion into those of the reference.

A word stands for one of the reference if it claims most of its letters (`alignment`,
`misreadings`) and is like it. Of such pairs a sequence in order is kept, the cheapest. The other
words that claim one are *moved*: missing where they should be, and left out where they are. What
lies between two pairs is a *gap*: k words that claim none, for j of the reference, and costs what
the costlier side does. That is Levenshtein's price for passages that have nothing in common, with
two differences: in gaps of more than a few words, those that agree by accident are no pairs, and a
passage out of order costs once what it is. Hence

- filler in place of a missing passage costs what silence does, or more if it is longer;
- an added passage costs its own words, whatever it says; so does a second copy, as each word of the
  reference is claimed once, also where something is missing: no copy is a misreading of that;
- leaving out a word that claims one never pays: every sequence without it costs what it did;
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

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
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
_TELLING = 5
_TELLING_TEXT = 8
"""Characters of a word, and of several, that are rarely in two places by accident."""
_NEVER = 2**62


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
    copies = _copies(mine, true)
    mine_M, pairs = _read_in_order(mine, true, unit, as_read)
    starts_N = _sums(word_cost(word, unit) for word in true)
    cost = _size([mine[m] for m in copies], unit)
    mine = tuple(mine[m] for m in mine_M)
    cost += sum(_pair_cost(mine[m], true[n], unit) for m, n in pairs)
    for said, there in _gaps(pairs, mine, true):
        here, missing = mine[said], true[there]
        if unit == "character" and _is_joined(here, missing):
            cost += Levenshtein.distance(" ".join(here), " ".join(missing))
        else:
            count = 0 if as_read else len(here)
            cost += _gap_cost(_size(here, unit), count, there, starts_N)
    return cost


def _gap_cost(size: int, count: int, there: slice, starts_N: Ints) -> int:
    """Cost of so many words, of a size together, in the place of others of the reference.

    More than these they may stand for the words beside them: those that cost most.
    """
    more = max(0, count - _length(there))
    first = np.arange(max(0, there.start - more), there.start + 1)
    last = np.minimum(first + _length(there) + more, len(starts_N) - 1)
    return max(size, int((starts_N[last] - starts_N[first]).max()))


def word_cost(word: str, unit: Unit) -> int:
    """Cost of an invented or a missing word."""
    return 1 if unit == "word" else len(word) + 1


def _read_in_order(
    mine: Words, true: Words, unit: Unit, as_read: bool
) -> tuple[list[int], list[Pair]]:
    """Which words are neither moved nor copies, and which of them stand for one of the reference.

    These as places among the former and numbers of the latter, in order of both.
    """
    claiming, copies = _claiming(mine, true), _copies(mine, true)
    kept = _cheapest_in_order(claiming, mine, true, unit, as_read)
    gone = {m for m, _ in claiming} - {m for m, _ in kept} | copies
    still, pairs = _without(gone, kept, len(mine))
    found = _with_equal_words(pairs, tuple(mine[m] for m in still), true)
    pairs = [(still[m], n) for m, n in found]
    read = {n for _, n in pairs}
    moved = [(m, n) for m, n in claiming if n not in read]
    gone = {m for m, _ in moved} | _strays((*pairs, *moved), mine, true) | copies
    return _without(gone, pairs, len(mine))


def _without(gone: Set[int], pairs: Iterable[Pair], count: int) -> tuple[list[int], list[Pair]]:
    """The numbers of the other words, and the pairs by the places of these."""
    still = [m for m in range(count) if m not in gone]
    place = {m: at for at, m in enumerate(still)}
    return still, [(place[m], n) for m, n in pairs]


@lru_cache(maxsize=64)
def _on_the_page(mine: Words, true: Words) -> frozenset[int]:
    """Words that are of the page, in their place or elsewhere."""
    claiming = _claiming(mine, true)
    return frozenset(m for m, _ in claiming) | _strays(claiming, mine, true)


@lru_cache(maxsize=64)
def _copies(mine: Words, true: Words) -> frozenset[int]:
    """Words that claim none, but are neighbours as they are in the reference: said again."""
    free, known = _on_the_page(mine, true), frozenset(pairwise(true))
    copies: set[int] = set()
    start = 0
    for m in range(1, len(mine) + 1):
        goes_on = m < len(mine) and mine[m - 1 : m + 1] in known and free.isdisjoint((m - 1, m))
        if not goes_on:
            if m - start > 1 and sum(map(len, mine[start:m])) >= _TELLING_TEXT:
                copies.update(range(start, m))
            start = m
    return frozenset(copies)


def _strays(pairs: Iterable[Pair], mine: Words, true: Words) -> set[int]:
    """Telling words that are in no pair, but missing in the reference, as often as they are."""
    said, there = ({pair[side] for pair in pairs} for side in (0, 1))
    missing = Counter(word for n, word in enumerate(true) if n not in there)
    strays = set()
    for m, word in enumerate(mine):
        if m not in said and len(word) >= _TELLING and missing[word] > 0:
            missing[word] -= 1
            strays.add(m)
    return strays


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
    return _with_neighbours(found, mine, true)


def _with_neighbours(found: Sequence[Pair], mine: Words, true: Words) -> tuple[Pair, ...]:
    """Pairs, and equal words next to them in both texts that are in none: signs, for example."""
    there = dict(found)
    read = set(there.values())
    ends = ((-1, -1, 1), (len(mine), len(true), -1))
    for m, n, step in (*ends, *((m, n, step) for m, n in found for step in (1, -1))):
        m, n = m + step, n + step
        while 0 <= m < len(mine) and 0 <= n < len(true) and mine[m] == true[n]:
            if m in there or n in read:
                break
            there[m] = n
            read.add(n)
            m, n = m + step, n + step
    return tuple(sorted(there.items()))


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


@dataclass(frozen=True)
class _Block:
    """Words that stand for as many of the reference, next to each other in both; all are equal, or
    it is a single one."""

    start: int
    origin: int
    length: int
    cost: int


def _blocks(claiming: Sequence[Pair], mine: Words, true: Words, unit: Unit) -> list[_Block]:
    blocks: list[_Block] = []
    for m, n in claiming:
        cost = _pair_cost(mine[m], true[n], unit)
        last = blocks[-1] if blocks else None
        if last and not cost + last.cost and (m, n) == _end(last):
            blocks[-1] = _Block(last.start, last.origin, last.length + 1, 0)
        else:
            blocks.append(_Block(m, n, 1, cost))
    return blocks


def _end(block: _Block) -> Pair:
    return block.start + block.length, block.origin + block.length


def _pair_cost(mine: str, true: str, unit: Unit) -> int:
    return int(mine != true) if unit == "word" else Levenshtein.distance(mine, true)


def _cheapest_in_order(
    claiming: Sequence[Pair], mine: Words, true: Words, unit: Unit, as_read: bool
) -> list[Pair]:
    """Of pairs (m, n) in order of m those whose n rise and which, with the gaps between them, cost
    least. A block is kept or not as a whole: a part of it would only make a gap longer."""
    blocks = _blocks(claiming, mine, true, unit)
    free = _on_the_page(mine, true) | _copies(mine, true)
    sizes_M = _sums(0 if m in free else word_cost(w, unit) for m, w in enumerate(mine))
    counts_M = _sums(int(m not in free and not as_read) for m in range(len(mine)))
    starts_N = _sums(word_cost(word, unit) for word in true)
    ends = [(0, 0), *map(_end, blocks)]
    end_M, end_N = np.array(ends, np.int64).T
    least, kept = np.zeros((2, len(ends)), np.int64)  # of sequences by their last block
    before: list[int] = []
    for number, block in enumerate((*blocks, _Block(len(mine), len(true), 0, 0)), 1):
        m, n = end_M[:number], end_N[:number]
        sizes, counts = sizes_M[block.start] - sizes_M[m], counts_M[block.start] - counts_M[m]
        bounds = least[:number] + np.maximum(sizes, starts_N[block.origin] - starts_N[n])
        bounds[n > block.origin] = _NEVER
        best, cost = 0, _NEVER
        for at in np.lexsort((-kept[:number], bounds)):  # of equal ones that which keeps most
            if bounds[at] >= cost:
                break
            gap = slice(ends[at][1], block.origin)
            exact = int(least[at]) + _gap_cost(int(sizes[at]), int(counts[at]), gap, starts_N)
            if exact < cost:
                best, cost = int(at), exact
        before.append(best)
        if number < len(ends):
            least[number] = cost + block.cost
            kept[number] = kept[best] + block.length
    sequence: list[_Block] = []
    number = before[-1]
    while number:
        sequence.append(blocks[number - 1])
        number = before[number - 1]
    return [(b.start + k, b.origin + k) for b in sequence[::-1] for k in range(b.length)]


def _sums(sizes: Iterable[int]) -> Ints:
    return np.concatenate(([0], np.cumsum(np.fromiter(sizes, np.int64))))


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


def _size(words: Iterable[str], unit: Unit) -> int:
    return sum(word_cost(word, unit) for word in words)


def _is_joined(here: Words, missing: Words) -> bool:
    """Whether words are those of the reference, joined or divided."""
    return len(here) != len(missing) and _is_like("".join(here), "".join(missing))
