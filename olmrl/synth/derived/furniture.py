"""Running headers, footers and page numbers of PDFs, recognised by position and repetition.

For page pairs without HTML: a margin line of the text layer is page furniture if it occurs on
several pages of the set or looks like a page number, and if the transcription leaves it out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from rapidfuzz import fuzz

from olmrl.data import fence
from olmrl.data.render import as_shown, load_page_of, open_pdf, page_box
from olmrl.markup.text import normalize

_BAND = 0.10
"""Share of the page height at the top and at the bottom that counts as margin."""

_MAX_RUNS = 4000
"""Maximum text runs of a page to examine; maps and plots have tens of thousands."""

_MAX_CHARS = 120
_LETTERS_IN_A_PAGE_NUMBER = 8
_TOLD = 85.0
"""Similarity (0..100) from which the transcription counts as containing a line."""


def margin_lines(pdf_path: str) -> tuple[str, ...]:
    """Text lines in the top and bottom margin of a one-page PDF, from top to bottom.

    Raises:
        BadPage: the PDF cannot be read.
    """
    lines: tuple[str, ...] = fence.call(_margin_lines, pdf_path, 1)
    return lines


def _margin_lines(pdf_path: str, page_number: int) -> tuple[str, ...]:
    with open_pdf(pdf_path, page_number) as document:
        page = load_page_of(document, pdf_path, page_number)
        _, height = page_box(page)
        shown = as_shown(page)
        text = page.get_textpage()
        lines: dict[int, list[tuple[float, str]]] = {}
        for i in range(min(text.count_rects(), _MAX_RUNS)):
            area = text.get_rect(i)
            left, bottom, _, top = shown(area)
            middle = (bottom + top) / 2
            if _BAND < middle / height < 1 - _BAND:
                continue
            run = text.get_text_bounded(*area).strip()
            lines.setdefault(round(-middle / 3), []).append((left, run))
    found = (" ".join(run for _, run in sorted(lines[y])) for y in sorted(lines))
    return tuple(line for line in (" ".join(f.split()) for f in found) if line)


def count_repeats(pages: Sequence[Sequence[str]]) -> Counter[str]:
    """On how many pages each margin line occurs, ignoring numbers."""
    return Counter(shape for lines in pages for shape in {_shape(line) for line in lines})


def furniture(lines: Sequence[str], body: str, repeats: Mapping[str, int]) -> tuple[str, ...]:
    """The margin lines that are page furniture and that the transcription leaves out."""
    told = normalize(body).lower()
    chosen = []
    for line in dict.fromkeys(lines):
        if len(line) > _MAX_CHARS or not any(c.isalnum() for c in line):
            continue
        repeated = repeats.get(_shape(line), 0) >= 2 and len(line) > 3
        if (repeated or _is_page_number(line)) and not _contains(told, line):
            chosen.append(line)
    return tuple(chosen)


def _shape(line: str) -> str:
    return re.sub(r"\d+", "0", normalize(line).strip().lower())


def _is_page_number(line: str) -> bool:
    letters = sum(c.isalpha() for c in line)
    return (
        any(c.isdigit() for c in line)
        and len(line) <= 20
        and (letters <= _LETTERS_IN_A_PAGE_NUMBER)
    )


def _contains(told: str, line: str) -> bool:
    needle = normalize(line).strip().lower()
    if len(needle) <= 6:
        return re.search(rf"(?<!\w){re.escape(needle)}(?!\w)", told) is not None
    return len(told) >= len(needle) and fuzz.partial_ratio(needle, told) >= _TOLD
