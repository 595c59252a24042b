"""One PDF page to RGB pixels (pypdfium2, behind the fence), the page area of the public recipe.

See docs/formats.md#page-rendering.

The whole MediaBox is drawn, whatever the CropBox says; /Rotate is honoured; the longer side gets
exactly the requested number of pixels and the shorter one is rounded up, as poppler does. Values
of form fields are drawn, also on pages that were cut out of their form.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_raw

from olmrl import storage
from olmrl.data import fence
from olmrl.data.bad_page import BadPage as BadPage
from olmrl.data.bad_page import UnreadPage as UnreadPage
from olmrl.redaction import can_be_written
from olmrl.types import UInt8Array

Area = tuple[float, float, float, float]
"""Left, bottom, right and top, in points."""

MAX_ASPECT = 200.0
"""Longest side over shortest; beyond it the Qwen-VL image processors refuse a page."""

# it recommends other builds of PDFium for XFA forms, without a file name
logging.getLogger("pypdfium2").setLevel(logging.ERROR)

_BEYOND = 1e7
"""Points; a CropBox this large leaves the whole MediaBox."""

_LOAD_REASONS = {
    pdfium_raw.FPDF_ERR_FILE: "cannot be opened",
    pdfium_raw.FPDF_ERR_FORMAT: "not a PDF, truncated, or with zero pages",
    pdfium_raw.FPDF_ERR_PASSWORD: "encrypted, a password is needed",
    pdfium_raw.FPDF_ERR_SECURITY: "encrypted in a way that is not supported",
}


@contextmanager
def open_pdf(
    pdf_path: str, page_number: int = 1, source: str | bytes | None = None
) -> Iterator[pdfium.PdfDocument]:
    """Open a local or remote PDF with at least one page, and close it afterwards.

    Only for what runs behind the fence; whatever PDFium raises meanwhile is a `BadPage`.

    Args:
        pdf_path: Local path or fsspec URL.
        page_number: Page that is wanted, for the message only.
        source: What `_source` made of the path, if it was asked before.

    Raises:
        UnreadPage: no such file, no permission, or another failure of the storage.
        BadPage: empty, encrypted, not a PDF or truncated, zero pages; an error meanwhile.
    """
    try:
        document = pdfium.PdfDocument(source or _source(pdf_path, page_number))
    except pdfium.PdfiumError as error:
        reason = _LOAD_REASONS.get(error.err_code, f"PDFium cannot read it ({error})")
        kind = UnreadPage if error.err_code == pdfium_raw.FPDF_ERR_FILE else BadPage
        raise kind(pdf_path, page_number, reason) from error
    try:
        if len(document) == 0:  # most such files fail to load already
            raise BadPage(pdf_path, page_number, "the PDF has zero pages")
        with fence.untrusted(pdf_path, page_number, "the page cannot be read"):
            yield document
    finally:
        document.close()


def _source(pdf_path: str, page_number: int) -> str | bytes:
    """What PDFium opens: a local path is read lazily, anything else is fetched whole."""
    if not can_be_written(pdf_path):
        raise BadPage(pdf_path, page_number, "its name is not UTF-8 text, or has a zero byte")
    if storage.is_remote(pdf_path):
        try:
            data = storage.read_bytes(pdf_path)
        except OSError as error:
            raise UnreadPage(pdf_path, page_number, _why_unread(error)) from error
        if not data:
            raise BadPage(pdf_path, page_number, "the file is empty")
        return data
    path = pdf_path.removeprefix("file://")
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise UnreadPage(pdf_path, page_number, _why_unread(error)) from error
    if not os.path.isfile(path):
        raise BadPage(pdf_path, page_number, "not a file")
    if size == 0:
        raise BadPage(pdf_path, page_number, "the file is empty")
    return path


def _why_unread(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)


def page_count(pdf_path: str) -> int:
    """Number of pages of a PDF.

    Raises:
        BadPage: the PDF cannot be opened or has zero pages.
    """
    return int(fence.call(_count, pdf_path, 1, _source(pdf_path, 1)))


def _count(pdf_path: str, page_number: int, source: str | bytes) -> int:
    with open_pdf(pdf_path, page_number, source) as document:
        return len(document)


def render_page(pdf_path: str, page_number: int, longest_side: int) -> UInt8Array:
    """Draw one page on white.

    Args:
        pdf_path: Local path or fsspec URL.
        page_number: 1-based page.
        longest_side: Pixels of the longer side.

    Returns:
        [H, W, 3] RGB; max(H, W) == longest_side.

    Raises:
        BadPage: the PDF or the page cannot be read or drawn.
    """
    if longest_side < 1:
        raise ValueError(f"longest_side is {longest_side}, must be >= 1")
    source = _source(pdf_path, page_number)
    pixels: UInt8Array = fence.call(_draw, pdf_path, page_number, longest_side, source)
    return pixels


def _draw(pdf_path: str, page_number: int, longest_side: int, source: str | bytes) -> UInt8Array:
    with open_pdf(pdf_path, page_number, source) as document:
        page, form = _shown(document, load_page_of(document, pdf_path, page_number), page_number)
        width, height = page_box(page)
        longest, shortest = max(width, height), min(width, height)
        if not 0 < longest < float("inf") or longest > MAX_ASPECT * shortest:
            reason = (
                f"page size {width:g} x {height:g} pt; "
                f"sides may differ by a factor of {MAX_ASPECT:g} at most"
            )
            raise BadPage(pdf_path, page_number, reason)
        # the factor keeps ceil() from rounding an exact longer side up by a pixel
        scale = longest_side / longest * (1 - 1e-9)
        bitmap = page.render(scale=scale, rev_byteorder=True, may_draw_forms=form)
        return np.array(bitmap.to_numpy()[:, :, :3])


def load_page_of(document: pdfium.PdfDocument, pdf_path: str, page_number: int) -> pdfium.PdfPage:
    """A page of an open document, its form ready to be drawn.

    Raises:
        BadPage: there is no such page, or it cannot be loaded.
    """
    if not 1 <= page_number <= len(document):
        reason = f"page number out of range, the PDF has {len(document)}"
        raise BadPage(pdf_path, page_number, reason)
    if document.get_formtype() != pdfium_raw.FORMTYPE_NONE:
        document.init_forms()
    try:
        return document[page_number - 1]
    except pdfium.PdfiumError as error:
        raise BadPage(pdf_path, page_number, "the page cannot be loaded") from error


def page_box(page: pdfium.PdfPage) -> tuple[float, float]:
    """Width and height in points of what is drawn of a page: the whole MediaBox, turned by /Rotate.

    PDFium draws the CropBox cut to the MediaBox, and reads an inherited MediaBox only there.
    """
    page.set_cropbox(-_BEYOND, -_BEYOND, _BEYOND, _BEYOND)
    width, height = page.get_size()
    return float(width), float(height)


def drawn_area(page: pdfium.PdfPage) -> Area:
    """Left, bottom, right and top of what is drawn, where the page's text has its coordinates.

    They do not know of /Rotate; the lower left corner of a page need not be (0, 0).
    """
    page_box(page)
    left, bottom, right, top = page.get_bbox()
    return float(left), float(bottom), float(right), float(top)


def as_shown(page: pdfium.PdfPage) -> Callable[[Area], Area]:
    """From where a page's text has its coordinates to where they are seen.

    What it gives is turned by /Rotate, with (0, 0) in the lower left corner of what is drawn.
    """
    left, bottom, right, top = drawn_area(page)
    turned: Callable[[float, float], tuple[float, float]] = {
        0: lambda x, y: (x - left, y - bottom),
        90: lambda x, y: (y - bottom, right - x),
        180: lambda x, y: (right - x, top - y),
        270: lambda x, y: (top - y, x - left),
    }[page.get_rotation()]

    def shown(area: Area) -> Area:
        (x0, y0), (x1, y1) = turned(*area[:2]), turned(*area[2:])
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    return shown


def has_widgets(page: pdfium.PdfPage) -> bool:
    """Whether form fields lie on a page."""
    for index in range(pdfium_raw.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium_raw.FPDFPage_GetAnnot(page, index)
        try:
            if pdfium_raw.FPDFAnnot_GetSubtype(annotation) == pdfium_raw.FPDF_ANNOT_WIDGET:
                return True
        finally:
            pdfium_raw.FPDFPage_CloseAnnot(annotation)
    return False


def flatten(document: pdfium.PdfDocument, page: pdfium.PdfPage, page_number: int) -> pdfium.PdfPage:
    """The page with its fields and notes as part of what is printed on it; changes the document."""
    crop = page.get_cropbox(fallback_ok=False)
    page.set_cropbox(-_BEYOND, -_BEYOND, _BEYOND, _BEYOND)
    box = page.get_bbox()
    page.set_mediabox(*box)  # PDFium would put its default for one that the page inherits
    page.set_cropbox(*(crop or box))
    pdfium_raw.FPDFPage_Flatten(page, pdfium_raw.FLAT_NORMALDISPLAY)
    page.close()
    return document[page_number - 1]


def _shown(
    document: pdfium.PdfDocument, page: pdfium.PdfPage, page_number: int
) -> tuple[pdfium.PdfPage, bool]:
    """The page as it is to be drawn, and whether PDFium draws its fields.

    PDFium draws no fields of a page without a form, as a page has that was cut out of one.
    """
    if document.formenv is None and has_widgets(page):
        return flatten(document, page, page_number), False
    return page, True
