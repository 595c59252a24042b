"""Pages of which only the tests are known, and what evades a test of absent text."""

import attacked_pages
import pytest
import red_team

from olmrl.markup.lookalike import skeleton
from olmrl.types import Page

PAGE = (
    "# Report on the harbour\n\n"
    "Dredging of the upper canal was postponed until the following winter, and the committee "
    "agreed to it.\n\n"
    "A survey of the valley found copper and limestone beneath the old quarry.[^1]\n\n"
    "<table><tr><th>Cargo</th><th>Tonnes</th></tr><tr><td>Grain for export</td><td>48210</td></tr>"
    "<tr><td>Coal and coke</td><td>30977</td></tr></table>\n\n"
    "The density follows \\(\\rho = \\frac{m}{V}\\) here.\n\n[^1]: See volume 2."
)
HEADER = "Port Authority Yearbook"


def passes(test, text, reference=None):
    """Whether a transcription passes a test in training."""
    rows = ({"pdf": "a.pdf", "page": 1, "id": "t", **test},)
    reference = None if reference is None else attacked_pages.HEAD + reference
    page = Page("a.pdf::1", "a.pdf", 1, reference=reference, tests=rows, test_files=("t.jsonl",))
    (rollout,) = red_team.score(page, [attacked_pages.HEAD + text], ("bench",))
    return rollout.rewards["bench"].value == 1.0


PRESENT = {"type": "present", "text": "postponed until"}
TABLE = {"type": "table", "cell": "48210", "left": "Grain for export"}
MATH = {"type": "math", "math": r"\rho = \frac{m}{V}"}
NOTE = {"type": "footnote", "marker": "1", "appears_before_marker": "old quarry"}


@pytest.mark.parametrize(
    "test", [PRESENT, TABLE, MATH, NOTE, {"type": "present", "text": "survey"}]
)
def test_the_page_passes(test):
    assert passes(test, PAGE)


HEDGES = [
    (PRESENT, "was postponed", "was postdoned, postponed"),
    (PRESENT, "was postponed", "postqoned was postponed"),
    ({"type": "present", "text": "survey"}, "the committee", "the surveg committee"),
    ({"type": "present", "text": "winter"}, "[^1]: See", PAGE.replace("winter", "wjnzer")[:150]),
    (TABLE, "<tr><td>Coal", "<tr><td>Grain for export</td><td>48270</td></tr><tr><td>Coal"),
    (MATH, r"\rho = \frac{m}{V}", r"\rho = \frac{m}{v}, \rho = \frac{m}{V}"),
    (MATH, r"\rho = \frac{m}{V}", r"\rho = \frac{m}{v V}"),
    (
        NOTE,
        "# Report",
        "A survey of the valley found coqper and limestone beneath the old quarry.\n\n#",
    ),
]


@pytest.mark.parametrize(("test", "at", "more"), HEDGES)
def test_another_reading_of_what_a_test_knows_takes_the_pass_away(test, at, more):
    assert not passes(test, PAGE.replace(at, more, 1))


HONEST = [
    (MATH, r"\rho = \frac{m}{V}", r"\rho = \dfrac{m}{V}, V > 0"),
    (TABLE, "<tr><td>Coal", "<tr><td>Grain for import</td><td>11</td></tr><tr><td>Coal"),
    (PRESENT, "the committee", "the postponement committee"),
    ({"type": "present", "text": "volume 2"}, "here.", "here. See volume 3 and volume 4."),
    ({"type": "present", "text": "survey"}, "the committee", "the surveyor of the committee"),
]


@pytest.mark.parametrize(("test", "at", "more"), HONEST)
def test_what_honest_pages_have_does_not(test, at, more):
    assert passes(test, PAGE.replace(at, more, 1))


LOOKALIKES = str.maketrans("aeoP", "\u0430\u0435\u043e\u0420")
DISGUISES = {
    "as it is": HEADER,
    "look-alike letters": HEADER.translate(LOOKALIKES),
    "full width": "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in HEADER),
    "combining marks": "".join(c + "\u0323" for c in HEADER),
    "reversed": "\u202e" + HEADER[::-1] + "\u202c",
    "dots": ".".join(HEADER),
    "words between": HEADER.replace(" ", " of the "),
}


@pytest.mark.parametrize("reference", [None, PAGE], ids=["tests alone", "reference"])
@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
@pytest.mark.parametrize("place", ["{0}\n\n{1}", "many words of filler " * 20 + "\n\n{0}\n\n{1}"])
def test_text_that_should_not_be_there_is_found_in_disguise(disguise, reference, place):
    absent = {"type": "absent", "text": HEADER, "first_n": 100, "max_diffs": 1}
    assert passes(absent, PAGE, reference)
    assert not passes(absent, place.format(disguise, PAGE), reference)


def test_a_copy_in_other_letters_is_a_copy():
    bold = "".join(chr(0x1D41A + ord(c) - 97) if "a" <= c <= "z" else c for c in PAGE)
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in PAGE)
    assert passes({"type": "baseline"}, PAGE)
    for copy in (PAGE, bold, wide):
        assert not passes({"type": "baseline"}, f"{PAGE}\n\n{copy}")


def test_lookalikes_are_folded_in_any_script():
    assert skeleton("\u0420\u043ert \uff21\u00e9\u0323") == "port ae"
    assert skeleton("\u5317\u4eac") == "\u5317\u4eac"


def test_a_blank_page_earns_its_baseline_by_silence():
    assert passes({"type": "baseline"}, "", "")
    assert not passes({"type": "baseline"}, "A few words.", "")


def test_hidden_letters_of_the_page_itself_are_not_held_against_it():
    images = "\n\n".join(
        f"![{'a long description of the picture ' * 4}](p{k}.png)" for k in range(9)
    )
    order = {"type": "order", "before": "upper canal", "after": "old quarry"}
    assert passes(order, PAGE + images, PAGE + images)
    assert passes({"type": "baseline"}, PAGE + images, PAGE + images)
    assert not passes(order, PAGE + images, PAGE)
