"""Small PDFs for tests, written by hand or by reportlab."""

from __future__ import annotations

import io
from pathlib import Path

from pypdf import PdfReader, PdfWriter
from pypdf.generic import RectangleObject
from reportlab.pdfgen.canvas import Canvas


def write_pdf(
    path: Path,
    lines: list[str] | None = None,
    size: tuple[float, float] = (200, 300),
    pages: int = 1,
) -> Path:
    """Write a PDF with a black square in the top left corner of each page and some text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pdf_bytes(lines or ["hello"], size, pages))
    return path


def pdf_bytes(lines: list[str], size: tuple[float, float], pages: int = 1) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=size)
    for _ in range(pages):
        canvas.rect(0, size[1] - 40, 40, 40, fill=1)
        for row, line in enumerate(lines):
            canvas.drawString(50, size[1] - 60 - 14 * row, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def rewrite(
    path: Path,
    *,
    rotate: int = 0,
    crop: tuple[float, float, float, float] | None = None,
    media: tuple[float, float, float, float] | None = None,
    password: str | None = None,
) -> Path:
    """Change a PDF in place."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(path.read_bytes())))
    for page in writer.pages:
        if rotate:
            page.rotate(rotate)
        if media:
            page.mediabox = RectangleObject(media)
        if crop:
            page.cropbox = RectangleObject(crop)
    if password:
        writer.encrypt(user_password=password)
    with path.open("wb") as stream:
        writer.write(stream)
    return path


def raw_pdf(pages_entries: str, page_entries: str) -> bytes:
    """A one-page PDF with a filled square at the user-space origin and these dictionary entries."""
    content = b"0 0 40 40 re f"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [3 0 R] /Count 1 {pages_entries} >>".encode(),
        f"<< /Type /Page /Parent 2 0 R /Contents 4 0 R {page_entries} >>".encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
    ]
    return _assembled(objects)


def _assembled(objects: list[bytes]) -> bytes:
    """A PDF of these objects, the first of them its catalog."""
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    size = len(objects) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n" % size
    table += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(out))
    return out + table + trailer


def field_pdf(form: bool, xfa: bool = False) -> bytes:
    """A page of 100 x 200 points with a text field whose appearance is a black square of 50 x 50.

    Args:
        form: whether the document has the form that the field belongs to.
        xfa: whether the form has an XFA entry.
    """
    look = b"0 0 50 50 re f"
    entry = b"/XFA (x) " if xfa else b""
    tree = b"/AcroForm << %s/Fields [5 0 R] >>" % entry if form else b""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R %s >>" % tree,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 /MediaBox [0 0 100 200] >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Annots [5 0 R] >>",
        b"<< /Length 0 >>\nstream\n\nendstream",
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (a) /V (x) /F 4 /Rect [10 10 60 60] "
        b"/AP << /N 6 0 R >> >>",
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 50 50] /Length %d >>\nstream\n%s\nendstream"
        % (len(look), look),
    ]
    return _assembled(objects)
