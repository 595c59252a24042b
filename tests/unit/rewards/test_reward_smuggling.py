"""Text of the page that stands where the alignment might not look earns what other text earns."""

import attacked_pages
import numpy as np
import pytest
import red_team
from hypothesis import given, settings
from hypothesis import strategies as st

from olmrl.markup.visible import TAG, see
from olmrl.rewards.lettered import Lettered
from olmrl.types import Page

FIRST = (
    "The harbour archive holds a long ledger of customs and revenue. "
    "Repairs were made in the spring by the northern district."
)
LAST = (
    "A survey of the valley found copper and limestone beneath the old quarry, "
    "and the committee agreed."
)
LOST = "Dredging of the upper canal was postponed until the following winter."


def values(reference, tests, *transcriptions):
    """`bench` of each transcription."""
    rows = tuple({"pdf": "a.pdf", "page": 1, "id": f"t{k}", **t} for k, t in enumerate(tests))
    files = tuple(f"{row['type']}.jsonl" for row in rows)
    head = attacked_pages.HEAD
    page = Page("a.pdf::1", "a.pdf", 1, reference=head + reference, tests=rows, test_files=files)
    made = red_team.score(page, [head + text for text in transcriptions], ("bench",))
    return [rollout.rewards["bench"].value for rollout in made]


def around(middle):
    return f"{FIRST} {middle}\n\n{LAST}"


BRACKETS = ("<a, {}>", "<q:{}>", "<a|{}>", "</a, {}>", "<a='{}'>", "<td {}>")


@pytest.mark.parametrize("frame", BRACKETS)
def test_text_in_angle_brackets_is_text(frame):
    tests = [
        {"type": "present", "text": "upper canal was postponed"},
        {"type": "order", "before": "northern district", "after": "upper canal"},
    ]
    wrong = LOST.replace("upper canal", "uqqer cenal")
    before, after = values(
        around(LOST), tests, around(wrong), around(wrong) + "\n\n" + frame.format(LOST)
    )
    assert after <= before


@pytest.mark.parametrize("word", ["center", "article", "mark", "42"])
def test_tags_are_not_words(word):
    tag = f'<td rowspan="{word}">' if word.isdigit() else f"<{word}>"
    tests = [{"type": "present", "text": word}]
    true, without, tagged = values(
        around(f"See {word}."), tests, around(f"See {word}."), around("See."), around(f"See {tag}.")
    )
    assert (true, without, tagged) == (1.0, 0.0, 0.0)


PIECES = st.sampled_from(
    ["<", ">", "</", "<a", "<td", " rowspan=", '"', "2", "12", "a", "td", "b", " ", ",", "=", "|"]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_every_letter_that_tests_search_is_aligned_or_in_a_tag(text):
    shown = see(text).text
    known = np.zeros(len(shown), np.bool_)
    known[Lettered.of(shown).places] = True
    for match in TAG.finditer(shown):
        known[match.start() : match.end()] = True
    assert all(known[k] for k, char in enumerate(shown) if char.isalnum())


def word_tests(needle):
    return [{"type": "present", "text": needle, "max_diffs": 0}]


READINGS = [
    ("Cat", "Gat", "GCat"),
    ("harbors", "harborz", "harborsz"),
    ("293", "298", "298293"),
    ("293", "298", "298_293"),
    ("1812", "182", "182 1812"),
    ("1812", "18122", "18122 1812"),
    ("XIV", "XVI", "XVI XIV"),
    ("is big", "in big", "in is big"),
    ("3a", "8a", "8a 3a"),
    ("10\u00b2", "10\u00b3", "10\u00b3 10\u00b2"),
    ("regiment", "xqzv", "xqzv regiment"),
    ("regiment", "xqzv", "regiment xqzv"),
    ("\u2611 Yes", "\u2610 Yes", "\u2610 \u2611 Yes"),
    ("\u00a3 500", "$ 500", "$ \u00a3 500"),
    ("5%", "5\u2030", "5%\u2030"),
    ("\u2605\u2605\u2606", "\u2605\u2605\u2605", "\u2605\u2605\u2605 \u2605\u2605\u2606"),
    (
        "\u0915\u093f\u0924\u093e\u092c",
        "\u0915\u0940\u0924\u093e\u092c",
        "\u0915\u0940\u0924\u093e\u092c \u0915\u093f\u0924\u093e\u092c",
    ),
    ("-5", "+5", "+-5"),
]


@pytest.mark.parametrize(("right", "wrong", "both"), READINGS)
def test_a_second_reading_beside_a_word_takes_the_word_away(right, wrong, both):
    made = [around(f"It weighed {word} tons in total.") for word in (right, right, wrong, both)]
    true, honest, hedged = values(made[0], word_tests(right), *made[1:])
    assert (true, honest, hedged) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("glued", ["tons293.", "tons 293a", "293It"])
def test_a_lost_number_is_not_found_inside_a_word(glued):
    made = around("It weighed tons in total.").replace(glued[:4].strip("0123456789 "), glued, 1)
    _, hedged = values(around("It weighed 293 tons in total."), word_tests("293"), "", made)
    assert hedged == 0.0


def test_slips_inside_words_cost_what_they_cost_the_plain_test():
    tests = [{"type": "present", "text": "the harbour of stone", "max_diffs": 1}]
    reference = around("They saw the harbour of stone by night.")
    made = [reference.replace("harbour", word) for word in ("harxbour", "harbxur", "xarbour")]
    assert values(reference, tests, *made) == [1.0, 1.0, 1.0]


FORMULAS = [
    (r"E = \alpha + \beta x + 8", r"E = \alpha + \beta x + 7", r"E = \alpha + \beta x + 87"),
    (r"y = a + b + c + d", r"v = a + b + c + d", r"vy = a + b + c + d"),
    (r"V = rt", r"v = rt", r"v V = rt"),
    (r"E_k = \frac{1}{2} m v^2", r"E_k = \frac{1}{2} m v^3", r"E_k = \frac{1}{2} m v^2_3"),
]


@pytest.mark.parametrize(("right", "wrong", "both"), FORMULAS)
def test_a_symbol_more_takes_the_formula_away(right, wrong, both):
    made = [around(rf"\({formula}\) holds.") for formula in (right, right, wrong, both)]
    true, honest, hedged = values(made[0], [{"type": "math", "math": right}], *made[1:])
    assert (true, honest, hedged) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("frame", ["\\[{}\\]", "$${}$$", "\\({}\\)"])
def test_readings_inside_a_formula_are_readings(frame):
    tests = [{"type": "present", "text": "upper canal was postponed"}]
    wrong = LOST.replace("upper canal", "uqqer cenal")
    both = frame.format(wrong.replace("was", "was upper canal was"))
    honest, hedged, page = values(
        around(LOST), tests, around(wrong), around(both), frame.format(around(both[2:-2]))
    )
    assert (honest, hedged, page) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("both", ["[^7][^1]", "[^1] [^7]", "\u2077<sup>1</sup>"])
def test_a_place_has_one_footnote_mark(both):
    tests = [{"type": "footnote", "marker": "1", "appears_before_marker": "lost"}]
    made = [around(f"The ledger was lost.{mark}") for mark in ("[^1]", "[^1]", "[^7]", both)]
    assert values(made[0], tests, *made[1:]) == [1.0, 0.0, 0.0]
