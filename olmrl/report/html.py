"""The one HTML renderer: turns data into a page without external references.

Model output is untrusted: jinja2 escapes every text, images are data URLs, and the page has a
content security policy that forbids scripts and network access.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import jinja2
from PIL import Image

TEMPLATES = Path(__file__).parent / "templates"
environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
"""Of all templates of this room."""


@dataclass(frozen=True, slots=True)
class Text:
    """A heading with paragraphs."""

    title: str
    paragraphs: tuple[str, ...] = ()
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """A table; cells are shown as text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    note: str = ""
    kind: str = "table"


@dataclass(frozen=True, slots=True)
class Transcription:
    """One transcription of a page."""

    title: str
    text: str
    facts: tuple[tuple[str, str], ...] = ()
    """Label and value, e.g. each reward."""
    checks: tuple[tuple[bool, str, str], ...] = ()
    """Passed, what was checked, why."""


@dataclass(frozen=True, slots=True)
class PageCard:
    """A page image next to its truth and transcriptions."""

    title: str
    image: str | None
    """Data URL."""
    truth: str | None
    transcripts: tuple[Transcription, ...] = field(default_factory=tuple)
    kind: str = "sample"


Section: TypeAlias = Text | Table | PageCard


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Render a whole HTML document."""
    template = environment.get_template("page.html")
    return template.render(title=title, subtitle=subtitle, sections=sections)


def data_url(data: bytes, media_type: str) -> str:
    """Bytes as a `data:` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def picture(path: Path, longest_side: int = 1000) -> str:
    """An image file as a data URL, scaled down to the given longest side."""
    with Image.open(path) as image:
        image.thumbnail((longest_side, longest_side))
        stream = io.BytesIO()
        image.convert("RGB").save(stream, format="WEBP", quality=85)
    return data_url(stream.getvalue(), "image/webp")
