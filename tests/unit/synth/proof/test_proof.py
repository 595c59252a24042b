"""The proof on PDFs in which something is hidden, moved or set otherwise."""

import pytest
from pypdf import PdfWriter
from pypdf.generic import RectangleObject
from reportlab.lib.colors import Color
from reportlab.pdfgen.canvas import Canvas

from olmrl.synth.derived.furniture import margin_lines
from olmrl.synth.pdfs.printing import crossed_letters
from olmrl.synth.proof.layer import TextLayer
from olmrl.synth.proof.objections import page_objection
from olmrl.synth.proof.objections import test_objection as objection

PRESENT = {"type": "present", "text": "Secret words"}


def plain(canvas):
    canvas.drawString(50, 400, "Secret words here")


def covered(canvas):
    plain(canvas)
    canvas.setFillColorRGB(1, 1, 1)
    canvas.rect(40, 390, 300, 30, stroke=0, fill=1)


def white(canvas):
    canvas.setFillColorRGB(1, 1, 1)
    plain(canvas)


def faint(canvas):
    canvas.setFillColorRGB(0.92, 0.92, 0.92)
    plain(canvas)


def transparent(canvas):
    canvas.setFillColor(Color(0, 0, 0, alpha=0.04))
    plain(canvas)


def outside(canvas):
    canvas.drawString(-200, 400, "Secret words here")


def clipped(canvas):
    path = canvas.beginPath()
    path.rect(0, 0, 40, 40)
    canvas.clipPath(path, stroke=0)
    plain(canvas)


def invisible(canvas):
    text = canvas.beginText(50, 400)
    text.setTextRenderMode(3)
    text.textLine("Secret words here")
    canvas.drawText(text)


def tiny(canvas):
    canvas.setFont("Helvetica", 1.5)
    plain(canvas)


def on_black(canvas):
    canvas.rect(40, 390, 300, 30, stroke=0, fill=1)
    canvas.setFillColorRGB(0.1, 0.1, 0.1)
    plain(canvas)


def test_a_text_that_can_be_seen_is_borne_out(draw):
    assert objection(draw(plain), PRESENT) == ""
    assert objection(draw(plain), {"type": "present", "text": "No such words"}) != ""


@pytest.mark.parametrize(
    "hide", [tiny, covered, white, faint, transparent, outside, clipped, invisible, on_black]
)
def test_a_text_that_cannot_be_seen_is_not(draw, hide):
    assert "cannot be seen" in objection(draw(hide), PRESENT)


def test_light_text_on_a_dark_ground_can_be_read(draw):
    def light(canvas):
        canvas.rect(40, 390, 300, 30, stroke=0, fill=1)
        canvas.setFillColorRGB(1, 1, 1)
        plain(canvas)

    assert objection(draw(light), PRESENT) == ""


def test_one_copy_that_can_be_seen_is_enough(draw):
    def twice(canvas):
        canvas.drawString(50, 300, "Secret words here")
        white(canvas)

    assert objection(draw(twice), PRESENT) == ""


def test_order_is_that_of_the_text_layer(draw):
    def two(canvas):
        canvas.drawString(50, 400, "First sentence.")
        canvas.drawString(50, 380, "Second sentence.")

    layer = draw(two)
    test = {"type": "order", "before": "First sentence.", "after": "Second sentence."}
    assert objection(layer, test) == ""
    swapped = test | {"before": test["after"], "after": test["before"]}
    assert "other way round" in objection(layer, swapped)


def test_cells_stand_where_the_test_says(draw):
    def table(canvas):
        for y, row in zip((400, 380), (("Name", "Price"), ("Apple", "12.50")), strict=True):
            for x, cell in zip((50, 150), row, strict=True):
                canvas.drawString(x, y, cell)

    layer = draw(table)
    good = {"type": "table", "cell": "12.50", "left": "Apple", "up": "Price", "right": ""}
    assert objection(layer, good | {"top_heading": "Price", "left_heading": "Apple"}) == ""
    assert "right does not stand" in objection(layer, {**good, "left": "", "right": "Apple"})
    assert "top_heading" in objection(layer, {**good, "up": "", "top_heading": "Apple"})


def test_a_format_is_that_of_the_face(draw):
    def faces(canvas):
        canvas.drawString(50, 400, "plain text that goes on for some time")
        canvas.setFont("Helvetica-Bold", 12)
        canvas.drawString(50, 380, "strong")
        canvas.setFont("Times-Italic", 12)
        canvas.drawString(50, 360, "slanted")
        canvas.setFont("Helvetica", 18)
        canvas.drawString(50, 330, "Large")

    layer = draw(faces)

    def told(text, kind):
        return objection(layer, {"type": "format", "text": text, "format": kind})

    assert told("strong", "bold") == told("slanted", "italic") == told("Large", "heading") == ""
    assert told("plain text", "bold") and told("plain text", "italic")
    assert told("plain text", "heading") and told("strong", "italic") and told("slanted", "bold")


LONG = (
    "Twenty plain words stand here so that one of them more or less is not much at all to care "
    "about"
)


def test_a_page_shows_all_of_its_truth_and_nothing_else(draw):
    def page(canvas):
        canvas.drawString(50, 560, "Running head")
        for number, at in enumerate(range(0, len(LONG.split()), 7)):
            canvas.drawString(50, 400 - 20 * number, " ".join(LONG.split()[at : at + 7]))

    layer = draw(page)
    head = ("Running head",)
    assert page_objection(layer, f"# {LONG}", head) == ""
    assert "the page lacks 2" in page_objection(layer, f"{LONG} invented sentences", head)
    assert "the truth lacks 2 words of the page" in page_objection(layer, LONG, ())


def paragraph(canvas, size, pitch, top=560):
    canvas.setFont("Helvetica", size)
    for number, at in enumerate(range(0, len(LONG.split()), 7)):
        canvas.drawString(50, top - pitch * number, " ".join(LONG.split()[at : at + 7]))


def test_a_page_in_tiny_letters_is_none(draw):
    assert page_objection(draw(lambda canvas: paragraph(canvas, 6, 8)), LONG, ()) == ""
    told = page_objection(draw(lambda canvas: paragraph(canvas, 1.5, 2)), LONG, ())
    assert "letters cannot be seen" in told


@pytest.mark.parametrize("hide", [white, tiny, faint])
def test_one_sentence_that_nobody_sees_is_too_much(draw, hide):
    def page(canvas):
        for number in range(4):
            paragraph(canvas, 12, 16, 560 - 100 * number)
        hide(canvas)

    told = page_objection(draw(page), f"{LONG} " * 4 + "Secret words here", ())
    assert told == "15 letters in a row cannot be seen: 'secretwordshere'"


@pytest.mark.parametrize(
    ("pitch", "stand_on_others"), [(1, True), (6, True), (12, False), (16, False)]
)
def test_lines_that_stand_on_others_are_counted(draw, pitch, stand_on_others):
    layer = draw(lambda canvas: paragraph(canvas, 12, pitch))
    assert (crossed_letters(layer) > 0.02 * len(layer.boxes)) == stand_on_others


def test_ligatures_and_widths_are_the_same_text(draw):
    def ligature(canvas):
        canvas.drawString(50, 400, "efficient office work")

    assert objection(draw(ligature), {"type": "present", "text": "eﬃcient oﬃce"}) == ""


def draw_turned(path, turn):
    """A page that is seen upright because /Rotate turns what is drawn on its side."""
    width, height = 612, 792
    sideways = turn in (90, 270)
    canvas = Canvas(str(path), pagesize=(height, width) if sideways else (width, height))
    corner = {0: (0, 0), 90: (height, 0), 180: (width, height), 270: (0, width)}[turn]
    canvas.translate(*corner)
    canvas.rotate(turn)
    canvas.drawString(72, 770, "Running Head")
    canvas.drawString(72, 400, "A line of text.")
    canvas.drawString(300, 20, "Page 17")
    canvas.save()
    writer = PdfWriter(clone_from=str(path))
    writer.pages[0].rotate(turn)
    writer.pages[0].cropbox = RectangleObject((100, 100, 300, 300))
    writer.write(str(path))


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_page_is_judged_as_it_is_seen(tmp_path, turn):
    draw_turned(tmp_path / "a.pdf", turn)
    layer = TextLayer.of(str(tmp_path / "a.pdf"))
    assert (layer.width, layer.height) == (612, 792)
    assert all(layer.seen)
    assert layer.boxes[0][:2] == pytest.approx((73, 770), abs=0.1)
    assert margin_lines(str(tmp_path / "a.pdf")) == ("Running Head", "Page 17")
