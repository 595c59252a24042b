"""The reading order reward: hand-computed values, and the heaviest order against all orders."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_pages import HEAD, group, page
from test_reward_values import value_of

from olmrl.rewards import score
from olmrl.rewards.reading_order import heaviest_in_order

A = "The salt tax rose in every province that year."  # 9 words
B = "Wheat fell by half before the winter came in."  # 9 words
C = "Nobody knew why the river had moved so far."  # 9 words
TRUTH = f"{HEAD}{A}\n\n{B}\n\n{C}"


def order(*blocks, reference=TRUTH):
    [result] = value_of("reading_order", page(reference), group("\n\n".join(blocks)))
    return result


@pytest.mark.parametrize(
    ("blocks", "in_order", "invented"),
    [
        ((A, B, C), 27, 0),
        ((A, C, B), 18, 0),
        ((C, B, A), 9, 0),
        ((A, C), 18, 0),
        ((B,), 9, 0),
        ((), 0, 0),
        ((A, B, C, "zzz yyy"), 25, 2),  # two words are invented, so two were not read
        ((A, A, B, C), 18, 9),  # which of the two is the right place?
        ((C, A, B, C), 18, 9),
        ((A, B, C, A, B, C), 0, 27),
        ((f"{A} {B}", C), 9, 0),  # two blocks run together are neither of them
        ((A.replace("salt", "malt"), B, C), 26, 1),
    ],
)
def test_by_hand(blocks, in_order, invented):
    assert order(*blocks).value == pytest.approx(2 * in_order / (27 + in_order + 2 * invented))


@pytest.mark.parametrize("form", ["{} {}", "{}\n{}", "{} ({})", "**{}** _{}_"])
def test_right_words_beside_wrong_ones_do_not_pay(form):
    """Neither in a block that is a reading of the page's nor in one that is too bad for it."""
    for count in (1, 2, 3, 4):
        wrong = {word: f"{word[:2]}x{k}" for k, word in enumerate(A.split()[:count])}
        misread, both = A, A
        for right, other in wrong.items():
            misread = misread.replace(right, other, 1)
            both = both.replace(right, form.format(other, right), 1)
        assert order(both, B, C).value <= order(misread, B, C).value


def test_a_block_beside_what_it_was_misread_as_does_not_pay():
    unlike = " ".join(f"q{k}z" for k in range(len(A.split())))
    honest = order(unlike, B, C).value
    for blocks in ((unlike, A, B, C), (A, unlike, B, C), (A, B, C, unlike)):
        assert order(*blocks).value <= honest


def test_the_right_block_beside_a_bad_reading_of_it_does_not_pay():
    misread = "The malt tax rode on every promise that yarn."
    for blocks in ((misread, A, B, C), (A, misread, B, C), (A, B, C, misread)):
        assert order(*blocks).value <= order(misread, B, C).value


def test_a_block_that_is_divided_is_read_once():
    half = "Wheat fell by half before the"
    assert order(A, half, "winter came in.", C).value == order(A, half, C).value > order(A, C).value


def test_parts():
    assert order(A, C, B).parts == {"found": 1.0, "in_order": pytest.approx(2 / 3)}
    assert order(A, A, C).parts == {"found": pytest.approx(1 / 3), "in_order": 1.0}
    assert order("else").parts == {"found": 0.0, "in_order": 0.0}


def test_headings_and_tables_are_blocks():
    table = "<table><tr><td>salt</td><td>1812</td></tr></table>"
    truth = f"# One\n{A}\n## Two\n{B}\n\n{table}"
    markdown = "| salt | 1812 |\n|---|---|"
    assert order("One", A, "**Two**", B, markdown, reference=truth).value == 1.0


def test_blocks_that_the_page_repeats_may_be_repeated():
    truth = f"{A}\n\nYes.\n\n{B}\n\nYes.\n\n{C}"
    assert order(A, "Yes.", B, "Yes.", C, reference=truth).value == 1.0
    assert order(A, "Yes.", B, "Yes.", C, "Yes.", reference=truth).value < 0.95


def test_left_out_without_an_order():
    with pytest.raises(ValueError, match="the reference has fewer than two blocks"):
        score("reading_order", ["x"], references=[HEAD + A])
    with pytest.raises(ValueError, match="the page has no reference text"):
        score("reading_order", ["x"])
    assert score("reading_order", ["x"], compat=True) == [0.0]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 5), st.integers(1, 4), st.randoms(use_true_random=False))
def test_heaviest_order_is_the_best_of_all(n_mine, n_true, random):
    reads = np.asarray([[random.random() < 0.5 for _ in range(n_true)] for _ in range(n_mine)])
    reads = reads.reshape(n_mine, n_true)
    sizes = np.asarray([random.randrange(1, 5) for _ in range(n_true)])
    best = 0
    for size in range(1, min(n_mine, n_true) + 1):
        for rows in itertools.combinations(range(n_mine), size):
            for columns in itertools.combinations(range(n_true), size):
                if all(reads[m, n] for m, n in zip(rows, columns, strict=True)):
                    best = max(best, int(sizes[list(columns)].sum()))
    assert heaviest_in_order(reads, sizes) == best
