"""One page through all stages: what is asked, what is printed, and which version stays.

`write_page` is a generator that yields what it needs, a `Question` or a `PrintJob`, and is sent
what came of it; who answers (a chat endpoint page by page, a batch stage by stage) is not its
affair.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from olmrl.mix.pdf import PageImage
from olmrl.mix.pdf_child import PdfPool
from olmrl.synth.asking.asker import Question, Unanswered
from olmrl.synth.cleaning.redact import Redactor
from olmrl.synth.pdfs.likeness import Likeness, likeness
from olmrl.synth.pdfs.model_html import read_model_html, shown_html, truth_html
from olmrl.synth.pdfs.stages import Asked, Layout
from olmrl.synth.pdfs.template_files import Template
from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.proof.layer import TextLayer, page_objection
from olmrl.synth.web import fonts
from olmrl.synth.web.browser import Browser, BrowserFailed

SCALES = (1.0, 0.94, 0.88, 0.82, 0.76, 0.7, 0.64, 0.58, 0.5)
"""Factors on all sizes that are tried until a page fits its paper."""
_TALL = 3
"""Papers that a page that does not fit is printed on, to show how much it has."""
MAX_PAPER = 1600
"""CSS pixels of the longer side of the paper; larger pages are set smaller."""
_MOST_CROSSED = 0.02
"""Share of the letters that may lie on others (accents, parts of formulas)."""
_TOUCH = 0.15
"""Share of the smaller of two letters' boxes that the other may cover, as in lines set tight."""
_NEAR = 3
"""Letters so near in the text may touch."""

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


@dataclass(frozen=True)
class PrintJob:
    """HTML to be printed."""

    html: str
    width: int
    """CSS pixels."""
    height: int
    pdf: str
    """Where to write it."""


@dataclass(frozen=True)
class Printed:
    """What came of it."""

    scale: float
    """Factor on sizes at which it fits; 0 if nothing was printed."""
    faults: tuple[str, ...]
    """Why it is no page to train on; empty: it is one."""


def print_model_page(browser: Browser, job: PrintJob) -> Printed:
    """Print a page and look at it; runs in a process with a browser."""
    page = read_model_html(job.html)
    faults = list(page.faults)
    if letters := fonts.missing(page.body, fonts.installed()):
        package = fonts.advice(letters)
        faults.append(f"no font here has {letters[:8]!r} (Debian's package: {package})")
    made, scale = None, SCALES[-1]
    try:
        for scale in SCALES:
            html = shown_html(page, job.width, job.height, scale)
            made = browser.print_page(html, job.width, job.height)
            if made is not None:
                break
        else:
            faults.append(f"the page does not fit on its paper, even at {scale:g} of its sizes")
            tall = job.height * _TALL
            made = browser.print_page(shown_html(page, job.width, tall, 1.0), job.width, tall)
    except BrowserFailed as error:
        return Printed(0.0, (*faults, str(error)))
    if made is None:
        return Printed(0.0, tuple(faults))
    Path(job.pdf).parent.mkdir(parents=True, exist_ok=True)
    Path(job.pdf).write_bytes(made)
    if not faults:
        faults += _seen_faults(job.pdf, truth_html(page))
    return Printed(scale, tuple(faults))


def _seen_faults(pdf: str, truth: str) -> Iterator[str]:
    """What the page itself says against it."""
    layer = TextLayer.of(pdf)
    read = read_html(truth)
    if objection := page_objection(layer, read.markdown, read.furniture):
        yield objection
    crossed = crossed_letters(layer)
    if crossed > _MOST_CROSSED * max(1, len(layer.boxes)):
        yield f"{crossed} of {len(layer.boxes)} letters stand on others"


def crossed_letters(layer: TextLayer) -> int:
    """How many letters share more than a touch of their box with a letter elsewhere in the text."""
    left, bottom, right, top = np.array(layer.boxes, dtype=np.float32).reshape(-1, 4).T
    area = (right - left) * (top - bottom)
    crossed = 0
    for start in range(0, len(area), 256):
        rows = np.arange(start, min(start + 256, len(area)))[:, None]
        wide = np.minimum(right[rows], right) - np.maximum(left[rows], left)
        high = np.minimum(top[rows], top) - np.maximum(bottom[rows], bottom)
        shared = wide.clip(min=0) * high.clip(min=0)
        over = (shared > 0) & (shared > _TOUCH * np.minimum(area[rows], area))
        over &= np.abs(rows - np.arange(len(area))) > _NEAR
        crossed += int(over.any(axis=1).sum())
    return crossed


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
