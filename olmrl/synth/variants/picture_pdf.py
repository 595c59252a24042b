"""One-page PDFs made of a picture, and PDFs turned as they are; the same input, the same bytes."""

from __future__ import annotations

import io

from PIL import Image
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject, NumberObject


def picture_pdf(jpeg: bytes, width: float, height: float) -> bytes:
    """A page without a text layer that a JPEG fills.

    Args:
        jpeg: Grey or RGB.
        width: Points.
        height: Points.
    """
    picture = Image.open(io.BytesIO(jpeg))
    writer = PdfWriter()
    page = writer.add_blank_page(width, height)
    image = DecodedStreamObject()
    image.set_data(jpeg)
    space = "/DeviceGray" if picture.mode == "L" else "/DeviceRGB"
    image.update(
        {
            NameObject("/Type"): NameObject("/XObject"),
            NameObject("/Subtype"): NameObject("/Image"),
            NameObject("/Width"): NumberObject(picture.width),
            NameObject("/Height"): NumberObject(picture.height),
            NameObject("/ColorSpace"): NameObject(space),
            NameObject("/BitsPerComponent"): NumberObject(8),
            NameObject("/Filter"): NameObject("/DCTDecode"),
        }
    )
    drawing = DecodedStreamObject()
    drawing.set_data(f"{width:g} 0 0 {height:g} 0 0 cm /Page Do".encode("ascii"))
    named = DictionaryObject({NameObject("/Page"): writer._add_object(image)})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): named})
    page[NameObject("/Contents")] = writer._add_object(drawing)
    return _bytes(writer)


def turned_pdf(pdf: bytes, clockwise: int) -> bytes:
    """The first page turned by /Rotate, its text layer kept.

    Args:
        pdf: A one-page PDF.
        clockwise: Degrees: 90, 180 or 270.
    """
    writer = PdfWriter(clone_from=io.BytesIO(pdf))
    writer.pages[0].rotate(clockwise)
    return _bytes(writer)


def _bytes(writer: PdfWriter) -> bytes:
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()
