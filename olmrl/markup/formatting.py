"""The headings, bold and italic pieces of a transcription, from markdown and HTML.

What counts is in docs/formats.md#pass-rules.
"""

import re
from collections.abc import Iterator
from typing import Literal, get_args

from olmrl.markup.emphasis import find_emphasis

Kind = Literal["heading", "bold", "italic"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_HEADING_LINE = re.compile(r"^#{1,6}[^\S\n]+([^\n]+)", re.MULTILINE)
_SINGLE_STAR = re.compile(r"(?<!\*)\*(?!\*)")
_SINGLE_BAR = re.compile(r"(?<!_)_(?!_)")
_TAGS: dict[Kind, tuple[str, ...]] = {
    "heading": ("h1", "h2", "h3", "h4", "h5", "h6"),
    "bold": ("b", "strong"),
    "italic": ("i", "em"),
}
_LOOSE_OPEN = {name: re.compile(f"<{name}", re.I) for names in _TAGS.values() for name in names}
_EXACT_OPEN = {name: re.compile(rf"<{name}(?=[\s>])", re.I) for name in _LOOSE_OPEN}
_CLOSE = {name: re.compile(f"</{name}>", re.I) for name in _LOOSE_OPEN}


def find_formatted(text: str, kind: Kind, *, compat: bool = False) -> list[str]:
    """Returns the raw pieces of a text that are set as `kind`, in linear time.

    Args:
        text: The transcription.
        kind: heading, bold or italic.
        compat: Any two marks are a pair, and tags that merely start with the name count too, such
            as ``<br>`` for bold.
    """
    return [text[start:end] for start, end in formatted_spans(text, kind, compat=compat)]


def formatted_spans(text: str, kind: Kind, *, compat: bool = False) -> list[tuple[int, int]]:
    """Start and end of each piece that `find_formatted` returns."""
    if kind == "heading":
        spans = [match.span(1) for match in _HEADING_LINE.finditer(text)]
    elif not compat:
        width = 2 if kind == "bold" else 1
        pieces = (piece for piece in find_emphasis(text) if piece.width == width)
        spans = [(piece.start, piece.end) for piece in pieces]
    elif kind == "bold":
        spans = [*_between_doubles(text, "**"), *_between_doubles(text, "__")]
    else:
        spans = [*_between_singles(text, _SINGLE_STAR), *_between_singles(text, _SINGLE_BAR)]
    openings = _LOOSE_OPEN if compat else _EXACT_OPEN
    for name in _TAGS[kind]:
        spans += _between_tags(text, openings[name], _CLOSE[name])
    return spans


_Spans = Iterator[tuple[int, int]]


def _between_doubles(text: str, mark: str) -> _Spans:
    start = text.find(mark)
    while start >= 0:
        end = text.find(mark, start + len(mark) + 1)
        if end < 0:
            return
        yield start + len(mark), end
        start = text.find(mark, end + len(mark))


def _between_singles(text: str, mark: re.Pattern[str]) -> _Spans:
    position = 0
    while (opening := mark.search(text, position)) is not None:
        closing = mark.search(text, opening.end() + 1)
        if closing is None:
            return
        yield opening.end(), closing.start()
        position = closing.end()


def _between_tags(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> _Spans:
    position = 0
    while (match := opening.search(text, position)) is not None:
        inner = text.find(">", match.end()) + 1
        end = closing.search(text, inner) if inner else None
        if end is None:
            return
        yield inner, end.start()
        position = end.end()
