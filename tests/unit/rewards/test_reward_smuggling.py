"""Text of the page that stands where the alignment might not look earns what other text earns."""

import attacked_pages
import numpy as np
import pytest
import red_team
from hypothesis import given, settings
from hypothesis import strategies as st

from olmrl.markup.visible import see
from olmrl.rewards.claims import TAG, Lettered
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
