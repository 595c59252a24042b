"""What mix does with a PDF or a page image; every function runs in a child process (`data.fence`).

The first argument names the file; all arguments and results can be pickled. Bad files raise
`BadPage` (data.render).
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import random
import re
from dataclasses import dataclass

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_raw
from PIL import Image

from olmrl.data.fence import untrusted
from olmrl.data.render import (
    BadPage,
    flatten,
    has_widgets,
    load_page_of,
    open_pdf,
    page_box,
    render_page,
)

PNG_LEVEL = 3
"""zlib level of page PNGs: for rendered text, the fastest and the smallest of 1 to 9."""

MAX_PIXELS = 400_000_000
"""Largest downloaded image that is decoded (20,000 x 20,000); larger ones are refused."""

MAX_JPEG_BYTES = 1_500_000
"""Target size in bytes when a TIFF or JPEG 2000 becomes a JPEG."""

Image.MAX_IMAGE_PIXELS = MAX_PIXELS


@dataclass(frozen=True)
class PageImage:
    """One encoded page image."""

    data: bytes
    """PNG or WEBP file."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""


def page_image(path: str, page: int, side: int, form: str = "png") -> PageImage:
    """Render one page so that its longer side has `side` pixels."""
    pixels = render_page(path, page, side)
    return PageImage(encode_image(pixels, form), pixels.shape[1], pixels.shape[0])


def encode_image(pixels: np.ndarray, form: str) -> bytes:
    """Write RGB pixels as `png` or `webp` (lossy, quality 80)."""
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    if form == "png":
        image.save(out, "PNG", compress_level=PNG_LEVEL)
    elif form == "webp":
        image.save(out, "WEBP", quality=80)
    else:
        raise ValueError(f"image format is {form!r}, must be png or webp")
    return out.getvalue()


def single_page_image(path: str, side: int) -> PageImage:
    """Render the only page of a one-page PDF.

    Raises:
        BadPage: it is unreadable, or has more than one page.
    """
    with open_pdf(path) as document:
        if len(document) != 1:
            raise BadPage(path, 1, f"has {len(document)} pages, must have exactly one")
    return page_image(path, 1, side)


def anchored_page(path: str, side: int, limit: int | None) -> tuple[PageImage, str]:
    """The only page of a one-page PDF, and its anchor text.

    Args:
        path: The PDF.
        side: Pixels of the longer side.
        limit: Most characters of anchor text; None: none.

    Raises:
        BadPage: it is unreadable, or has more than one page.
    """
    image = single_page_image(path, side)
    if limit is None:
        return image, ""
    from olmrl.data.anchor import anchor_text  # noqa: PLC0415  (pypdf: half a second of CPU)

    return image, anchor_text(path, 1, limit)


def count_pages(path: str) -> int:
    """Number of pages."""
    with open_pdf(path) as document:
        return len(document)


def cut_pages(path: str, pages: tuple[int, ...]) -> dict[int, bytes]:
    """Write each of the given 1-based pages as a PDF; a page out of range raises `BadPage`."""
    with open_pdf(path) as document:
        return {page: _cut(document, path, page) for page in pages}


def _cut(document: pdfium.PdfDocument, path: str, page: int) -> bytes:
    loaded = load_page_of(document, path, page)
    if has_widgets(loaded):
        # the form, which says how fields look, stays behind
        flatten(document, loaded, page)
    single = pdfium.PdfDocument.new()
    try:
        single.import_pages(document, [page - 1])
        out = io.BytesIO()
        single.save(out)
    except pdfium.PdfiumError as error:
        raise BadPage(path, page, f"the page cannot be extracted ({error})") from error
    finally:
        single.close()
    return _without_stamp(out.getvalue())


def _without_stamp(data: bytes) -> bytes:
    """The same PDF without PDFium's date and random id, so that repeating gives the same bytes."""
    date = data.find(b"/CreationDate(D:")
    if 0 <= date < 1024:
        data = data[: date + 16] + b"20000101000000" + data[date + 30 :]
    mark = data.rfind(b"/ID[<")
    if mark > len(data) - 1024:
        body = hashlib.md5(data[:mark], usedforsecurity=False).hexdigest().upper().encode("ascii")
        data = data[:mark] + b"/ID[<" + body + b"><" + body + b">]" + data[mark + 73 :]
    return data


_IDS_AT_END = re.compile(rb"/ID\[<[0-9A-Fa-f]*><([0-9A-Fa-f]{32})>\]")


def turned(path: str, degrees: int) -> bytes:
    """The PDF with all its pages turned clockwise; repeating gives the same bytes.

    Args:
        path: The PDF.
        degrees: 90, 180 or 270.
    """
    with open_pdf(path) as document:
        for number in range(len(document)):
            page = load_page_of(document, path, number + 1)
            page.set_rotation((page.get_rotation() + degrees) % 360)
        out = io.BytesIO()
        document.save(out)
    data = out.getvalue()
    found = list(_IDS_AT_END.finditer(data, max(0, len(data) - 1024)))
    if not found:
        return data
    # PDFium draws the second id at random; the first one may be part of an encryption key
    start, end = found[-1].span(1)
    digest = hashlib.md5(data[:start], usedforsecurity=False).hexdigest().upper().encode("ascii")
    return data[:start] + digest + data[end:]


def page_text(path: str, page: int) -> str:
    """The text layer of one page."""
    with open_pdf(path, page) as document:
        return text_of(load_page_of(document, path, page))


def text_of(page: pdfium.PdfPage) -> str:
    """The text layer of a loaded page, as far as the page is drawn."""
    page_box(page)
    return str(page.get_textpage().get_text_bounded())


def page_size(path: str) -> tuple[float, float]:
    """Width and height in points of the first page, as displayed."""
    with open_pdf(path) as document:
        return page_box(load_page_of(document, path, 1))


def has_text_fields(document: pdfium.PdfDocument, path: str) -> bool:
    """Whether any page has a text field to fill in."""
    if document.get_formtype() == pdfium_raw.FORMTYPE_NONE:
        return False
    document.init_forms()
    form = document.formenv
    pages = (load_page_of(document, path, number + 1) for number in range(len(document)))
    return any(_page_has_field(form, page) for page in pages)


def _page_has_field(form: pdfium.PdfFormEnv | None, page: pdfium.PdfPage) -> bool:
    if form is None:
        return False
    for index in range(pdfium_raw.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium_raw.FPDFPage_GetAnnot(page, index)
        try:
            kind = pdfium_raw.FPDFAnnot_GetFormFieldType(form, annotation)
        finally:
            pdfium_raw.FPDFPage_CloseAnnot(annotation)
        if ctypes.c_int(kind).value == pdfium_raw.FPDF_FORMFIELD_TEXTFIELD:
            return True
    return False


def choose_pages(count: int, first: int, most: int, seed: str) -> tuple[int, ...]:
    """Pages to take from a PDF: the first `first`, then random ones up to `most`.

    Args:
        count: Pages the PDF has.
        first: Pages always taken from the front.
        most: Maximum number of pages.
        seed: Any text; the same text gives the same pages.

    Returns:
        1-based page numbers, ascending.
    """
    always = list(range(1, min(first, most, count) + 1))
    others = list(range(len(always) + 1, count + 1))
    extra = min(most - len(always), len(others))
    return tuple(sorted(always + random.Random(seed).sample(others, extra)))


def image_to_pdf(name: str, data: bytes) -> bytes:
    """Wrap one page image in a one-page PDF; JPEG and PNG bytes are kept as they are.

    TIFF and JPEG 2000 become RGB JPEG: quality 98, lowered by 5 while the file is larger than
    `MAX_JPEG_BYTES`, but not below 70.

    Raises:
        BadPage: not an image, too many pixels, or several frames.
    """
    import img2pdf  # noqa: PLC0415  (optional extra, which reading a PDF does not need)

    with untrusted(name, 1, "not a readable image"):
        with Image.open(io.BytesIO(data)) as image:
            frames = getattr(image, "n_frames", 1)
            kind = image.format
            if image.width * image.height > MAX_PIXELS:
                raise BadPage(name, 1, f"{image.width} x {image.height} pixels is too large")
            if frames != 1:
                raise BadPage(name, 1, f"the image has {frames} frames, must have exactly one")
            plain = kind in ("JPEG", "PNG") and image.mode in ("RGB", "L", "1")
            page = data if plain else _as_jpeg(image)
        return bytes(
            img2pdf.convert(
                page,
                engine=img2pdf.Engine.internal,  # the others write a random id
                nodate=True,
                rotation=img2pdf.Rotation.ifvalid,
            )
        )


def _as_jpeg(image: Image.Image) -> bytes:
    pixels = image.convert("RGB")
    quality = 98
    while True:
        out = io.BytesIO()
        pixels.save(out, "JPEG", quality=quality)
        if out.tell() <= MAX_JPEG_BYTES or quality - 5 < 70:
            return out.getvalue()
        quality -= 5


def png_size(head: bytes) -> tuple[int, int]:
    """Width and height from the first 24 bytes of a PNG, without decoding it.

    Raises:
        ValueError: not a PNG, or fewer than 24 bytes.
    """
    if head[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("not a PNG: the signature is missing")
    if len(head) < 24 or head[12:16] != b"IHDR":
        raise ValueError("a PNG cut off before its size")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
