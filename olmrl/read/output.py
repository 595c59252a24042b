"""A document's pages as text: markdown, a Dolma document, or plain text. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from olmrl import __version__
from olmrl.markup.front_matter import HEAD_FIELDS, PageResponse
from olmrl.markup.tables import parse_html_tables
from olmrl.markup.text import WorkLimitError

Kind = Literal["read", "fallback", "bad", "failed"]
"""What became of a page: read; no whole answer, so that something else stands for it; cannot be
read; could not be read this time."""

_TABLE_OPEN, _TABLE_CLOSE = re.compile(r"<table\b", re.I), re.compile(r"</table\s*>", re.I)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_HEADING = re.compile(r"^#{1,6}[ \t]+", re.M)
_IMAGE = re.compile(r"!\[([^\[\]\n]*)\]\([^()\n]*\)")
_STRESS = re.compile(r"(?<![\w*])(\*{1,3})(?=\S)([^*\n]+?)(?<=\S)\1(?![\w*])")
_RULE = re.compile(r"^[ \t]*(?:-{3,}|\*{3,}|_{3,})[ \t]*$", re.M)


@dataclass(frozen=True, slots=True)
class PageText:
    """One page of a document."""

    number: int
    """1-based."""
    kind: Kind
    response: PageResponse | None = None
    """Text and head, rotation as the page lies in the PDF; None for bad and failed pages."""
    reason: str = ""
    """Why it is not read."""
    attempts: int = 0
    prompt_tokens: int = 0
    tokens: int = 0

    @property
    def text(self) -> str:
        """Its text; empty if it has none."""
        return (self.response.natural_text if self.response else None) or ""


def sound(text: str) -> str:
    """The text without halves of characters, which JSON can hold and a file cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def markdown(pages: Sequence[PageText]) -> str:
    """Pages one after the other, each below a comment with its number."""
    parts = []
    for page in pages:
        missing = ": not read" if page.response is None else ""
        parts.append(f"<!-- page {page.number}{missing} -->")
        if page.text.strip():
            parts.append(page.text.strip())
    return "\n\n".join(parts) + "\n"


def plain_text(pages: Sequence[PageText]) -> str:
    """Text without markup, pages parted by a form feed."""
    return "\f".join(plain(page.text) + "\n" for page in pages)


def plain(text: str) -> str:
    """Markdown without its marks; tables become lines with tabs, formulas stay LaTeX."""
    text = _TAG.sub("", _IMAGE.sub(r"\1", _with_rows(text)))
    text = _STRESS.sub(r"\2", _STRESS.sub(r"\2", _HEADING.sub("", text)))
    return _RULE.sub("", text).strip()


def _with_rows(text: str) -> str:
    """The text with each HTML table as its rows, in linear time."""
    parts, position = [], 0
    while opening := _TABLE_OPEN.search(text, position):
        closing = _TABLE_CLOSE.search(text, opening.end())
        if closing is None:
            break
        parts += [text[position : opening.start()], _rows(text[opening.start() : closing.end()])]
        position = closing.end()
    return "".join([*parts, text[position:]])


def _rows(markup: str) -> str:
    """Cells of a table with tabs between them, a row a line; what is too large stays as it is."""
    try:
        tables = parse_html_tables(markup)
    except WorkLimitError:
        return markup
    lines = []
    for table in tables:
        for _, cells in groupby(table.cells, key=lambda cell: cell.row):
            lines.append("\t".join(" ".join(cell.text.split()) for cell in cells))
    return "\n".join(lines)


def dolma(path: str, pages: Sequence[PageText], added: str) -> str:
    """A Dolma document on one line, as olmOCR's pipeline writes them and `mix workspace` reads them
    (docs/formats.md#workspace-results).

    Args:
        path: the PDF.
        pages: all pages; those that could not be read have no span.
        added: ISO time.
    """
    there = [page for page in pages if page.response is not None]
    text, spans = "", []
    for index, page in enumerate(there):
        start = len(text)
        text += page.text + ("\n" if page.text and index + 1 < len(there) else "")
        spans.append([start, len(text), page.number])
    heads: dict[str, list[Any]] = {
        name: [getattr(page.response, name) for page in there] for name in HEAD_FIELDS
    }
    value = {
        "id": hashlib.sha1(path.encode("utf-8", "surrogatepass")).hexdigest(),
        "text": text,
        "source": "olmrl",
        "added": added,
        "created": added,
        "metadata": {
            "Source-File": path,
            "olmrl-version": __version__,
            "pdf-total-pages": len(pages),
            "total-input-tokens": sum(page.prompt_tokens for page in pages),
            "total-output-tokens": sum(page.tokens for page in pages),
            "total-fallback-pages": sum(page.kind == "fallback" for page in pages),
        },
        "attributes": {"pdf_page_numbers": spans, **heads},
    }
    return json.dumps(value) + "\n"
