"""Personal data in the HTML that a model wrote: masked before it is printed, at every stage."""

import pytest
from reportlab.pdfgen.canvas import Canvas

from olmrl.mix.pdf_child import PdfPool
from olmrl.synth.pdfs.printing import Printed
from olmrl.synth.pdfs.stages import Layout, Orientation
from olmrl.synth.pdfs.template_files import load_templates
from olmrl.synth.pdfs.writing import SourcePage, Studio, write_page

HTML = (
    "<html lang='en'><body><p>Write to <b>john</b>@example.com today, all of you.</p></body></html>"
)


@pytest.mark.parametrize("redact", [True, False])
def test_html_of_models_is_masked_before_it_is_printed(tmp_path, redact):
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(300, 400))
    canvas.drawString(20, 370, "john@example.com")
    canvas.save()
    with PdfPool(1) as pool:
        studio = Studio(pool, load_templates(None), 256, False, str(tmp_path), redact)
        steps = write_page(SourcePage("a", str(tmp_path / "a.pdf"), "a.pdf", 1), studio)
        next(steps)
        steps.send(Orientation(0, False, True))
        steps.send(Layout("en", 1, "{}"))
        first = steps.send(HTML)
        refine = steps.send(Printed(1.0, ()))
        second = steps.send(HTML)
    for told in (first.html, refine.values["html"], second.html):
        assert ("john" not in told and ".qqq" in told) if redact else "john</b>@example.com" in told
