"""Signs of hedging that need no reference text: another reading beside the one that passes.

Here those in text; marks on it are for `mark_hedges`, tables and formulas for `element_hedges`.
What a page says is unknown, so these bound hedging rather than exclude it, and leave alone what
honest pages have: numbered captions, columns of equal cells, series of similar formulas.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

from rapidfuzz import fuzz
from rapidfuzz.distance import Hamming, Levenshtein

from olmrl.bench.document import ParsedPage
from olmrl.bench.text_cases import AbsentCase, OrderCase
from olmrl.markup.text import normalize

_READING = 78.0
_LONG_READING = 85.0
"""Similarity, 0..100, that makes a text another reading of a short or a long needle."""
_LEAST_NEEDLE = 5
_BESIDE = 6
"""Letters that may stand between two readings of a short needle."""
LONG_NEEDLE = 12
_SENTENCE = 24
_CONTEXT = 12
PLACE = 48
"""Letters of a short needle with the text around it that make a place of a page."""
SAME_PLACE = 80.0
_EDGE = 70.0
"""Similarity of a word beside a needle that makes it a reading of the needle's first or last."""
_EDGE_WORD = 4
_LEAST_WORD = 6
_LETTERS_PER_SLIP = 4
"""Letters of a word for each letter that another reading of it has wrong."""
_NOT_LETTERS = re.compile(r"[\W_]+")
WORD = re.compile(r"[^\W_]+")
_NOTE_NUMBER = re.compile(r"[0-9]{1,2}(?![^\W_])")
_SPACELESS = "\u0e00"
"""From this character on are the scripts that have no spaces between words."""


@lru_cache(maxsize=2048)
def letters_of(text: str) -> str:
    """Letters and digits of a text in lower case."""
    return _NOT_LETTERS.sub("", text.lower())


def several_readings(needle: str, page: ParsedPage, known: Sequence[str]) -> bool:
    """Whether a text that contains a needle has another reading of it as well.

    Of a long needle, or of a place where a short one stands, anywhere; of a word if it is one as
    long; of a short needle or of its first or last word nearby. What contains the needle is not
    another reading.

    Args:
        needle: What a test looks for.
        page: The transcription.
        known: What all tests of the page look for: these are no readings.
    """
    wanted = letters_of(normalize(needle))
    if len(wanted) < _LEAST_NEEDLE:
        return False
    text = letters_of(page.normal_text)
    pieces = text.split(wanted)
    if len(pieces) == 1 and _doubles_letters(wanted, text):
        return True
    if len(wanted) >= _SENTENCE and not _mostly_digits(wanted):
        return any(has_reading(wanted, piece, _LONG_READING) for piece in pieces)
    if len(wanted) >= LONG_NEEDLE and any(
        has_reading(wanted, piece, _LONG_READING) for piece in pieces
    ):
        return True
    reach = len(wanted) + _BESIDE
    beside = [piece[-reach:] for piece in pieces[:-1]] + [piece[:reach] for piece in pieces[1:]]
    if any(has_reading(wanted, piece, _READING) for piece in beside):
        return True
    return (
        _wordhas_readings(needle, page, known)
        or _edges_have_readings(needle, page)
        or _place_recurs(wanted, pieces)
    )


def _doubles_letters(wanted: str, text: str) -> bool:
    """Whether the passage most like a needle has letters besides its own: then it may have two
    readings of one, which tests that allow for errors mind less than one that is wrong.

    The same letter twice is one reading.
    """
    found = fuzz.partial_ratio_alignment(wanted, text, score_cutoff=_READING)
    if found is None or len(text) < len(wanted):
        return False
    there = text[found.dest_start : found.dest_end]
    return any(
        edit.tag == "insert"
        and 0 < edit.src_start < len(wanted)
        and not _repeats(there, edit.dest_start, edit.dest_end)
        for edit in Levenshtein.opcodes(wanted, there)
    )


def _repeats(text: str, start: int, end: int) -> bool:
    """Whether a letter is the one before or after it."""
    return end - start == 1 and text[start] in (text[start - 1 : start], text[end : end + 1])


def _wordhas_readings(needle: str, page: ParsedPage, known: Sequence[str]) -> bool:
    """Whether another word is about as long as a needle of one word, and has few other letters."""
    words = WORD.findall(needle.lower())
    wanted = words[0] if len(words) == 1 else ""
    if len(wanted) < _LEAST_WORD or not wanted.isalpha():
        return False
    return any(
        _is_slip(wanted, other) and not any(other in k.lower() for k in known)
        for other in _words_of(page.lower_text)
    )


def _is_slip(word: str, other: str) -> bool:
    """Whether two words differ in few letters, or in one that only one of them has."""
    if len(word) == len(other):
        return 0 < Hamming.distance(word, other) <= len(word) // _LETTERS_PER_SLIP
    if abs(len(word) - len(other)) > 1 or word in other or other in word:
        return False
    return Levenshtein.distance(word, other, score_cutoff=1) == 1


@lru_cache(maxsize=8)
def _words_of(text: str) -> frozenset[str]:
    return frozenset(WORD.findall(text))


def _edges_have_readings(needle: str, page: ParsedPage) -> bool:
    """Whether a word right before or after a needle is a reading of its first or last word."""
    words = WORD.findall(needle.lower())
    if not words:
        return False
    text, wanted = page.lower_text, normalize(needle).lower().strip()
    for at in _starts(wanted, text):
        before = WORD.findall(text[max(0, at - 2 * _CONTEXT) : at])[-2:]
        after = WORD.findall(text[at + len(wanted) :][: 2 * _CONTEXT])[:2]
        if _is_reading_of(words[0], before) or _is_reading_of(words[-1], after):
            return True
    return False


def _starts(wanted: str, text: str) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(wanted), text)] if wanted else []


def only_glued(needle: str, text: str) -> bool:
    """Whether letters stand directly before or after a needle, wherever a text has it.

    The number of a note after a word is none of it.
    """
    wanted, text = normalize(needle).lower().strip(), text.lower()
    starts = _starts(wanted, text)
    return bool(starts) and all(
        _is_joined(text, at)
        or (_is_joined(text, at + len(wanted)) and not _is_note(text, at + len(wanted)))
        for at in starts
    )


def _is_joined(text: str, at: int) -> bool:
    """Whether two letters or digits stand side by side, in a script with spaces."""
    pair = text[at - 1 : at + 1] if at else ""
    return len(pair) == 2 and all((c.isalpha() or c.isdecimal()) and c < _SPACELESS for c in pair)


def _is_note(text: str, at: int) -> bool:
    return not text[at - 1].isdecimal() and _NOTE_NUMBER.match(text, at) is not None


def has_more_inside(needle: str, page: ParsedPage) -> bool:
    """Whether a needle of an `order` test is there with other letters in it, or right before it.

    Not right after it: such needles may end within a word.
    """
    wanted = normalize(needle).lower().strip()
    starts = _starts(wanted, page.lower_text)
    if starts:
        return all(_is_joined(page.lower_text, at) for at in starts)
    return _doubles_letters(letters_of(wanted), letters_of(page.normal_text))


def _is_reading_of(word: str, others: Sequence[str]) -> bool:
    return len(word) >= _EDGE_WORD and any(
        other != word and len(other) >= _EDGE_WORD and fuzz.ratio(word, other) >= _EDGE
        for other in others
    )


def _place_recurs(wanted: str, pieces: Sequence[str]) -> bool:
    """Whether a needle has a place like its own elsewhere, where something else stands."""
    around = max(_CONTEXT, (PLACE - len(wanted)) // 2)
    for before, after in pairwise(pieces):
        place = before[-around:] + wanted + after[:around]
        if len(place) < PLACE - 2:
            continue
        rest = [before[:-around], after[around:]]
        rest += [piece for piece in pieces if piece is not before and piece is not after]
        if any(has_reading(place, piece, SAME_PLACE) for piece in rest):
            return True
    return False


def _mostly_digits(text: str) -> bool:
    return 2 * sum(map(str.isdigit, text)) > len(text)


def has_reading(wanted: str, piece: str, least: float) -> bool:
    """Whether letters have a reading of others, so similar at least, 0..100."""
    if len(piece) < len(wanted) - 2:
        return False
    found = fuzz.partial_ratio_alignment(wanted, piece, score_cutoff=least)
    if found is None:
        return False
    other = piece[found.dest_start : found.dest_end]
    # "chapter 3" beside "chapter 4" is a series, not a reading
    return without_digits(other) != without_digits(wanted)


def without_digits(text: str) -> str:
    """A text without its digits."""
    return "".join(char for char in text if not char.isdigit())


def says_again(case: OrderCase, page: ParsedPage) -> bool:
    """Whether a text in question occurs twice within the same words, or a long one at all."""
    text = letters_of(page.normal_text)
    for needle in (case.before, case.after):
        wanted = letters_of(normalize(needle))
        starts = [match.start() for match in re.finditer(re.escape(wanted), text)] if wanted else []
        if len(starts) > 1 and len(wanted) >= LONG_NEEDLE:
            return True
        ends = [start + len(wanted) for start in starts]
        before = Counter(text[max(0, start - _CONTEXT) : start] for start in starts)
        after = Counter(text[end : end + _CONTEXT] for end in ends)
        if any(n > 1 and len(t) == _CONTEXT for c in (before, after) for t, n in c.items()):
            return True
    return False


def has_other_reading(needle: str, page: ParsedPage) -> bool:
    """Whether a long text is there, and elsewhere another reading of it."""
    wanted = letters_of(normalize(needle))
    if len(wanted) < LONG_NEEDLE or _mostly_digits(wanted):
        return False
    pieces = letters_of(page.normal_text).split(wanted)
    return len(pieces) > 1 and any(has_reading(wanted, piece, _LONG_READING) for piece in pieces)


def near_end(case: AbsentCase, page: ParsedPage, needles: Sequence[str]) -> AbsentCase:
    """A test of the page's first or last characters, taken to where its known text begins or ends.

    Filler before a running head does not move it out of sight.
    """
    text = page.normal_text
    if not (case.first_n or case.last_n):
        return case
    found = [(at, at + len(n)) for n in needles if n and (at := text.find(n)) >= 0]
    if not found:
        return case
    first, last = min(at for at, _ in found), max(end for _, end in found)
    return replace(
        case,
        first_n=case.first_n and max(case.first_n, first),
        last_n=case.last_n and max(case.last_n, len(text) - last),
    )
