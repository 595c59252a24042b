import random

import pytest

from olmrl.report.differences import differences


def test_what_is_missing_and_what_is_extra():
    assert differences("salt frog king", "salt open king tree") == [
        ("same", "salt "), ("missing", "frog"), ("extra", "open"), ("same", " king"),
        ("extra", " tree"),
    ]  # fmt: skip
    assert differences("same", "same") == [("same", "same")]
    assert differences("", "x") == [("extra", "x")] and differences("x", "") == [("missing", "x")]


@pytest.mark.parametrize("seed", range(8))
def test_the_pieces_give_both_texts_back(seed):
    draws = random.Random(seed)
    words = ["a", "b", "\n", " ", "|", "<td>", "é", "한글", "x²", "\ud800"]
    truth, text = ("".join(draws.choices(words, k=draws.randrange(80))) for _ in range(2))
    pieces = differences(truth, text)
    assert "".join(p.text for p in pieces if p.kind != "missing") == text
    assert "".join(p.text for p in pieces if p.kind != "extra") == truth


def test_a_loop_to_the_end_of_the_context_is_shown_whole():
    text = "no " * 40_000
    pieces = differences("no end", text)
    assert "".join(p.text for p in pieces if p.kind != "missing") == text
