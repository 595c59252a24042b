"""Anchor text: what the PDF itself says is on the page, with coordinates.

The format is in docs/formats.md#anchor-text.

Legacy prompts carry it. Deterministic, unlike the public code: where the text is too long, a hash
of their content, not chance, decides which elements stay.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import ftfy
import pypdf

from olmrl import storage
from olmrl.data import fence
from olmrl.data.bad_page import UnreadPage
from olmrl.data.render import drawn_area, load_page_of, open_pdf

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it repairs, without a file name

MAX_ELEMENT_CHARS = 250
"""Longest text of one element."""

SHORTEST_LIMIT = 20
"""Below this many characters only the header line fits."""

_TOUCHING = 0.5
"""Points within which the boxes of two images count as overlapping."""

_ESCAPES = {"[": "\\[", "]": "\\]", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Element:
    """A run of text or an image on the page; coordinates in points, origin lower left."""

    x: float
    y: float
    line: str
    """Its line of the anchor text, newline included."""
    is_image: bool = False


def anchor_text(pdf_path: str, page_number: int, limit: int) -> str:
    """Describe a page by the texts and images its PDF holds.

    Args:
        pdf_path: Local path or fsspec URL.
        page_number: 1-based page.
        limit: Most characters of the result; -1: one line for a full-page image.

    Raises:
        BadPage: pypdf cannot read the page.
    """
    data = _remote(pdf_path, page_number)
    text: str = fence.call(_anchor_text, pdf_path, page_number, limit, data)
    return text


def _remote(pdf_path: str, page_number: int) -> bytes | None:
    """The bytes of a remote PDF; a child opens a local one by itself."""
    if not storage.is_remote(pdf_path):
        return None
    try:
        return storage.read_bytes(pdf_path)
    except OSError as error:
        raise UnreadPage(pdf_path, page_number, f"cannot be read ({error})") from error


def _anchor_text(pdf_path: str, page_number: int, limit: int, data: bytes | None) -> str:
    with fence.untrusted(pdf_path, page_number, "no anchor text can be made"):
        content = storage.read_bytes(pdf_path) if data is None else data
        elements = _elements(pypdf.PdfReader(BytesIO(content)).pages[page_number - 1])
    with open_pdf(pdf_path, page_number, content) as document:
        area = drawn_area(load_page_of(document, pdf_path, page_number))
    left, bottom, right, top = area
    return _written(right - left, top - bottom, elements, limit)


def _written(width: float, height: float, elements: list[Element], limit: int) -> str:
    header = f"Page dimensions: {width:.1f}x{height:.1f}\n"
    if limit == -1:
        return header + f"[Image 0x0 to {width:.0f}x{height:.0f}]\n"
    if limit < SHORTEST_LIMIT:
        return header
    return header + "".join(e.line for e in _fitting(elements, limit - len(header)))


def _elements(page: pypdf.PageObject) -> list[Element]:
    texts: list[tuple[float, float, str]] = []
    boxes: list[Box] = []
    resources: Any = page.get("/Resources", {})
    objects = resources.get("/XObject", {})

    def see_text(text: str, cm: Any, tm: Any, font: Any, size: Any) -> None:
        if text.strip():
            x, y = _point(cm, tm[4], tm[5])
            texts.append((x, y, text))

    def see_operator(operator: bytes, operands: Any, cm: Any, tm: Any) -> None:
        if operator == b"Do" and operands:
            drawn = objects.get(operands[0])
            if drawn is not None and drawn.get_object().get("/Subtype") == "/Image":
                (x0, y0), (x1, y1) = _point(cm, 0, 0), _point(cm, 1, 1)
                boxes.append((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))

    page.extract_text(visitor_text=see_text, visitor_operand_before=see_operator)
    images = [
        Element(x0, y0, f"[Image {x0:.0f}x{y0:.0f} to {x1:.0f}x{y1:.0f}]\n", True)
        for x0, y0, x1, y1 in merge_boxes(boxes)
    ]
    return images + [Element(x, y, f"[{x:.0f}x{y:.0f}]{clean(text)}\n") for x, y, text in texts]


def _point(matrix: Any, x: float, y: float) -> tuple[float, float]:
    a, b, c, d, e, f = (float(v) for v in matrix)
    return a * x + c * y + e, b * x + d * y + f


def merge_boxes(boxes: Iterable[Box]) -> list[Box]:
    """Join boxes that overlap or touch within half a point, until none do."""
    merged: list[Box] = []
    for new in boxes:
        box, rest = new, merged
        while True:
            touching = [other for other in rest if _touch(box, other)]
            if not touching:
                break
            rest = [other for other in rest if other not in touching]
            x0, y0, x1, y1 = zip(box, *touching, strict=True)
            box = (min(x0), min(y0), max(x1), max(y1))
        merged = [*rest, box]
    return merged


def _touch(a: Box, b: Box) -> bool:
    gap_x = max(a[0], b[0]) - min(a[2], b[2])
    gap_y = max(a[1], b[1]) - min(a[3], b[3])
    return gap_x <= _TOUCHING and gap_y <= _TOUCHING


def clean(text: str) -> str:
    """Repair, escape and shorten the text of one element."""
    repaired = ftfy.fix_text(text).strip()
    escaped = "".join(_ESCAPES.get(character, character) for character in repaired)
    if len(escaped) <= MAX_ELEMENT_CHARS:
        return escaped
    part = MAX_ELEMENT_CHARS // 2 - 3
    head, tail = escaped[:part], escaped[-part:]
    head = head.rsplit(" ", 1)[0]
    tail = tail.split(" ", 1)[-1]
    return f"{head} ... {tail}"


def _fitting(elements: list[Element], room: int) -> list[Element]:
    """All elements if they fit, else the outermost and some others, in order of position."""
    if sum(len(e.line) for e in elements) <= room:
        return elements
    kept: list[Element] = []
    for element in [*_extremes(elements), *sorted(elements, key=_draw)]:
        if element in kept:
            continue
        if len(element.line) > room:
            break
        kept.append(element)
        room -= len(element.line)
    return sorted(kept, key=lambda e: (e.x, e.y))


def _extremes(elements: list[Element]) -> list[Element]:
    found = []
    for is_image in (True, False):
        of_kind = [e for e in elements if e.is_image == is_image]
        if of_kind:
            for key in (lambda e: e.x, lambda e: e.y):
                found += [min(of_kind, key=key), max(of_kind, key=key)]
    return found


def _draw(element: Element) -> bytes:
    return hashlib.sha1(element.line.encode("utf-8", "replace"), usedforsecurity=False).digest()
