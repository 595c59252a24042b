"""Marks of a transcription that are never closed, or closed without having been opened."""

from __future__ import annotations

import re
from collections import Counter

from olmrl.rewards.words import TAG

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)")
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")
_ESCAPED = re.compile(r"\\[*$]")
_STARS_ONLY = re.compile(r"^[*\s]+$", re.MULTILINE)
_PRICE = re.compile(r"\$\s?\d")
_VOID = frozenset({"br", "hr", "img", "col"})


def count_open_marks(body: str) -> int:
    r"""Number of unpaired code fences, ``\( \)``, ``\[ \]``, ``$$``, ``$``, ``**``, comments, tags.

    A lone ``$`` before a number is a price. ``$`` and ``**`` are paired within a paragraph. Nothing
    inside a code block counts, and no tag or ``**`` inside a formula. Tables are another matter
    (`validity`).
    """
    text, in_code = _without_code(body)
    text, faults = _without_formulas(text)
    faults += in_code + abs(text.count("<!--") - text.count("-->"))
    paragraphs = _PARAGRAPHS.split(_ESCAPED.sub("", text))
    faults += sum(p.count("$") % 2 for p in paragraphs if not _PRICE.search(p))
    faults += sum(_STARS_ONLY.sub("", p).count("**") % 2 for p in paragraphs)
    return faults + _count_open_tags(text)


def count_open_formulas(body: str) -> int:
    r"""Number of unpaired ``\( \)``, ``\[ \]`` and ``$$`` outside of code blocks."""
    return _without_formulas(_without_code(body)[0])[1]


def _without_formulas(text: str) -> tuple[str, int]:
    """The text outside of formulas, and the number of unpaired delimiters."""
    faults = 0
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]")):
        text, unpaired = _without_spans(text, opening, closing)
        faults += unpaired
    pieces = text.split("$$")
    return " ".join(pieces[::2]), faults + (len(pieces) % 2 == 0)


def _without_code(body: str) -> tuple[str, int]:
    """The lines outside of code blocks, and 1 if the last block is open."""
    kept = []
    in_code = False
    for line in body.split("\n"):
        if _FENCE.match(line):
            in_code = not in_code
        elif not in_code:
            kept.append(line)
    return "\n".join(kept), int(in_code)


def _without_spans(text: str, opening: str, closing: str) -> tuple[str, int]:
    """The text outside of spans, and the number of unpaired delimiters."""
    first, *rest = text.split(opening)
    kept = [first]
    unpaired = first.count(closing)
    for piece in rest:
        _, found, after = piece.partition(closing)
        kept.append(after if found else piece)
        unpaired += after.count(closing) if found else 1
    return " ".join(kept), unpaired


def _count_open_tags(text: str) -> int:
    balance: Counter[str] = Counter()
    for tag in TAG.finditer(text):
        name = tag[2].lower()
        if name not in _VOID and name != "table" and not tag[3].endswith("/"):
            balance[name] += -1 if tag[1] else 1
    return sum(abs(count) for count in balance.values())
