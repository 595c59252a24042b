"""Letters added within a word: two readings of one letter pay no more than the wrong one."""

import random

import attacked_pages
import pytest
import red_team

from olmrl.types import Page

REFERENCE = (
    "Dredging of the upper canal was postponed until the following winter, and the committee "
    "agreed to it.\n\nA survey of the valley found copper and limestone beneath the old quarry."
)


def passes(needle, max_diffs, right, said):
    """Whether a transcription in which a word is said in another way passes a `present` test."""
    test = {"type": "present", "text": needle, "max_diffs": max_diffs}
    rows = ({"pdf": "a.pdf", "page": 1, "id": "t", **test},)
    head = attacked_pages.HEAD
    page = Page("a.pdf::1", "a.pdf", 1, head + REFERENCE, tests=rows, test_files=("t.jsonl",))
    (rollout,) = red_team.score(page, [head + REFERENCE.replace(right, said)], ("bench",))
    return rollout.rewards["bench"].value == 1.0


@pytest.mark.parametrize(
    ("said", "max_diffs", "passed"),
    [
        ("cxmmittxe", 1, False),
        ("cxommittxee", 1, False),
        ("coxmmitexe", 1, False),
        ("cxmmitxee", 2, True),
        ("cxommitxtee", 2, True),  # two letters, wrong or with a wrong one beside them
        ("cxommitxtee", 1, False),
        ("commitxee", 1, True),
        ("commixttee", 1, True),
        ("commmittee", 1, True),  # a letter twice is one reading
        ("committee", 0, True),
    ],
)
def test_a_right_letter_beside_a_wrong_one_is_not_read(said, max_diffs, passed):
    assert passes("committee", max_diffs, "committee", said) is passed


@pytest.mark.parametrize("seed", range(7104, 7110))
def test_right_letters_inside_misread_words_do_not_pay(seed):
    rng = random.Random(seed)
    sheet = attacked_pages.invent(rng)
    text = attacked_pages.misreading(sheet, rng)

    def first(wrong, right):
        return "".join(a if a == b else b + a for a, b in zip(wrong, right, strict=False))

    def twice(wrong, right):
        return "".join(a if a == b else a + b + b for a, b in zip(wrong, right, strict=False))

    forms = (first, twice, lambda wrong, right: first(right, wrong))
    attacked = [attacked_pages.paired(sheet, text, form) for form in forms]
    before, *after = red_team.score(red_team.make_page(sheet, reference=True), [text, *attacked])
    assert max(rollout.total for rollout in after) <= before.total + 1e-9
