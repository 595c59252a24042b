"""Character and word error rate: hand-computed values, and plain Levenshtein distance."""

import re
from itertools import combinations, cycle, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from reward_pages import HEAD, group, page
from test_reward_values import value_of

from olmrl.rewards import score
from olmrl.rewards.word_alignment import _heaviest_in_order, alignment_cost
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
        ("the big cat sat", "the cat sat", 1 - 4 / 11, 1 - 1 / 3),
        ("the cat sat x", "the cat sat", 1 - 4 / 11, 1 - 1 / 3),  # "x" may be a reading of "sat"
        ("the very big cat sat", "the cat sat", 1 - 9 / 11, 1 - 2 / 3),
        ("helloworld", "hello world", 1 - 1 / 11, 0),
        ("in to it", "into it", 1 - 1 / 7, 0),
        ("", "the cat", 0, 0),
        ("x " * 9, "the cat", 0, 0),
        ("a - b / c", "a - b / c", 1, 1),
        ("of theharbour committee", "of the harbour committee", 1 - 1 / 24, 1 - 2 / 4),
        # letters of passages that have nothing in common do not agree by accident
        ("the red fox sat", "the old cat sat", 1 - 8 / 15, 1 - 2 / 4),
        ("the red fox sat by it", "the old cat sat by it", 1 - 8 / 21, 1 - 2 / 6),
        # missing in one place, invented in the other, where it may be a reading of "old harbour"
        ("b gate. old harbour lights", "old harbour lights b gate.", 1 - (8 + 12) / 26, 1 - 4 / 5),
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


@st.composite
def edited(draw):
    """Distinct words that are unlike each other, and a reading of them: without some, with others
    in their place, and with more; two words at least between two such places."""
    pool = st.sampled_from(UNLIKE)
    true = draw(st.lists(pool, min_size=6, max_size=20, unique=True))
    mine, kept = [], 2
    for number, word in enumerate(true):
        edit = draw(st.sampled_from(["keep", "lose", "replace", "add"])) if kept > 1 else "keep"
        kept = kept + 1 if edit == "keep" else 0
        if edit in ("keep", "add"):
            mine.append(word)
        if edit in ("replace", "add"):
            mine += [
                f"{letter * 4}{number}" for letter in draw(st.sampled_from(["b", "df", "gkv"]))
            ]
    return tuple(mine), tuple(true)


UNLIKE = (
    *("harbour", "estimate", "operator", "kernels", "revenue", "spectrum", "momentum", "committee"),
    *("boiler", "pressure", "manuscript", "theorem", "limestone", "weaver", "autumn", "lighthouse"),
    *("cylinder", "wheat", "furnace", "dredging", "surgeon", "quartz", "valley", "island"),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(edited())
def test_words_that_agree_with_none_cost_what_levenshtein_says(texts):
    mine, true = texts
    plain = Levenshtein.distance(mine, true)
    assert alignment_cost(mine, true, "word") == plain
    kept = [word for word in mine if word in true]
    in_characters = alignment_cost(mine, true, "character", as_read=True)
    assert plain <= in_characters <= sum(len(w) + 1 for w in (*mine, *true) if w not in kept)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.permutations(UNLIKE), st.integers(0, len(UNLIKE)), st.integers(1, 6))
def test_an_added_passage_costs_no_more_than_so_many_words_misread_there(true, at, count):
    more = [f"zzz{k}jv" for k in range(count)]
    longer = (*true[:at], *more, *true[at:])
    sizes = [len(word) + 1 for word in true]
    most = max(sum(sizes[k : k + count]) for k in range(len(sizes)))
    assert alignment_cost(longer, tuple(true), "word") == count
    bound = max(most, sum(len(word) + 1 for word in more))
    assert alignment_cost(longer, tuple(true), "character") <= bound


def heaviest(pairs):
    """By trying all."""
    sets = (c for size in range(len(pairs) + 1) for c in combinations(pairs, size))
    return max(sum(w for *_, w in c) for c in sets if all(a[1] < b[1] for a, b in pairwise(c)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.permutations(range(8)), st.lists(st.integers(1, 9), min_size=8, max_size=8))
def test_the_heaviest_sequence_is_kept(places, weights):
    pairs = list(zip(range(8), places, weights, strict=True))
    weight_of = {(m, n): w for m, n, w in pairs}
    kept = _heaviest_in_order(pairs)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(kept))
    assert sum(map(weight_of.get, kept)) == heaviest(pairs)


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
    assert wrong.value == pytest.approx(1 - 10 / (len(REFERENCE) - 1))  # "limestone", and a space
    assert (right.value, right.parts) == (1.0, {"as_read": 1.0})


def test_in_a_script_without_spaces_a_word_in_two_readings_is_missing():
    reference = "\u6e2f\u53e3\u5728\u6cb3\u8fb9\u7684\u65e7\u57ce\u91cc\u9762\u5f88\u5927"
    honest = rates("wer", reference.replace("\u65e7", "\u65e9"), reference)
    assert rates("wer", reference.replace("\u65e7", "\u65e9\u65e7"), reference) <= honest < 1


LOST = (
    REFERENCE.split("\n\n")[0],
    "the harbour committee until late",
    REFERENCE.split("\n\n")[1],
    "copper and limestone beneath the old quarry.",
)
PLACES = ("{0} {1}", "{1} {0}", "{0}\n\n{1}", "{1}\n\n{0}", "# {0}\n\n{1}", "{0}\n\n> {1}")


def unlike(text):
    """A passage of as many words of the same lengths which resembles a text nowhere."""
    letters = cycle("zkvbjqxwp")
    return re.sub("[A-Za-z]", lambda _: next(letters), text)


@pytest.mark.parametrize("place", [*PLACES, "words in turn"])
@pytest.mark.parametrize("right", LOST)
@pytest.mark.parametrize("name", ["cer", "wer"])
def test_a_passage_beside_what_it_was_misread_as_does_not_pay(name, right, place):
    wrong = unlike(right)
    if place == "words in turn":
        both = " ".join(
            word for pair in zip(wrong.split(), right.split(), strict=True) for word in pair
        )
    else:
        both = place.format(wrong, right)
    honest = rates(name, REFERENCE.replace(right, wrong), REFERENCE)
    assert rates(name, REFERENCE.replace(right, both), REFERENCE) <= honest


FILLER = (
    "the teacher of a small school wrote to his sister in the north that the garden was ready",
    "of the and the in a the of to the and of a the in the",
)


@pytest.mark.parametrize("right", LOST)
@pytest.mark.parametrize("filler", FILLER)
@pytest.mark.parametrize("name", ["cer", "wer"])
def test_filler_in_the_place_of_a_lost_passage_is_worth_no_more_than_silence(name, right, filler):
    silence = rates(name, REFERENCE.replace(right, ""), REFERENCE)
    for count in (2, 5, 9, 18):
        text = REFERENCE.replace(right, " ".join(filler.split()[:count]))
        assert rates(name, text, REFERENCE) <= silence + 1 / len(words_of(REFERENCE))
