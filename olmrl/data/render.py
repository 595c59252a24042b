"""One PDF page to RGB pixels, in process (pypdfium2), the page area of the public recipe.

See docs/formats.md#page-rendering.

The whole MediaBox is drawn, whatever the CropBox says; /Rotate is honoured; the longer side gets
exactly the requested number of pixels and the shorter one is rounded up, as poppler does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_raw

from olmrl import storage
from olmrl.types import UInt8Array

MAX_ASPECT = 200.0
"""Longest side over shortest; beyond it the Qwen-VL image processors refuse a page."""

_BEYOND = 1e7
"""Points; a CropBox this large leaves the whole MediaBox."""

_LOAD_REASONS = {
    pdfium_raw.FPDF_ERR_FILE: "cannot be opened",
    pdfium_raw.FPDF_ERR_FORMAT: "not a PDF, truncated, or with zero pages",
    pdfium_raw.FPDF_ERR_PASSWORD: "encrypted, a password is needed",
    pdfium_raw.FPDF_ERR_SECURITY: "encrypted in a way that is not supported",
}


class BadPage(ValueError):
    """A page that cannot be used. Picklable; a value in data streams, an error elsewhere."""

    def __init__(self, path: str, page_number: int, reason: str) -> None:
        super().__init__(path, page_number, reason)
        self.path = path
        self.page_number = page_number
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}, page {self.page_number}: {self.reason}"


class UnreadPage(BadPage):
    """A page whose file could not be read this time; what it holds is not known."""


@contextmanager
def open_pdf(pdf_path: str, page_number: int = 1) -> Iterator[pdfium.PdfDocument]:
    """Open a local or remote PDF with at least one page, and close it afterwards.

    Args:
        pdf_path: Local path or fsspec URL.
        page_number: Page that is wanted, for the message only.

    Raises:
        UnreadPage: no such file, no permission, or another failure of the storage.
        BadPage: empty, encrypted, not a PDF or truncated, zero pages.
    """
    source = _source(pdf_path, page_number)
    try:
        document = pdfium.PdfDocument(source)
    except pdfium.PdfiumError as error:
        reason = _LOAD_REASONS.get(error.err_code, f"PDFium cannot read it ({error})")
        kind = UnreadPage if error.err_code == pdfium_raw.FPDF_ERR_FILE else BadPage
        raise kind(pdf_path, page_number, reason) from error
    try:
        if len(document) == 0:  # most such files fail to load already
            raise BadPage(pdf_path, page_number, "the PDF has zero pages")
        yield document
    finally:
        document.close()


def _source(pdf_path: str, page_number: int) -> str | bytes:
    """What PDFium opens: a local path is read lazily, anything else is fetched whole."""
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
    with open_pdf(pdf_path) as document:
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
    with open_pdf(pdf_path, page_number) as document:
        if not 1 <= page_number <= len(document):
            reason = f"page number out of range, the PDF has {len(document)}"
            raise BadPage(pdf_path, page_number, reason)
        if document.get_formtype() != pdfium_raw.FORMTYPE_NONE:
            document.init_forms()
        try:
            page = document[page_number - 1]
        except pdfium.PdfiumError as error:
            raise BadPage(pdf_path, page_number, "the page cannot be loaded") from error
        # PDFium draws the CropBox cut to the MediaBox, and reads an inherited MediaBox only there
        page.set_cropbox(-_BEYOND, -_BEYOND, _BEYOND, _BEYOND)
        width, height = page.get_size()
        longest, shortest = max(width, height), min(width, height)
        if not 0 < longest < float("inf") or longest > MAX_ASPECT * shortest:
            reason = (
                f"page size {width:g} x {height:g} pt; "
                f"sides may differ by a factor of {MAX_ASPECT:g} at most"
            )
            raise BadPage(pdf_path, page_number, reason)
        # the factor keeps ceil() from rounding an exact longer side up by a pixel
        scale = longest_side / longest * (1 - 1e-9)
        bitmap = page.render(scale=scale, rev_byteorder=True)
        return np.array(bitmap.to_numpy()[:, :, :3])
