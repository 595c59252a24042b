"""PDFs to mutate: made here, the same bytes each time, and those that come with matplotlib."""

from __future__ import annotations

import io
import random
from pathlib import Path

import matplotlib
from PIL import Image
from pypdf import PdfReader, PdfWriter
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from olmrl.synth.invented.sheet import STYLES, draw, invent

_PROSE = (
    "The harbour commission met on the third of May to hear the report of its engineer.",
    "He found the eastern pier sound, the western one in want of new timber.",
    "A sum of four hundred and twelve pounds was set aside for the purpose.",
    "Members asked whether the work could be done before the autumn gales.",
)


def pdf_seeds(folder: str | None = None) -> dict[str, bytes]:
    """PDFs by name.

    Args:
        folder: take its PDFs instead, those of at most 300 kB.
    """
    if folder is not None:
        paths = sorted(Path(folder).rglob("*.[pP][dD][fF]"))
        return {str(p): p.read_bytes() for p in paths if p.stat().st_size <= 300_000}
    made = {
        "prose": _drawn(_prose, pages=1),
        "book": _drawn(_prose, pages=6),
        "form": _drawn(_form),
        "picture": _drawn(_picture),
        "graphics": _drawn(_graphics),
        "plain_streams": _drawn(_prose, compress=0),
        "locked": _drawn(_prose, encrypt=StandardEncryption("", ownerPassword="o", strength=128)),
    }
    made["turned"] = _turned(made["prose"])
    for difficulty in sorted(STYLES):
        rng = random.Random(difficulty)
        style = STYLES[difficulty]
        made[f"sheet_{difficulty}"] = draw(invent(rng, style), style, rng)
    icons = Path(matplotlib.get_data_path(), "images")
    made |= {path.stem: path.read_bytes() for path in sorted(icons.glob("*.pdf"))}
    return made


def _drawn(paint, *, pages: int = 1, compress: int = 1, encrypt=None) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, (420, 595), pageCompression=compress, invariant=1, encrypt=encrypt)
    for number in range(pages):
        paint(canvas, number)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _prose(canvas: Canvas, number: int) -> None:
    canvas.setFont("Times-Roman", 9)
    canvas.drawString(40, 570, "Proceedings of the Harbour Commission")
    for row in range(24):
        canvas.drawString(40, 540 - 20 * row, _PROSE[(row + number) % len(_PROSE)])
    canvas.drawString(200, 20, str(number + 1))
    canvas.bookmarkPage(f"p{number}")
    canvas.addOutlineEntry(f"Page {number + 1}", f"p{number}", 0)


def _form(canvas: Canvas, number: int) -> None:
    _prose(canvas, number)
    form = canvas.acroForm
    form.textfield(name="name", value="Ada", x=60, y=60, width=120, height=20)
    form.checkbox(name="yes", checked=True, x=200, y=60)
    form.choice(name="town", value="Ulm", options=["Ulm", "Bonn"], x=240, y=60, width=80, height=20)


def _picture(canvas: Canvas, number: int) -> None:
    noise = random.Random(7).randbytes(64 * 48 * 3)
    image = Image.frombytes("RGB", (64, 48), noise)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG")
    canvas.drawImage(ImageReader(jpeg), 40, 300, 320, 240)
    canvas.drawInlineImage(image, 40, 40, 100, 80)
    canvas.drawImage(ImageReader(image.convert("RGBA")), 160, 40, 100, 80, mask="auto")


def _graphics(canvas: Canvas, number: int) -> None:
    canvas.beginForm("leaf")
    canvas.bezier(0, 0, 20, 40, 40, 40, 60, 0)
    canvas.endForm()
    for turn in range(6):
        canvas.saveState()
        canvas.translate(200, 300)
        canvas.rotate(60 * turn)
        canvas.doForm("leaf")
        canvas.restoreState()
    canvas.linearGradient(40, 40, 200, 200, ("red", "blue"))
    canvas.linkURL("https://example.org/", (40, 500, 200, 540))
    canvas.setFont("Symbol", 14)
    canvas.drawString(40, 510, "abc")


def _turned(data: bytes) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.pages[0].rotate(90)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()
