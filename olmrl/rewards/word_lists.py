"""Lists of guesses: texts that share words with what a test looks for.

A needle of a few words is passed more often if likely pairs are listed than if one of them is read.
So a needle that stands in short lines only has other readings if another short line has a word of
it; and one in a longer line if half of the words of that line recur within a few words, and one of
its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from olmrl.markup.text import normalize

_LONGEST_LINE = 4
"""Words of a short line."""
_LONGEST_NEEDLE = 3
_LEAST_WORD = 3
_LEAST_WORD_BESIDE = 4
"""Letters of a word that shows another reading, in another line and in the same."""
_LEAST_LIST = 4
"""Lines, or words of a line, that make a list."""
_RUN = 8
"""Words within which those of a list of guesses recur."""
_WORD = re.compile(r"[^\W_]+")

Words = tuple[str, ...]


def is_listed(needle: str, text: str, known: Sequence[str]) -> bool:
    """Whether a needle stands among guesses, wherever it stands.

    Args:
        needle: What a test looks for.
        text: The transcription as seen.
        known: What all tests of the page look for: what is of one of these is on the page.
    """
    wanted = _words(normalize(needle))
    if not 0 < len(wanted) <= _LONGEST_NEEDLE:
        return False
    short, longer = _lines(text)
    there = [_lists(line, wanted) for line in longer if _holds(line, wanted)]
    if there:
        return all(there)
    mine = {line for line in short if _holds(line, wanted)}
    if any(_lists(line, wanted) for line in mine):
        return True
    if len(wanted) == 1:
        return len(mine) > 1
    shared = {word for word in wanted if len(word) >= _LEAST_WORD}
    kept = [_words(other) for other in known]
    return bool(mine) and any(
        word in line and not any(word in other and _holds(line, other) for other in kept)
        for line in short - mine
        for word in shared
    )


@lru_cache(maxsize=64)
def is_list(text: str) -> bool:
    """Whether a text is mostly short lines of words that recur, or mostly lines of guesses.

    In a list of addresses or names one word of a line recurs; of guesses, all words of it do, and
    one in the line before or after it. Symbols recur in any formula.
    """
    short, longer = _lines(text)
    prose = {_words(line) for line in text.split("\n") if "\\" not in line} & (short | longer)
    listed = sum(len(line) for line in prose if _is_run(line))
    if 2 * listed > sum(map(len, short | longer)):
        return True
    count = Counter(word for line in short for word in set(line))
    lines = [line for line in map(_words, text.split("\n")) if line]
    alike = {
        line
        for at, line in enumerate(lines)
        if line in short
        and _is_guess(line, count, (*lines[max(0, at - 1) : at], *lines[at + 1 : at + 2]))
    }
    return len(alike) >= _LEAST_LIST and 2 * len(alike) > len(short) + len(longer)


def _is_guess(line: Words, count: Counter[str], beside: Iterable[Words]) -> bool:
    telling = {word for word in line if len(word) >= _LEAST_WORD and not word.isdigit()}
    recur = bool(telling) and all(count[word] > 1 for word in telling)
    return recur and any(not telling.isdisjoint(other) for other in beside if other != line)


def _lists(line: Words, wanted: Words) -> bool:
    """Whether a line is guesses at a needle: a word of it stands there again, too."""
    return _is_run(line) and any(line.count(word) > wanted.count(word) for word in wanted)


@lru_cache(maxsize=4096)
def _is_run(line: Words) -> bool:
    """Whether half of the words of a line stand in it again nearby."""
    again = [
        word in line[at + 1 : at + _RUN] or word in line[max(0, at + 1 - _RUN) : at]
        for at, word in enumerate(line)
        if len(word) >= _LEAST_WORD_BESIDE
    ]
    return len(again) >= _LEAST_LIST and 2 * sum(again) >= len(again)


def _holds(line: Words, wanted: Words) -> bool:
    size = len(wanted)
    return (
        size > 0
        and wanted[0] in line
        and any(line[at : at + size] == wanted for at in range(len(line) - size + 1))
    )


@lru_cache(maxsize=64)
def _lines(text: str) -> tuple[frozenset[Words], frozenset[Words]]:
    """The words of each line outside tables: of short lines, and of longer ones."""
    lines = {_words(line) for line in text.split("\n") if "|" not in line and "<t" not in line}
    short = frozenset(line for line in lines if 0 < len(line) <= _LONGEST_LINE)
    return short, frozenset(line for line in lines if len(line) > _LONGEST_LINE)


@lru_cache(maxsize=4096)
def _words(text: str) -> Words:
    return tuple(_WORD.findall(text.lower()))
