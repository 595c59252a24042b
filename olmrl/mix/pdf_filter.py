"""Which PDFs of a crawl are worth sampling, and which of their pages.

The rules are in docs/formats.md#filtering-pdfs.

Runs in child processes (`data.fence`); language models load with the first text that needs them.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import re
from dataclasses import dataclass

import pypdfium2 as pdfium
from lingua import LanguageDetector, LanguageDetectorBuilder

from olmrl import storage
from olmrl.data.render import BadPage, UnreadPage, load_page_of, open_pdf
from olmrl.errors import is_of_machine
from olmrl.mix import files, pdf

MAX_PDF_BYTES = 512 << 20
"""Larger files are left out: scanned books, where one page is not worth the transfer."""

TEXT_PAGES = 5
"""Number of leading pages whose text decides."""

MIN_CHARACTERS = 200
"""With fewer characters there is too little text to judge, so the PDF is kept."""

MIN_LETTERS = 0.5
"""Share of letters below which the text is not prose, so the PDF is kept."""

LANGUAGE_CHARACTERS = 20_000
"""Number of characters given to the language detector."""

SPAM_WORDS = frozenset(
    (
        *("download", "pdf", "epub", "mobi", "free", "ebook", "file", "save"),
        *("casino", "viagra", "cialis", "ciprofloxacin"),
    )
)
"""Words whose share identifies search-engine spam."""


@dataclass(frozen=True)
class Rules:
    """What is kept."""

    languages: tuple[str, ...] | None
    """Two-letter codes; None keeps all."""
    forms: bool
    """Keep PDFs with text fields to fill in."""
    spam_share: float | None
    """Share of `SPAM_WORDS` above which a PDF is dropped; None keeps all."""


@dataclass(frozen=True)
class Sampled:
    """The pages taken from one PDF."""

    sha1: str
    """Hash of the whole PDF."""
    page_count: int
    """Number of pages in the PDF."""
    pages: dict[int, bytes]
    """1-based page -> single-page PDF."""


def sample_pdf(path: str, rules: Rules | None, first: int, most: int, seed: int) -> Sampled:
    """Judge a PDF and extract its sampled pages.

    Args:
        path: Local path or URL.
        rules: What is kept; None keeps every readable PDF.
        first: Pages always taken from the front.
        most: Maximum number of pages.
        seed: Together with the content's hash, fixes the random pages.

    Raises:
        BadPage: unreadable, too large, or rejected by the rules; the reason says which.
    """
    try:
        storage.refuse_stream(path)
        size = files.size_of(path)
    except OSError as error:
        raise _unread(path, error) from error
    if size > MAX_PDF_BYTES:
        raise BadPage(path, 0, f"{size} bytes, more than {MAX_PDF_BYTES}")
    with files.fetched(path) as local:
        sha1 = hashlib.sha1(_content(path, local), usedforsecurity=False).hexdigest()
        with open_pdf(local) as document:
            count = len(document)
            reason = rejection(document, local, rules) if rules else None
        if reason:
            raise BadPage(path, 0, reason)
        chosen = pdf.choose_pages(count, first, most, f"{seed} {sha1}")
        return Sampled(sha1, count, pdf.cut_pages(local, chosen))


def _content(path: str, local: str) -> bytes:
    """A file's bytes; one that this user may not read, or that is none, is its own failure."""
    try:
        return storage.read_bytes(local)
    except OSError as error:
        if is_of_machine(error):
            raise
        raise _unread(path, error) from error


def _unread(path: str, error: OSError) -> BadPage:
    """A file that is not there, or no file, never can be read; any other perhaps later."""
    never = error.errno in (errno.ENOENT, errno.ELOOP, errno.EINVAL)
    kind = BadPage if never else UnreadPage
    return kind(path, 0, f"cannot be read ({error.strerror or error})")


def rejection(document: pdfium.PdfDocument, path: str, rules: Rules) -> str | None:
    """Why the rules reject a PDF, or None."""
    if not rules.forms and pdf.has_text_fields(document, path):
        return "has a form to fill in"
    numbers = range(1, min(TEXT_PAGES, len(document)) + 1)
    text = "\n".join(pdf.text_of(load_page_of(document, path, number)) for number in numbers)
    if len(text) < MIN_CHARACTERS:
        return None
    if sum(map(str.isalpha, text)) / len(text) < MIN_LETTERS:
        return None
    if rules.languages is not None:
        found = language_of(text)
        if found not in rules.languages:
            return f"language {found}"
    if rules.spam_share is not None and spam_share(text) > rules.spam_share:
        return f"spam words ({spam_share(text):.1%})"
    return None


def spam_share(text: str) -> float:
    """Share of spam words among all words."""
    words = [word for word in re.split(r"\W+", text.lower()) if word]
    return sum(word in SPAM_WORDS for word in words) / max(1, len(words))


def language_of(text: str) -> str | None:
    """Two-letter code of the main language, or None if no language is likely."""
    found = _detector().detect_language_of(text[:LANGUAGE_CHARACTERS])
    return None if found is None else found.iso_code_639_1.name.lower()


@functools.cache
def _detector() -> LanguageDetector:
    # Trigram models only, in a tenth of the memory: these texts are long enough.
    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()
