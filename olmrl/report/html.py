"""The one HTML renderer: turns data into a page without external references.

Model output is untrusted: jinja2 escapes every text, images are data URLs, and the page has a
content security policy that forbids scripts and network access.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import jinja2
from PIL import Image

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


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
class Curves:
    """Small line charts side by side: name -> series name -> (x, y) points."""

    title: str
    charts: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]
    xlabel: str = "step"
    kind: str = "curves"

    def images(self) -> list[tuple[str, str]]:
        """(name, SVG data URL) of each chart."""
        return [(name, chart(series, name, self.xlabel)) for name, series in self.charts.items()]


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


Section: TypeAlias = Text | Table | Curves | PageCard


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Render a whole HTML document."""
    template = _ENVIRONMENT.get_template("page.html")
    return template.render(title=title, subtitle=subtitle, sections=sections)


def chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], name: str, xlabel: str
) -> str:
    """A line chart as an SVG data URL."""
    # Deferred: a second of CPU, and many pages have no chart.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(4.2, 2.6), layout="constrained")
    axes = figure.subplots()
    for label, (x, y) in series.items():
        axes.plot(x, y, label=label, linewidth=1.4, marker="o" if len(x) < 25 else None, ms=3)
    axes.set_title(name, fontsize=9)
    axes.set_xlabel(xlabel, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if len(series) > 1:
        axes.legend(fontsize=7)
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return data_url(stream.getvalue(), "image/svg+xml")


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
