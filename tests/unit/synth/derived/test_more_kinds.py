"""Kinds of tests beyond words: columns, whole tables, headings, marks, formulas of commands."""

import json
from random import Random

import pytest
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph

from olmrl.bench import load_case
from olmrl.rewards.teds import Teds
from olmrl.synth.derived import candidates
from olmrl.synth.derived.categories import file_of
from olmrl.synth.derived.column_order import across_columns
from olmrl.synth.derived.folder import derive_folder
from olmrl.synth.derived.formula_damage import changed
from olmrl.synth.proof.objections import test_objection as objection
from olmrl.synth.proof.reading import read
from olmrl.synth.proof.tables import table_objection

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)


def case(row):
    return load_case({"pdf": "a.pdf", "page": 1, "id": "x", **row})


LEFT = ["Alpha comes first of all.", "Bravo follows on the left.", "Charlie ends the column."]
RIGHT = ["Delta starts the right one.", "Echo follows Delta here.", "Foxtrot ends the page."]


def columns(canvas):
    for x, lines in ((30, LEFT), (220, RIGHT)):
        for number, line in enumerate(lines):
            canvas.drawString(x, 500 - 20 * number, line)


def test_order_across_columns_catches_reading_across(draw):
    layer = draw(columns)
    body = "\n\n".join((*LEFT, *RIGHT))
    across = "\n\n".join(line for pair in zip(LEFT, RIGHT, strict=True) for line in pair)
    found = [c.test for c in across_columns(read(body), layer, Random(0))]
    pairs = {(row["before"], row["after"]) for row in found}
    assert (LEFT[2], RIGHT[0]) in pairs and (LEFT[0], RIGHT[2]) not in pairs
    assert all(before in LEFT and after in RIGHT for before, after in pairs)
    for row in found:
        assert case(row).run(body).passed and objection(layer, row) == ""
        assert file_of(row, layer) == "multi_column.jsonl"
    assert any(not case(row).run(across).passed for row in found)
    plain = {"type": "order", "before": LEFT[0], "after": LEFT[1]}
    assert file_of(plain, layer) == "reading_order.jsonl" == file_of(found[0], None)


def test_one_column_has_no_order_across(draw):
    def single(canvas):
        for number, line in enumerate((*LEFT, *RIGHT)):
            canvas.drawString(30 + 3 * number, 500 - 20 * number, line)

    body = "\n\n".join((*LEFT, *RIGHT))
    assert list(across_columns(read(body), draw(single), Random(0))) == []


def test_much_tiny_text_is_a_category(draw):
    def tiny(canvas, size):
        canvas.setFont("Helvetica", size)
        for number in range(65):
            canvas.drawString(10, 585 - 9 * number, "many small words stand on this line " * 2)

    row = {"type": "present", "text": "many small words"}
    assert file_of(row, draw(lambda c: tiny(c, 6))) == "long_tiny_text.jsonl"
    assert file_of(row, draw(lambda c: tiny(c, 11))) == "text_present.jsonl"


TABLE = (
    '<table><tr><th>Lake</th><th colspan="2">Depth</th></tr>'
    "<tr><td>Upper</td><td>41</td><td>17</td></tr><tr><td>Lower</td><td>88</td><td>29</td></tr>"
    "</table>"
)
CELLS = {"Lake": (0, 0), "Depth": (0, 1), "Upper": (1, 0), "41": (1, 1), "17": (1, 2)}
CELLS |= {"Lower": (2, 0), "88": (2, 1), "29": (2, 2)}


def grid(moved=None):
    def function(canvas):
        canvas.drawString(30, 550, "A line of text above the table.")
        for text, (row, column) in {**CELLS, **(moved or {})}.items():
            canvas.drawString(30 + 90 * column, 500 - 22 * row, text)

    return function


def test_a_table_stands_as_the_truth_tells_it(draw):
    assert table_objection(draw(grid()), f"A line.\n\n{TABLE}") == ""


@pytest.mark.parametrize(
    "moved",
    [
        {"88": (2, 2), "29": (2, 1)},
        {"Upper": (2, 0), "Lower": (1, 0)},
        {"17": (1, 1)},
        {"29": (0, 2)},
        {"Lower": (3.5, 0), "88": (1, 1), "41": (2, 1)},
    ],
)
def test_cells_in_other_places_are_noticed(draw, moved):
    assert "stand" in table_objection(draw(grid(moved)), TABLE)


def test_ragged_and_missing_tables_are_noticed(draw):
    layer = draw(grid())
    ragged = TABLE.replace("<td>29</td>", "")
    assert "ragged" in table_objection(layer, ragged)
    assert "together" in table_objection(layer, TABLE.replace("41", "42"))
    assert table_objection(layer, TABLE.replace("41", r"\(41\)")) == ""  # the layer cannot tell


def test_the_reference_is_the_truth_of_whole_tables(tmp_path):
    """TEDS takes its truth from the reference of the page: whole for it, less for any damage."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(420, 595))
    grid()(canvas)
    canvas.save()
    body = f"A line of text above the table.\n\n{TABLE}"
    (tmp_path / "a.md").write_text(HEAD + body)
    derive_folder(str(tmp_path), str(tmp_path / "out"), prove=True)
    (reference,) = (tmp_path / "out" / "claude_original").rglob("*.md")
    truth = reference.read_text()
    reward = Teds()
    assert reward.lacking(truth) == "" and reward.judge(truth, truth).value == 1
    for old, new in (
        ("<td>41</td><td>17</td>", "<td>17</td><td>41</td>"),
        ("<tr><td>Upper</td><td>41</td><td>17</td></tr>", ""),
        (' colspan="2"', ""),
    ):
        assert reward.judge(truth.replace(old, new), truth).value < 1


def test_headings_of_several_levels_make_tests_that_catch_a_slipped_column(tmp_path):
    body = (
        "<table><tr><th></th><th colspan='2'>North</th><th colspan='2'>South</th></tr>"
        "<tr><th>Year</th><th>Rain</th><th>Snow</th><th>Wind</th><th>Fog</th></tr>"
        "<tr><th>1990</th><td>11</td><td>12</td><td>13</td><td>14</td></tr>"
        "<tr><th>1991</th><td>21</td><td>22</td><td>23</td><td>24</td></tr></table>"
    )
    found = list(candidates.table(body, read(body), Random(3)))
    headed = [c for c in found if "top_heading" in c.test]
    assert {c.test["top_heading"] for c in headed} >= {"North", "Rain"} or len(headed) > 4
    assert any(set(c.test) & {"up", "down", "left", "right"} == set() for c in headed)
    swapped = 0
    for candidate in found:
        assert case(candidate.test).run(body).passed
        assert not case(candidate.test).run(candidate.corrupted).passed, candidate
        swapped += sorted(candidate.corrupted) == sorted(body)
    assert swapped > 2


def test_signs_that_html_escapes_are_damaged_too():
    body = "<table><tr><th>A &amp; B</th><th>C</th></tr><tr><td>x&lt;1</td><td>7</td></tr></table>"
    for candidate in candidates.table(body, read(body), Random(0)):
        assert candidate.corrupted != body


def test_a_mark_of_a_format_is_taken_from_one_text_only():
    body = "# Head one\n\nSome **bold words**, **other words**, *slanted text* here.\n\n## Two"
    found = {c.test["text"]: c.corrupted for c in candidates.format_(body, read(body), Random(0))}
    assert found["bold words"] == body.replace("**bold words**", "bold words")
    assert found["slanted text"] == body.replace("*slanted text*", "slanted text")
    assert found["Head one"] == body.replace("# Head one", "Head one")
    assert found["Two"] == body.replace("## Two", "Two")
    html = "Some <b>bold words</b> and <i>slanted text</i>."
    found = {c.test["text"]: c.corrupted for c in candidates.format_(html, read(html), Random(0))}
    assert found["bold words"] == html.replace("<b>bold words</b>", "bold words")


@pytest.mark.parametrize(
    "formula",
    [r"\leq \infty", r"\forall \exists", r"\to \infty", r"\subset", r"\sum \prod", r"\le", r"\ln"],
)
def test_formulas_of_commands_are_changed_into_others_that_look_otherwise(formula):
    body = f"Some words \\({formula}\\) and more."
    for seed in range(5):
        other = changed(formula, Random(seed))
        assert other != formula
        row = {"type": "math", "math": formula}
        assert case(row).run(body).passed
        assert not case(row).run(body.replace(formula, other)).passed, other


@pytest.mark.parametrize("formula", [r"\quad \dots", r"\| \|", r"\alpha1", "x"])
def test_what_can_be_changed_is_changed_and_what_cannot_stays(formula):
    assert (changed(formula, Random(0)) == formula) == (formula in (r"\quad \dots", r"\| \|"))


def note(markup):
    def function(canvas):
        style = ParagraphStyle("plain", fontName="Helvetica", fontSize=12, leading=16)
        paragraph = Paragraph(markup, style)
        paragraph.wrap(350, 500)
        paragraph.drawOn(canvas, 40, 400)

    return function


NOTE = {
    "type": "footnote",
    "marker": "3",
    "appears_before_marker": "water was sampled",
    "appears_after_marker": "every year",
}


def test_a_footnote_mark_is_raised_or_small_and_between_its_words(draw):
    assert objection(draw(note("The water was sampled<super>3</super> every year.")), NOTE) == ""
    small = note('The water was sampled<font size="8">3</font> every year.')
    assert objection(draw(small), NOTE) == ""
    assert "plain text" in objection(draw(note("The water was sampled 3 every year.")), NOTE)
    elsewhere = note("The water was sampled every year.<super>3</super>")
    assert "between its words" in objection(draw(elsewhere), NOTE)
    star = {**NOTE, "marker": "*"}
    assert objection(draw(note("The water was sampled* every year.")), star) == ""


def test_tests_of_a_folder_lie_in_files_by_category(tmp_path):
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(420, 595))
    canvas.setFont("Helvetica", 11)
    columns(canvas)
    canvas.save()
    (tmp_path / "a.md").write_text(HEAD + "\n\n".join((*LEFT, *RIGHT)))
    derive_folder(str(tmp_path), str(tmp_path / "out"), prove=True)
    rows = {
        path.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (tmp_path / "out").glob("*.jsonl")
    }
    assert {"multi_column.jsonl", "text_present.jsonl", "baseline.jsonl"} <= set(rows)
    assert all(row["type"] == "order" for row in rows["multi_column.jsonl"])
