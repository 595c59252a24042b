"""HTML that a model wrote, printed on its paper, and what the print says against it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from olmrl import storage
from olmrl.synth.pdfs.model_html import read_model_html, shown_html, truth_html
from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.proof.layer import TextLayer
from olmrl.synth.proof.objections import page_objection
from olmrl.synth.web import fonts
from olmrl.synth.web.browser import Browser, BrowserFailed

SCALES = (1.0, 0.94, 0.88, 0.82, 0.76, 0.7, 0.64, 0.58, 0.5)
"""Factors on all sizes that are tried until a page fits its paper."""
_TALL = 3
"""Papers that a page that does not fit is printed on, to show how much it has."""
_MOST_CROSSED = 0.02
"""Share of the letters that may lie on others (accents, parts of formulas)."""
_TOUCH = 0.15
"""Share of the smaller of two letters' boxes that the other may cover, as in lines set tight."""
_NEAR = 3
"""Letters so near in the text may touch."""


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
    storage.write_bytes(job.pdf, made)
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
