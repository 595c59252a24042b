"""What tests of synthetic pages share."""

import io

import pytest
from reportlab.pdfgen.canvas import Canvas

from olmrl.synth.proof.layer import TextLayer


@pytest.fixture
def draw(tmp_path):
    """The text layer of a page of A5 size that a function draws."""

    def make(function):
        buffer = io.BytesIO()
        canvas = Canvas(buffer, pagesize=(420, 595))
        canvas.setFont("Helvetica", 12)
        function(canvas)
        canvas.save()
        path = tmp_path / "page.pdf"
        path.write_bytes(buffer.getvalue())
        return TextLayer.of(str(path))

    return make
