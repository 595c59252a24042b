"""A user's HTML file as a document: its encoding, title and language, and its blocks (`blocks`)."""

from __future__ import annotations

import re

from lxml import etree
from lxml.html import HtmlElement, HTMLParser, document_fromstring

from olmrl.markup.language import RIGHT_TO_LEFT, language_of
from olmrl.synth.web.blocks import blocks_of
from olmrl.synth.web.document import Document, text_of

MAX_BYTES = 8_000_000
"""Largest document that is read."""
MAX_BLOCKS = 3_000
"""Blocks of one document that are laid out; what follows is counted as left."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_ENDS = re.compile(rb"</(?:body|html)\s*>", re.IGNORECASE)


def read_document(data: bytes, language: str = "en") -> Document:
    """Read an HTML file.

    Args:
        data: The file.
        language: Two letters, of a document that names none and whose letters tell none.

    Raises:
        ValueError: too large, not HTML, nested too deep, or without any text.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES / 1e6:g} MB")
    if b"\0" in data[:4096] and data[:2] not in _UTF16:
        raise ValueError("binary data, not an HTML page")
    encoding = None if _names_encoding(data) else _guess_encoding(data)
    data = _ENDS.sub(b"", data)  # to a browser, what stands behind them belongs to the page too
    try:
        root = document_fromstring(data, parser=HTMLParser(encoding=encoding, huge_tree=False))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError, AssertionError) as error:
        raise ValueError(f"not an HTML page ({error})") from error
    title = " ".join((root.findtext(".//title") or "").split())
    start = _content(root)
    spoken = language_of(_named(root, "lang"), start.text_content(), language)
    direction = _named(root, "dir") or ("rtl" if spoken in RIGHT_TO_LEFT else "ltr")
    document = Document(title, spoken, direction.lower() == "rtl")
    for block in blocks_of(start, document, 0):
        if len(document.blocks) == MAX_BLOCKS:
            document.leave(f"beyond {MAX_BLOCKS} blocks")
        else:
            document.blocks.append(block)
    if not document.blocks:
        raise ValueError("no text that a page could show")
    if not document.title:
        headings = [block for block in document.blocks if re.match(r"<h[1-3]>", block)]
        document.title = " ".join(text_of(headings[0]).split()) if headings else ""
    return document


def _named(root: HtmlElement, attribute: str) -> str | None:
    """An attribute of the document as a whole."""
    body = root.find("body")
    xml = root.get(f"{{http://www.w3.org/XML/1998/namespace}}{attribute}")
    return root.get(attribute) or xml or (body.get(attribute) if body is not None else None)


def _names_encoding(data: bytes) -> bool:
    return data[:3] == b"\xef\xbb\xbf" or data[:2] in _UTF16 or b"charset" in data[:2048].lower()


def _guess_encoding(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "windows-1252"  # what browsers take for pages that name none
    return "utf-8"


def _content(root: HtmlElement) -> HtmlElement:
    """The part of a page that is about its subject, as far as the page says so."""
    for path in (".//main", './/*[@role="main"]'):
        found = root.findall(path)
        if len(found) == 1:
            return found[0]
    articles = root.findall(".//article")
    if len(articles) == 1:
        return articles[0]
    body = root.find("body")
    return root if body is None else body
