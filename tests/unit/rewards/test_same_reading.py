"""What the tests take for the same text is the same reading of a reference, too."""

import attacked_pages
import pytest
import red_team

from olmrl.types import Page

BEFORE = "The harbour archive holds a long ledger of customs and revenue. Repairs were made then. "
AFTER = "A survey of the valley found copper and limestone beneath the old quarry."
TABLE = (
    "\n\n<table><tr><th>Cargo</th><th>Tonnes of it</th></tr><tr><td>{}</td><td>48210</td></tr>"
    "<tr><td>Coal and coke</td><td>30977</td></tr></table>"
)

TEXTS = [
    ("the \ufb01nal o\ufb03ce", "the final office"),
    ("No. \u2167 King", "No. VIII King"),
    ("\uff21\uff22\uff23 firm", "ABC firm"),
    ("about 1\u00bd tons", "about 1 1/2 tons"),
    ("area 5 m\u00b2 large", "area 5 m<sup>2</sup> large"),
    ("10\u207b\u00b3 mol", "10<sup>-3</sup> mol"),
    ("H\u2082O water", "H<sub>2</sub>O water"),
    ("20 \u2103 warm", "20 \u00b0C warm"),
    ("\u00b5m size", "\u03bcm size"),
    ("-5 degrees", "\u22125 degrees"),
    ("AT&T firm", "AT&amp;T firm"),
    ("x < y here", "x &lt; y here"),
    ("costs $5 or $6", "costs \\$5 or \\$6"),
    ("word under line", "word <u>under</u> line"),
    ("the 1st man", "the 1<sup>st</sup> man"),
    ("the harbour wall", "the har\u00ad\nbour wall"),
    ("snake_case name", "snake\\_case name"),
    ("\u0130stanbul town", "I\u0307stanbul town"),
]
FORMULAS = [
    (r"E = mc^2", r"E = mc^2 \label{eq:e} \tag{3}"),
    (r"E = mc^2", r"E = mc^2 \eqno(3)"),
    (r"E = m \text{ at rest}", r"E = m \mbox{ at rest}"),
    (r"2\mathrm{H}_2\mathrm{O} \rightarrow \mathrm{O}_2", r"\ce{2H2O -> O2}"),
    (r"5\,\mathrm{kg}", r"\SI{5}{\kilogram}"),
    (r"\dfrac{a}{b} + c", r"\frac{a}{b}+c"),
    (r"a \ne b + c", r"a \neq b + c"),
    (r"|x| = y", r"\lvert x \rvert = y"),
    ("\u03b1 + \u03b2", r"\alpha + \beta"),
]


def both(pairs):
    return [(one, other) for pair in pairs for one, other in (pair, pair[::-1])]


def failed(reference, said, *rows):
    """Tests of a page that a transcription does not earn."""
    rows += ({"type": "present", "text": AFTER}, {"type": "present", "text": "Repairs were made"})
    tests = tuple({"pdf": "a.pdf", "page": 1, "id": f"t{k}", **r} for k, r in enumerate(rows))
    truth = attacked_pages.HEAD + reference
    page = Page(
        "a.pdf::1", "a.pdf", 1, reference=truth, tests=tests, test_files=("t",) * len(tests)
    )
    (rollout,) = red_team.score(page, [attacked_pages.HEAD + said], ("bench",))
    return [v for v in rollout.rewards["bench"].verdicts if not v.passed]


@pytest.mark.parametrize(("printed", "said"), both(TEXTS))
@pytest.mark.parametrize("frame", ["{}, so it was. ", "\n\n{}\n\n"])
def test_text(printed, said, frame):
    here = frame.format
    rows = (
        {"type": "present", "text": printed},
        {"type": "order", "before": printed, "after": AFTER[:30]},
    )
    assert failed(BEFORE + here(printed) + AFTER, BEFORE + here(said) + AFTER, *rows) == []


@pytest.mark.parametrize(("printed", "said"), both(TEXTS))
def test_marked_text_and_cells(printed, said):
    bold = {"type": "format", "text": printed, "format": "bold"}
    cell = {"type": "table", "cell": "48210", "left": printed}

    def page(text):
        return f"{BEFORE}It was **{text}** there. {AFTER}{TABLE.format(text)}"

    assert failed(page(printed), page(said), bold, cell) == []


@pytest.mark.parametrize(("printed", "said"), both(FORMULAS))
@pytest.mark.parametrize(("opening", "closing"), [("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")])
def test_formula(printed, said, opening, closing):
    reference = f"{BEFORE}So \\({printed}\\) holds. {AFTER}"
    text = f"{BEFORE}So {opening}{said}{closing} holds. {AFTER}"
    assert failed(reference, text, {"type": "math", "math": printed}) == []


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("the \ufb01nal", "the final, \ufb01nat"),
        ("the AT&T firm", "the AT&ampnear;T AT&T firm"),
        ("5 m\u00b2 large", "5 m<sup>2</sup> m<sup>3</sup> large"),
        ("word under line", "word <u>under</u> <u>umder</u> line"),
    ],
)
def test_another_reading_is_no_other_shape(printed, said):
    frame = BEFORE + "It was {} then. " + AFTER
    row = {"type": "present", "text": printed.removeprefix("the ")}
    assert failed(frame.format(printed), frame.format(printed), row) == []
    assert failed(frame.format(printed), frame.format(said), row) != []


@pytest.mark.parametrize("said", [r"\dfrac{a}{b} + c + d", r"\dfrac{a}{b} + c, \dfrac{a}{d} + c"])
def test_a_formula_with_more_in_it_is_not_respelled(said):
    reference = f"{BEFORE}So \\(\\frac{{a}}{{b}} + c\\) holds. {AFTER}"
    text = f"{BEFORE}So \\({said}\\) holds. {AFTER}"
    row = {"type": "math", "math": r"\frac{a}{b} + c"}
    assert failed(reference, text, row) != []
