"""Where the HTML tables of a transcription begin and end, and which of them never end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from olmrl.rewards.words import TAG

_ROOMS = frozenset({"td", "th", "caption"})
_PARTS = _ROOMS | {"tr", "thead", "tbody", "tfoot"}
_BREAK = re.compile(r"\n[ \t]*\n")
_LETTER = re.compile(r"[^\W_]")


@dataclass
class _Open:
    start: int
    in_room: bool = False
    """In a cell or a caption: what follows may be text of it."""


def closed_tables(body: str) -> tuple[list[tuple[int, int]], int]:
    """Start and end of each outermost table, and the number of tags without a partner.

    A table that has not been closed is over where another one, or a paragraph, begins outside of
    its cells: no later tag closes it.
    """
    opened: list[_Open] = []
    spans: list[tuple[int, int]] = []
    unpaired = at = 0
    for tag in TAG.finditer(body):
        name = tag[2].lower()
        if name != "table" and name not in _PARTS:
            continue
        if opened and not opened[-1].in_room and _begins_paragraph(body, at, tag.start()):
            opened.pop()
            unpaired += 1
        at = tag.end()
        if name in _PARTS:
            if opened:
                opened[-1].in_room = name in _ROOMS and not tag[1]
        elif not tag[1]:
            if opened and not opened[-1].in_room:
                opened.pop()
                unpaired += 1
            opened.append(_Open(tag.start()))
        elif opened:
            start = opened.pop().start
            while spans and spans[-1][0] > start:
                spans.pop()
            spans.append((start, tag.end()))
        else:
            unpaired += 1
    return spans, unpaired + len(opened)


def _begins_paragraph(body: str, start: int, end: int) -> bool:
    found = _BREAK.search(body, start, end)
    return found is not None and _LETTER.search(body, found.end(), end) is not None
