"""Which pages occur in a bench folder: same URL, same bytes, or nearly the same words.

Near-duplicates are found exactly, without sketches: every run of `SHINGLE` words of a bench page is
a key, and a page is reported if it shares enough keys with one bench page.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

SHINGLE = 8
"""Words per key; unrelated pages hardly ever share a run of 8 words."""

MIN_SHARED = 12
"""Fewest shared keys that count (about two lines of text)."""

_TAG = re.compile(r"<[^<>]{0,300}>")
_WORD = re.compile(r"\w+")


class Overlap(NamedTuple):
    """Why a page counts as contaminated."""

    how: str
    """`url`, `pdf` (same bytes) or `text`."""
    bench: str
    """The bench page."""
    share: float
    """Shared keys over the keys of the smaller page (1.0 for url and pdf)."""


def shingles(text: str) -> set[int]:
    """Hashes of all runs of `SHINGLE` words, ignoring tags and case (valid in this process)."""
    words = _WORD.findall(_TAG.sub(" ", text).lower())
    return {hash(tuple(words[i : i + SHINGLE])) for i in range(len(words) - SHINGLE + 1)}


def plain_url(url: str) -> str:
    """A URL without the parts that do not change the document: scheme, host case, fragment."""
    parts = urlsplit(url.strip())
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.netloc.lower()}{parts.path.rstrip('/')}{query}"


class BenchIndex:
    """Everything known about the pages of a bench folder.

    Args:
        urls: (URL, bench page) pairs.
        hashes: (sha256 of the PDF, bench page) pairs.
        texts: (text, bench page) pairs; a page may have several texts.
    """

    def __init__(
        self,
        urls: Iterable[tuple[str, str]],
        hashes: Iterable[tuple[str, str]],
        texts: Iterable[tuple[str, str]],
    ) -> None:
        self.urls = {plain_url(url): page for url, page in urls}
        self.hashes = dict(hashes)
        self.keys: defaultdict[int, list[int]] = defaultdict(list)
        self.names: list[str] = []
        self.sizes: list[int] = []
        for text, page in texts:
            found = shingles(text)
            for key in found:
                self.keys[key].append(len(self.names))
            self.names.append(page)
            self.sizes.append(len(found))

    def by_url(self, url: str | None) -> Overlap | None:
        """The bench page with this URL."""
        page = self.urls.get(plain_url(url)) if url else None
        return Overlap("url", page, 1.0) if page else None

    def by_hash(self, sha256: str) -> Overlap | None:
        """The bench page with these bytes."""
        page = self.hashes.get(sha256)
        return Overlap("pdf", page, 1.0) if page else None

    def by_text(self, text: str, threshold: float) -> Overlap | None:
        """The bench page that shares the most keys, if their share reaches `threshold`."""
        own = shingles(text)
        shared = Counter(page for key in own for page in self.keys.get(key, ()))
        best: Overlap | None = None
        for page, count in sorted(shared.items()):
            share = count / min(len(own), self.sizes[page])
            if count >= MIN_SHARED and share >= threshold and (not best or share > best.share):
                best = Overlap("text", self.names[page], round(share, 4))
        return best
