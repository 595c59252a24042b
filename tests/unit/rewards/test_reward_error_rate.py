"""Character and word error rate: hand-computed values, and a slow independent alignment."""

from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_pages import HEAD, group, page
from test_reward_values import value_of

from olmrl.rewards import score
from olmrl.rewards.word_alignment import alignment_cost
from olmrl.rewards.words import plain_text, words_of


def rates(name, text, reference, **options):
    return score(name, [text], references=[reference], **options)[0]


@pytest.mark.parametrize(
    ("text", "reference", "cer", "wer"),
    [
        ("the cat sat", "the cat sat", 1, 1),
        ("the cat sat", "the car sat", 1 - 1 / 11, 1 - 1 / 3),
        ("the cat sat", "the dog sat", 1 - 4 / 11, 1 - 1 / 3),  # a lone word: its letters, a space
        ("the sat", "the cat sat", 1 - 4 / 11, 1 - 1 / 3),
        ("the big cat sat", "the cat sat", 0, 0),  # one invented, and both beside it in doubt
        ("helloworld", "hello world", 1 - 1 / 11, 0),
        ("in to it", "into it", 1 - 1 / 7, 0),
        ("", "the cat", 0, 0),
        ("x " * 9, "the cat", 0, 0),
        # two words for two others are no lone words: both are invented, both are missing
        ("the red fox sat", "the old cat sat", 0, 0),
        ("the red fox sat by it", "the old cat sat by it", 1 - 16 / 21, 1 - 4 / 6),
    ],
)
def test_by_hand(text, reference, cer, wer):
    assert rates("cer", text, reference) == pytest.approx(cer)
    assert rates("wer", text, reference) == pytest.approx(wer)


def test_compat_is_plain_levenshtein():
    # "red fox" for "old cat": r-o e-l, then f-c o-a x-t; two words
    assert rates("cer", "the red fox", "the old cat", compat=True) == pytest.approx(1 - 5 / 11)
    assert rates("wer", "the red fox", "the old cat", compat=True) == pytest.approx(1 - 2 / 3)
    assert score("cer", ["x"], compat=True) == [0.0]


def test_front_matter_and_markup_do_not_count():
    text = HEAD + "## The *salt* tax\n\n| a | b |\n|---|:-:|\n| 1 | 2 |\n\nx\u2013y  z"
    same = "The salt tax\n<table><tr><th>a</th><td>b</td></tr><tr><td>1<td>2</table> <b>x-y</b> z"
    assert rates("cer", text, same) == rates("wer", text, HEAD + same) == 1.0
    assert plain_text("a < b and c > d, <x>, 5<table>6</table>") == "a < b and c > d, <x>, 5 6"


def test_wide_characters_are_words_of_their_own():
    assert words_of("\u65e5\u672c 2026\u5e74 tax") == ("\u65e5", "\u672c", "2026", "\u5e74", "tax")


def test_left_out_without_text_in_the_reference():
    for name in ("cer", "wer"):
        with pytest.raises(ValueError, match=f"{name}: the reference has no text"):
            score(name, ["x"], references=[HEAD])
        with pytest.raises(ValueError, match="the page has no reference text"):
            score(name, ["x"])


def slow_cost(mine, true, unit, doubtful):
    """The definition, move by move, from the first words on."""

    def size(word):
        return 1 if unit == "word" else len(word) + 1

    @lru_cache(None)
    def distance(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(
            distance(a[1:], b) + 1,
            distance(a, b[1:]) + 1,
            distance(a[1:], b[1:]) + (a[0] != b[0]),
        )

    @lru_cache(None)
    def cost(m, n, after):
        """Least cost of the rest, after an "alike" pair, a "lone" one, or in a "gap"."""
        if m == len(mine) and n == len(true):
            return 0
        options = [float("inf")]
        if m < len(mine) and after != "lone":
            options.append(size(mine[m]) + cost(m + 1, n, "gap"))
        if n < len(true) and after != "lone":
            options.append(size(true[n]) + cost(m, n + 1, "gap"))
        if m < len(mine) and n < len(true):
            a, b = mine[m], true[n]
            edits = distance(a, b)
            if 3 * edits <= max(len(a), len(b)):
                price = edits if unit == "character" else min(edits, 1)
                price = size(b) if doubtful[n] else price
                options.append(price + cost(m + 1, n + 1, "alike"))
            if after == "alike":
                options.append(max(size(a), size(b)) + cost(m + 1, n + 1, "lone"))
        if unit == "character":
            both = n + 2 <= len(true) and not any(doubtful[n : n + 2])
            if m < len(mine) and both and "".join(true[n : n + 2]) == mine[m]:
                options.append(1 + cost(m + 1, n + 2, "alike"))
            one = n < len(true) and m + 2 <= len(mine) and not doubtful[n]
            if one and "".join(mine[m : m + 2]) == true[n]:
                options.append(1 + cost(m + 2, n + 1, "alike"))
        return min(options)

    return cost(0, 0, "alike")


words = st.lists(st.sampled_from(["a", "b", "ab", "the", "tha", "abthe", "other", "othre"]))


@pytest.mark.parametrize("unit", ["word", "character"])
@settings(max_examples=300, deadline=None)
@given(words, words, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.3]))
def test_fast_and_slow_alignment_agree(unit, mine, true, rng, share):
    doubtful = tuple(rng.random() < share for _ in true)
    slow = slow_cost(tuple(mine), tuple(true), unit, doubtful)
    assert alignment_cost(mine, true, unit, doubtful) == slow


REFERENCE = (
    "Grain was sold by the harbour committee until late winter.\n\n"
    "A survey of the valley found copper and limestone beneath the old quarry."
)
MISREAD = {"harbour committee": "of xqzv", "limestone": "it", "winter.": "wjnzer."}
FORMS = ("{} {}", "{}/{}", "{} or {}", "{} ({})", "[{}] {}", "{}\n{}", "{}, {}", "{} read: {}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("right", MISREAD)
@pytest.mark.parametrize("name", ["cer", "wer"])
def test_the_right_reading_beside_a_wrong_one_does_not_pay(name, right, form):
    wrong = MISREAD[right]
    honest = rates(name, REFERENCE.replace(right, wrong), REFERENCE)
    for pair in ((wrong, right), (right, wrong)):
        assert rates(name, REFERENCE.replace(right, form.format(*pair)), REFERENCE) <= honest


def test_the_rate_itself_is_a_part():
    text = REFERENCE.replace("limestone", "it limestone")
    ((wrong, right),) = (value_of("cer", page(REFERENCE), group(text, REFERENCE)),)
    assert wrong.parts == {"as_read": pytest.approx(1 - 3 / (len(REFERENCE) - 1))}
    assert wrong.value < 1 - 3 / len(REFERENCE) - 0.1
    assert (right.value, right.parts) == (1.0, {"as_read": 1.0})


def test_in_a_script_without_spaces_a_word_in_two_readings_is_missing():
    reference = "\u6e2f\u53e3\u5728\u6cb3\u8fb9\u7684\u65e7\u57ce\u91cc\u9762\u5f88\u5927"
    honest = rates("wer", reference.replace("\u65e7", "\u65e9"), reference)
    assert rates("wer", reference.replace("\u65e7", "\u65e9\u65e7"), reference) <= honest < 1
