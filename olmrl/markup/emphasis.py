"""Bold and italic marks of markdown, as CommonMark pairs them (docs/formats.md#normalised-text)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_RUN = re.compile(r"\\[\\*_\n]|\*\**|__*|\n[ \t]*(?=\n)")


class Emphasis(NamedTuple):
    """A text set by marks; its marks are the `width` characters before `start` and after `end`."""

    start: int
    end: int
    width: int
    """1: italic, 2: bold."""


class _Run(NamedTuple):
    start: int
    length: int


@lru_cache(maxsize=8)
def find_emphasis(text: str) -> tuple[Emphasis, ...]:
    r"""The bold and italic pieces of a text, in linear time.

    A mark opens before what is no space and closes after what is none; `_` does neither inside a
    word, and a single `*` does not open between two letters or digits (`2*3*4`). No pair spans
    paragraphs, and an escaped mark is none.
    """
    found: list[Emphasis] = []
    opened: dict[str, list[_Run]] = {"*": [], "_": []}
    for match in _RUN.finditer(text):
        run = match[0]
        if run[0] == "\n":
            opened = {"*": [], "_": []}
        if run[0] in "\\\n":
            continue
        start, rest = match.start(), len(run)
        opens, closes = _sides(text, start, match.end())
        stack = opened[run[0]]
        while closes and rest and stack:
            last = stack.pop()
            width = 2 if rest >= 2 and last.length >= 2 else 1
            end = last.start + last.length
            found.append(Emphasis(end, start, width))
            if last.length > width:
                stack.append(_Run(last.start, last.length - width))
            start, rest = start + width, rest - width
        if opens and rest:
            stack.append(_Run(start, rest))
    return tuple(found)


def without_emphasis(text: str) -> str:
    """The text without the marks of its bold and italic pieces."""
    cuts: list[tuple[int, int]] = []
    for piece in find_emphasis(text):
        cuts += ((piece.start - piece.width, piece.start), (piece.end, piece.end + piece.width))
    kept: list[str] = []
    at = 0
    for start, end in sorted(cuts):
        kept.append(text[at:start])
        at = end
    return "".join(kept) + text[at:]


def _sides(text: str, start: int, end: int) -> tuple[bool, bool]:
    """Whether a run of marks can open, and can close."""
    before, after = text[start - 1 : start] or " ", text[end : end + 1] or " "
    plain = (_is_plain(before), _is_plain(after))
    opens = not after.isspace() and (plain[1] or not plain[0])
    closes = not before.isspace() and (plain[0] or not plain[1])
    inside = before.isalnum() and after.isalnum()
    if text[start] == "_":
        return opens and not before.isalnum(), closes and not after.isalnum()
    if inside and end - start == 1 and before.isascii() and after.isascii():
        return False, closes
    return opens, closes


def _is_plain(char: str) -> bool:
    """Neither space nor ASCII punctuation."""
    return char.isalnum() or not (char.isascii() or char.isspace())
