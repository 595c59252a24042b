"""One page through all stages: what is asked, what is printed, and which version stays.

`write_page` is a generator that yields what it needs, a `Question` or a `PrintJob`, and is sent
what came of it; who answers (a chat endpoint page by page, a batch stage by stage) is not its
affair.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from olmrl.mix.pdf import PageImage
from olmrl.mix.pdf_child import PdfPool
from olmrl.synth.asking.question import Question, Unanswered
from olmrl.synth.asking.template import Template
from olmrl.synth.cleaning.redact import Redactor
from olmrl.synth.pdfs.likeness import Likeness, likeness
from olmrl.synth.pdfs.model_html import read_model_html
from olmrl.synth.pdfs.printing import Printed, PrintJob
from olmrl.synth.pdfs.stages import Asked, Layout

MAX_PAPER = 1600
"""CSS pixels of the longer side of the paper; larger pages are set smaller."""

Need = Any
"""A `Question` or a `PrintJob`."""


class Dropped(Exception):
    """A page that cannot be made; the argument is the reason."""


@dataclass(frozen=True)
class SourcePage:
    """A real page."""

    name: str
    """Content id."""
    pdf: str
    """One-page PDF, local."""
    source: str
    """The PDF that it is from."""
    number: int
    """Page in it, from 1."""


@dataclass
class Version:
    """HTML with what came of its print."""

    html: str
    job: PrintJob
    printed: Printed


@dataclass
class Made:
    """A page that was made."""

    name: str
    html: str
    pdf: str
    """Its print."""
    turn: int
    """Degrees clockwise by which the source was turned."""
    width: int
    height: int
    scale: float
    language: str
    columns: int
    """As the model saw them."""
    stages: list[str]
    """Whose answers it shows."""
    likeness: Likeness
    source_picture: bytes
    """JPEG."""
    left: Counter[str] = field(default_factory=Counter)
    """What of the HTML was left behind."""


@dataclass(frozen=True)
class Studio:
    """What pages are made with."""

    pool: PdfPool
    templates: dict[str, Template]
    side: int
    """Pixels of the longer side of pictures."""
    densify: bool
    prints: str
    """Folder for prints."""
    redact: bool = False
    """Mask personal data in HTML before it is printed."""

    def picture(self, pdf: str, turn: int = 0) -> bytes:
        """A page as PNG, turned clockwise."""
        image: PageImage = self.pool.call("page_image", pdf, 1, self.side)
        if not turn:
            return image.data
        out = io.BytesIO()
        _open(image.data).rotate(-turn, expand=True).save(out, "PNG", compress_level=3)
        return out.getvalue()

    def paper(self, page: SourcePage) -> tuple[int, int]:
        """CSS pixels of a page as it lies in its PDF."""
        width, height = self.pool.call("page_size", page.pdf)
        scale = min(4 / 3, MAX_PAPER / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


def write_page(page: SourcePage, studio: Studio) -> Generator[Need, Any, Made]:
    """Make one page.

    Raises:
        Dropped: it cannot be made.
        Unanswered: a question that it needs was not answered.
        BadPage: the source cannot be read.
    """
    asked = _asked(page, studio, 0)
    standing = yield asked.orientation(lambda: [studio.picture(page.pdf)])
    if standing.is_blank:
        raise Dropped("there is nothing to read on it")
    if not standing.is_legible:
        raise Dropped("most of its text cannot be read with certainty")
    turn = standing.turn
    asked = _asked(page, studio, turn)
    source = partial(studio.picture, page.pdf, turn)
    layout: Layout = yield asked.layout(turn, lambda: [source()])
    html = yield asked.html(turn, layout, lambda: [source()])
    version = yield from _print(asked, html, studio, "html")
    stages = ["html"]
    first = version
    question = asked.refine(
        turn,
        version.html,
        _to_mend(version, layout),
        lambda: [source(), _look(studio, first, source)],
    )
    version = yield from _again(question, asked, studio, version)
    if version is not first:
        stages.append("refine")
    if studio.densify and not version.printed.faults:
        whole = version
        question = asked.densify(version.html, lambda: [studio.picture(whole.job.pdf)])
        version = yield from _again(question, asked, studio, version)
        if version is not whole:
            stages.append("densify")
    if version.printed.faults:
        raise Dropped(version.printed.faults[0])
    return _made(page, version, studio, asked, turn, layout, stages)


def _asked(page: SourcePage, studio: Studio, turn: int) -> Asked:
    width, height = studio.paper(page)
    if turn in (90, 270):
        width, height = height, width
    return Asked(page.name, studio.templates, studio.side, width, height)


def _print(asked: Asked, html: str, studio: Studio, stage: str) -> Generator[Need, Any, Version]:
    if studio.redact:
        html = _redacted(html)
    pdf = str(Path(studio.prints) / f"{asked.page}.{stage}.pdf")
    job = PrintJob(html, asked.width, asked.height, pdf)
    printed = yield job
    return Version(html, job, printed)


def _redacted(html: str) -> str:
    try:
        return Redactor().html(html)
    except ValueError as error:
        raise Dropped(str(error)) from error


def _to_mend(version: Version, layout: Layout) -> list[str]:
    """What a model should be told about its own page."""
    told = list(version.printed.faults)
    language = read_model_html(version.html).language
    if layout.language and layout.language != language:
        told.append(f'lang is "{language}", but the page is in "{layout.language}"')
    return told


def _look(studio: Studio, version: Version, source: partial[bytes]) -> bytes:
    """The print of a version; of one that could not be printed, the source once more."""
    return studio.picture(version.job.pdf) if version.printed.scale else source()


def _again(
    question: Question, asked: Asked, studio: Studio, version: Version
) -> Generator[Need, Any, Version]:
    """The next version if it is a page, or if the one before is none either."""
    try:
        html = yield question
    except Unanswered:
        return version
    following = yield from _print(asked, html, studio, question.stage)
    if following.printed.faults and not version.printed.faults:
        return version
    return following


def _made(
    page: SourcePage,
    version: Version,
    studio: Studio,
    asked: Asked,
    turn: int,
    layout: Layout,
    stages: list[str],
) -> Made:
    source, render = (
        _open(studio.picture(pdf, angle)) for pdf, angle in ((page.pdf, turn), (version.job.pdf, 0))
    )
    picture = io.BytesIO()
    source.convert("RGB").save(picture, "JPEG")
    model_page = read_model_html(version.html)
    return Made(
        name=page.name,
        html=version.html,
        pdf=version.job.pdf,
        turn=turn,
        width=asked.width,
        height=asked.height,
        scale=version.printed.scale,
        language=model_page.language,
        columns=layout.columns,
        stages=stages,
        likeness=likeness(source, render),
        source_picture=picture.getvalue(),
        left=model_page.left,
    )


def _open(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))
