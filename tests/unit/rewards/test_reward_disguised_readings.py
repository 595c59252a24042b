"""Tests alone: two readings in one word, one column or a row of headings are two readings still."""

import random
import re

import attacked_pages
import numpy as np
import pytest
import red_team
from hypothesis import given, settings
from hypothesis import strategies as st

from olmrl.types import Page

WORDS = (
    *("harbour", "estimate", "kernel", "revenue", "ledger", "transport", "electrode", "gradient"),
    *("annual", "committee", "district", "parish", "barley", "turnip", "engine", "boiler"),
)


def passes(test, text):
    """Whether a transcription passes a test in training, without a reference."""
    rows = ({"pdf": "a.pdf", "page": 1, "id": "t", **test},)
    page = Page("a.pdf::1", "a.pdf", 1, reference=None, tests=rows, test_files=("t.jsonl",))
    (rollout,) = red_team.score(page, [attacked_pages.HEAD + text], ("bench",))
    return rollout.rewards["bench"].value == 1.0


SENTENCE = "The {} of the valley was postponed, and grain was sold in the old quarry.[^1]"
NEEDLES = {
    "present": {"type": "present", "text": "{}"},
    "present, two words": {"type": "present", "text": "{} of"},
    "order": {"type": "order", "before": "{} of the val", "after": "old quarry"},
    "format": {"type": "format", "format": "bold", "text": "{}"},
    "footnote": {"type": "footnote", "marker": "1", "appears_before_marker": "{}"},
}
FRAMES = {"format": "**{}**", "footnote": "{}[^1]"}
DISGUISES = {
    "a letter before": lambda wrong, right: wrong[0] + right,
    "a word before": lambda wrong, right: wrong + right,
    "a number before": lambda wrong, right: "7" + right,
}
AFTER = {
    "a letter after": lambda wrong, right: right + wrong[-1],
    "a word after": lambda wrong, right: right + wrong,
}


def filled(test, word):
    return {name: value.format(word) for name, value in test.items()}


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.sampled_from(WORDS), st.sampled_from(WORDS))
@pytest.mark.parametrize("kind", NEEDLES)
def test_both_readings_in_one_word_pass_nothing(kind, right, wrong):
    test, frame = filled(NEEDLES[kind], right), FRAMES.get(kind, "{}")
    assert passes(test, SENTENCE.format(frame.format(right)))
    disguises = DISGUISES if kind in ("order", "present, two words") else DISGUISES | AFTER
    for name, disguise in disguises.items():
        said = disguise("q" + wrong, right)
        assert not passes(test, SENTENCE.format(frame.format(said))), name


@pytest.mark.parametrize(
    ("test", "text"),
    [
        (filled(NEEDLES["present"], "harbour"), "It was in the harbour1 that grain was sold."),
        (filled(NEEDLES["present"], "harbour"), "It was in the harbour\u00b9 that grain was sold."),
        (filled(NEEDLES["order"], "harbour"), SENTENCE.format("harbour")),
        ({"type": "present", "text": "\u6e2f\u53e3"}, "\u65e7\u6e2f\u53e3\u5728\u6cb3\u8fb9"),
        (
            filled(NEEDLES["present"], "market"),
            "The market of the valley, and all markets.",
        ),
    ],
)
def test_words_that_honest_text_joins_do(test, text):
    assert passes(test, text)


@pytest.mark.parametrize("said", ["wixnter", "wnter", "wintter", "wimter"])
def test_a_reading_of_a_word_that_is_a_letter_longer_or_shorter_is_one(said):
    text = "In winter the canal was closed. A survey of the valley found copper in {} again."
    present = {"type": "present", "text": "winter"}
    assert passes(present, text.format("spring"))
    assert not passes(present, text.format(said))


HEAD = "<tr><th>Cargo</th><th>Year</th><th>Tonnes</th></tr>"
ROWS = [["Grain", "1847", "48210"], ["Timber", "1851", "30977"], ["Cotton", "1863", "1276"]]


def table(rows):
    lines = ("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table>{HEAD}{''.join(lines)}</table>"


CELL = {"type": "table", "cell": "48210", "left": "1847"}
WRONG = [["Grain", "1847", "48270"], *ROWS[1:]]


@pytest.mark.parametrize(
    "rows",
    [
        [[*mine, *theirs] for mine, theirs in zip(WRONG, ROWS, strict=True)],
        [[*theirs, *mine] for mine, theirs in zip(WRONG, ROWS, strict=True)],
        [[*mine, theirs[2]] for mine, theirs in zip(WRONG, ROWS, strict=True)],
        [*WRONG, ["Ore", "1870", "12", *ROWS[0]]],
        [*WRONG, [*ROWS[0], "x"]],
        [*WRONG, ["x", "Grain", "y", "1847", "48210"]],
        [["Oats", "1799", "39"], *ROWS[1:], *ROWS],
        [["Oats", "1799", "39"], *ROWS[1:], *([*row, "x"] for row in ROWS)],
        [["Oats", "1799", "39"], *ROWS[1:], *(["", *row] for row in ROWS)],
    ],
    ids=[
        *("beside", "before", "one column", "beside another row", "longer row", "cells between"),
        *("all rows again", "all rows and a cell", "all rows after a cell"),
    ],
)
def test_a_table_with_two_readings_of_its_columns_passes_nothing(rows):
    assert passes(CELL, table(ROWS))
    assert not passes(CELL, table(rows))


def test_rows_that_are_there_twice_do():
    assert passes(CELL, table([*ROWS, *ROWS]))
    assert passes(CELL, table([*ROWS, ["Total", "", "-"], ["Total", "", "-"]]))


def test_columns_of_ticks_and_of_like_numbers_do():
    ticks = [[*row, "yes", "yes", "x"] for row in ROWS]
    assert passes(CELL, table(ticks))
    assert passes(CELL, table([[*row, str(int(row[2]) + 1)] for row in ROWS]))


HEADING = {"type": "format", "format": "heading", "text": "Harbour"}


def test_headings_in_a_row_are_guesses():
    page = "# {}\n\nGrain was sold in the old quarry.\n\n# Canal\n\nIt was closed in winter."
    assert passes(HEADING, page.format("Harbour"))
    assert passes(HEADING, page.format("Yearbook\n\n## Harbour"))
    assert not passes(HEADING, page.format("Harvest\n\n# Harbour\n\n# Lighthouse"))


def test_a_letter_twice_in_a_long_text_is_a_typing_error():
    order = {"type": "order", "before": "harbour of the valley was", "after": "old quarry"}
    order["max_diffs"] = 2
    assert passes(order, SENTENCE.format("harbbour"))
    assert not passes(order, SENTENCE.format("harxbour"))


@pytest.mark.parametrize("said", ["wjarbour", "harbourw", "quarryharbour"])
def test_words_at_a_footnote_mark_stand_alone_there(said):
    note = {"type": "footnote", "marker": "1", "appears_before_marker": "harbour"}
    text = (
        "The harbour was closed. Grain was sold in the old {}[^1] of the valley.\n\n[^1]: See it."
    )
    assert passes(note, text.format("harbour"))
    assert passes(note, text.format("harbour "))
    assert not passes(note, text.format(said))


def test_a_sentence_with_a_word_twice_is_no_list():
    absent = {"type": "absent", "text": "Port Authority Yearbook"}
    text = "The harbour master closed the harbour.\n\nGrain was sold in the old quarry in winter."
    assert passes(absent, text)
    assert passes({"type": "present", "text": "master closed"}, text)
    guesses = "harbour canal harbour valve harbour kernel harbour ledger"
    assert not passes({"type": "present", "text": "harbour valve"}, guesses)
    assert not passes(absent, f"{guesses}\n\nkernel canal kernel valve kernel ledger")


def test_symbols_that_recur_in_a_formula_are_no_guesses():
    absent = {"type": "absent", "text": "Port Authority Yearbook"}
    formula = r"\[ \frac{\partial L}{\partial x} + \frac{\partial L}{\partial y} = \lambda L \]"
    assert passes(absent, f"Grain was sold in the old quarry.\n\n{formula}\n\nIt was closed.")
    assert not passes(absent, "harbour canal harbour valve kernel canal kernel valve")


def test_lists_of_addresses_and_names_show_that_the_page_was_read():
    absent = {"type": "absent", "text": "Port Authority Yearbook"}
    streets = ("12 High Street", "14 Mill Street", "3 Church Street", "8 Kings Street")
    addresses = "\n\n".join(f"{street}\nLondon" for street in streets)
    names = "Mary Smith\nJohn Smith\nPeter Smith\nAnn Taylor\nOliver Taylor\nGrace Taylor"
    guesses = "harbour canal\nharbour valve\nkernel canal\nkernel valve\nledger canal\nledger valve"
    assert passes(absent, addresses)
    assert passes(absent, names)
    assert not passes(absent, guesses)


def _columns(sheet, text, *, first):
    rows = iter(sheet.table)

    def beside(mark):
        cells = "".join(f"<td>{cell}</td>" for cell in next(rows, []))
        return mark[0] + cells if first else cells + mark[0]

    return re.sub("<tr>" if first else "</tr>", beside, text)


@pytest.mark.parametrize("first", [True, False])
def test_the_true_columns_beside_those_that_were_read_do_not_pay(first):
    gains = []
    for seed in range(60, 70):
        rng = random.Random(seed)
        sheet = attacked_pages.invent(rng)
        honest = attacked_pages.honest(sheet, rng)
        page = red_team.make_page(sheet, reference=False)
        before, after = red_team.score(page, [honest, _columns(sheet, honest, first=first)])
        gains.append(after.total - before.total)
    assert np.max(gains) <= 1e-9
