"""The licence that an HTML document states, as far as a machine can read it."""

from __future__ import annotations

import re

from lxml import etree
from lxml.html import HTMLParser, document_fromstring

_NAMES = (
    *("license", "licence", "dcterms.license", "dc.license", "og:license", "citation_license"),
    *("dcterms.rights", "dc.rights", "rights", "copyright"),
)
"""Names of `<meta>` that state a licence, the clearest first."""
_MOST = 300


def licence_of(data: bytes) -> str | None:
    """What a document says of its licence: a link `rel=license`, or a `<meta>`; None without.

    Args:
        data: The HTML file; only its first 2 MB are read.
    """
    try:
        root = document_fromstring(data[:2_000_000], parser=HTMLParser(huge_tree=False))
    except (etree.LxmlError, ValueError, AssertionError):
        return None
    for element in root.iter("link", "a"):
        if {"license", "licence"} & set((element.get("rel") or "").lower().split()):
            return _short(element.get("href") or element.text_content())
    said: dict[str, str] = {}
    for meta in root.iter("meta"):
        name = (meta.get("name") or meta.get("property") or "").lower()
        said.setdefault(name, meta.get("content") or "")
    return next((_short(said[name]) for name in _NAMES if said.get(name, "").strip()), None)


def _short(text: str) -> str | None:
    return re.sub(r"\s+", " ", text).strip()[:_MOST] or None
