"""Finds the LaTeX formulas of a transcription (docs/formats.md#formulas)."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from olmrl.markup.code import code_ends

_CLOSING = {"\\(": "\\)", "\\[": "\\]"}
_TOKEN = re.compile(r"\\[\\()\[\]$]|\$\$?|``*|~~~~*")
_TEXT_FENCE = re.compile(r"[`~ \t>]+(?:markdown|md|latex|tex|math)[ \t]*\n", re.IGNORECASE)
"""A block that is said to hold what we read, not code."""
_BREAK = re.compile(r"\n[ \t>]*\n|</?(?i:td|th|tr|table|p|li|h[1-6]|div)(?:\s[^<>]{0,200})?/?>")
"""The end of a paragraph or of a cell."""
_LATEX = re.compile(r"[\\^_{}]")
_WORD = re.compile(r"(?<!\S)[A-Za-z]{2,}(?=[\s.,;:]|$)")
_NO_BEGINNING = frozenset("),.;:!?")


def extract_formulas(text: str, *, dollars: bool = True, compat: bool = False) -> list[str]:
    r"""Returns the formulas between ``\( \)``, ``\[ \]`` and, if asked, ``$$ $$`` and ``$ $``.

    Formulas are stripped, duplicates kept, in the order of the text. A dollar sign that is escaped,
    in code, or an amount of money is none of a formula's, and no formula between single ones goes
    beyond its paragraph or table cell. Runs in linear time on any text.

    Args:
        text: The transcription.
        dollars: Also look for the dollar forms.
        compat: As the public benchmark: each kind is removed before the next one is searched for,
            which is also the order of the result, and any two dollar signs are a pair.
    """
    if compat:
        return _extract_compat(text, dollars)
    insides = (text[span.inside_start : span.inside_end] for span in formula_spans(text, dollars))
    return [inside.strip() for inside in insides if inside.strip()]


class FormulaSpan(NamedTuple):
    """Where a formula stands, with and without its delimiters."""

    start: int
    inside_start: int
    inside_end: int
    end: int


class _Mark(NamedTuple):
    """A delimiter."""

    start: int
    end: int
    kind: str


def _marks(text: str, dollars: bool) -> Iterator[_Mark]:
    code: dict[int, int] | None = None
    at = 0
    while (found := _TOKEN.search(text, at)) is not None:
        at = found.end()
        mark = found[0]
        if mark[0] in "`~":
            code = code_ends(text) if code is None else code
            block = _TEXT_FENCE.match(text, found.start())
            at = block.end() - 1 if block else max(at, code.get(found.start(), at))
        elif mark[0] == "\\":
            if mark[1] not in "\\$":
                yield _Mark(found.start(), at, mark)
        elif dollars:
            yield _Mark(found.start(), at, mark)


def formula_spans(text: str, dollars: bool = True) -> Sequence[FormulaSpan]:
    """The formulas that `extract_formulas` finds; the latest texts are kept."""
    if not ("$" in text or "\\(" in text or "\\[" in text):
        return ()
    return _formula_spans(text, dollars)


@lru_cache(maxsize=8)
def _formula_spans(text: str, dollars: bool) -> tuple[FormulaSpan, ...]:
    return tuple(_find_spans(text, dollars))


def _find_spans(text: str, dollars: bool) -> Iterator[FormulaSpan]:
    marks = list(_marks(text, dollars))
    following = _Following(marks)
    at, index = 0, 0
    while index < len(marks):
        mark = marks[index]
        if mark.start < at or mark.kind in _CLOSING.values():
            index += 1
            continue
        closing, size = _closing(text, marks, following, index)
        if closing is None:
            at = mark.start + 1 if mark.kind == "$$" else mark.end
            # "$$x$" without its other half: the second sign may begin a formula
            marks[index] = _Mark(at, mark.end, "$") if mark.kind == "$$" else mark
            index += mark.kind != "$$"
            continue
        at = marks[closing].start + size
        yield FormulaSpan(mark.start, mark.end, marks[closing].start, at)
        index = closing
        if at < marks[closing].end:
            marks[closing] = _Mark(at, marks[closing].end, "$")
        else:
            index += 1


class _Following:
    """Which mark of a kind comes next; `$` also finds `$$`."""

    def __init__(self, marks: list[_Mark]) -> None:
        self._places: dict[str, list[int]] = defaultdict(list)
        for index, mark in enumerate(marks):
            self._places[mark.kind].append(index)
            if mark.kind == "$$":
                self._places["$"].append(index)

    def after(self, index: int, kind: str) -> int:
        """The first after a mark; -1 if there is none."""
        places = self._places[kind]
        at = bisect_right(places, index)
        return places[at] if at < len(places) else -1


def _closing(
    text: str, marks: list[_Mark], following: _Following, index: int
) -> tuple[int | None, int]:
    """Index of the mark that closes another one, and how many of its characters do."""
    mark = marks[index]
    found = following.after(index, _CLOSING.get(mark.kind, mark.kind))
    if found < 0:
        return None, 0
    end = marks[found].start
    if mark.kind == "$":
        is_formula = _is_inline(text, mark.start, mark.end, end)
        is_formula = is_formula and not _BREAK.search(text, mark.end, end)
        return (found, 1) if is_formula else (None, 0)
    if mark.kind == "$$" and _BREAK.search(text, mark.end, end):
        line = text[text.rfind("\n", 0, mark.start) + 1 : mark.start]
        if line.strip(" \t>"):
            return None, 0
    return found, 2


def _is_inline(text: str, opening: int, start: int, end: int) -> bool:
    """Whether what stands between two single dollar signs is a formula, not prose or money."""
    inside = text[start:end]
    bare = inside.strip()
    if not bare:
        return False
    spaces = (inside[0].isspace(), inside[-1].isspace())
    before, after = text[max(0, opening - 1) : opening], text[end + 1 : end + 2]
    if before.isalnum() and (spaces[0] or bare[0] in _NO_BEGINNING):
        return False  # "costs 5$ or 6$"
    is_latex = _LATEX.search(bare) is not None
    if bare[0].isdigit() and not is_latex and _is_money(before, bare, after):
        return False
    if spaces == (False, False):
        return True
    # a sign stands apart: "$5 and $x$", but also "$x^2 $" and "$ x $"
    if _WORD.search(bare):
        return is_latex and spaces[0] == spaces[1]
    return spaces[0] == spaces[1] or is_latex or len(bare) == 1 or not bare[0].isdigit()


def _is_money(before: str, bare: str, after: str) -> bool:
    """Whether an amount begins after the first of two dollar signs.

    Args:
        before: the character before the first sign.
        bare: what stands between the signs, which begins with a digit and has no LaTeX.
        after: the character after the second sign.
    """
    if before.isalpha() or after.isdigit() or _WORD.search(bare):
        return True  # "US$5", "$5-$10", "$5 or A$6"
    is_number = bare.replace(".", "").replace(",", "").isdigit()
    return (after.isalpha() or after == "\\") and not is_number  # "$5|$6|$x$"; but "$2$nd"


def _extract_compat(text: str, dollars: bool) -> list[str]:
    delimiters = [("\\(", "\\)"), ("\\[", "\\]")]
    if dollars:
        delimiters += [("$$", "$$"), ("$", "$")]
    formulas: list[str] = []
    for opening, closing in delimiters:
        found, text = _take_out(text, opening, closing)
        formulas += found
    return formulas


def _take_out(text: str, opening: str, closing: str) -> tuple[list[str], str]:
    """The stripped contents of each delimited span, and the text without the spans."""
    found: list[str] = []
    rest: list[str] = []
    position = 0
    while True:
        start = text.find(opening, position)
        end = text.find(closing, start + len(opening)) if start >= 0 else -1
        if end < 0:
            return found, "".join(rest) + text[position:]
        rest.append(text[position:start])
        found.append(text[start + len(opening) : end].strip())
        position = end + len(closing)
