"""What decides the pages of users' documents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from olmrl import storage
from olmrl.synth.making.extras import Extras


@dataclass(frozen=True)
class Kind:
    """A kind of documents that can be had as HTML."""

    name: str
    verb: str
    """Of the command."""
    suffixes: tuple[str, ...]
    read: Callable[[str], bytes]
    """HTML of a document, by its path. Raises ValueError with the reason that it has none."""


HTML = Kind("HTML file", "from-html", (".html", ".htm", ".xhtml"), storage.read_bytes)


@dataclass(frozen=True)
class Settings:
    """What decides the pages."""

    seed: int = 0
    pages_per_document: int = 4
    """Most pages of one document, drawn by seed."""
    documents: int | None = None
    """Most documents, drawn by seed; None: all."""
    most_tests: int = 40
    """Most tests of a page."""
    language: str = "en"
    """Two letters, of documents in Latin letters that name no language."""
    extras: Extras = field(default_factory=Extras)
