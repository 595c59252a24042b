"""Character and word error rate: hand-computed values, and plain Levenshtein distance."""

import re
from itertools import combinations, cycle, pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from reward_pages import HEAD, group, page
from test_reward_values import value_of

from olmrl.rewards import score
from olmrl.rewards.word_alignment import _cheapest_in_order, alignment_cost
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
        # missing in its place; where it is it costs nothing, since it is on the page
        ("b gate. old harbour lights", "old harbour lights b gate.", 1 - 8 / 26, 1 - 2 / 5),
        # what was read is no misreading of "old town": it is added, and these are missing
        ("harbour lights of harbour lights", "harbour lights of old town", 1 - 24 / 26, 1 - 4 / 5),
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
    true = draw(st.lists(pool, min_size=6, max_size=10, unique=True))
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


def without_any(mine, true):
    """A text without each set of words of the page: leaving them out may not pay."""
    read = [m for m, word in enumerate(mine) if word in true]
    for size in range(len(read) + 1):
        for gone in combinations(read, size):
            yield tuple(word for m, word in enumerate(mine) if m not in gone)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(edited())
def test_words_that_agree_with_none_cost_what_levenshtein_says(texts):
    """Of the text, or of what would be left if words of the page were left out."""
    mine, true = texts
    plain = min(Levenshtein.distance(less, true) for less in without_any(mine, true))
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


LONG = tuple(word for word in UNLIKE if len(word) >= 8)[:8]
"""Those that are found wherever they stand."""
ALIEN = ("zzvx", "kqjw", "xxqzw", "vzjkq")


def cost_of(kept, mine, true):
    """Cost in words of a sequence in order; other words of the page cost nothing where they are."""
    edges = [(-1, -1), *kept, (len(mine), len(true))]
    gaps = [
        (sum(word not in true for word in mine[a + 1 : m]), n - b - 1)
        for (a, b), (m, n) in pairwise(edges)
    ]
    return sum(map(max, gaps))


@st.composite
def reordered(draw):
    """Words of a page in any order, without some, and with foreign ones."""
    mine = draw(st.permutations(LONG))[: draw(st.integers(0, len(LONG)))]
    for word in ALIEN[: draw(st.integers(0, len(ALIEN)))]:
        mine.insert(draw(st.integers(0, len(mine))), word)
    return tuple(mine)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(reordered())
def test_of_all_sequences_in_order_the_cheapest_is_kept(mine):
    read = [(m, LONG.index(word)) for m, word in enumerate(mine) if word in LONG]
    sequences = (c for size in range(len(read) + 1) for c in combinations(read, size))
    in_order = [c for c in sequences if all(a[1] < b[1] for a, b in pairwise(c))]
    kept = _cheapest_in_order(read, mine, LONG, "word", as_read=False)
    assert tuple(kept) in in_order
    assert cost_of(kept, mine, LONG) == min(cost_of(c, mine, LONG) for c in in_order)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(reordered(), st.data())
def test_in_any_order_neither_silence_nor_filler_pays(mine, data):
    before = alignment_cost(mine, LONG, "word")
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(mine))] * 2)))
    less = (*mine[:start], *(w for w in mine[start:end] if w not in LONG), *mine[end:])
    assert alignment_cost(less, LONG, "word") >= before
    at = data.draw(st.integers(0, len(mine)))
    more = data.draw(st.lists(st.sampled_from(ALIEN)))
    assert alignment_cost((*mine[:at], *more, *mine[at:]), LONG, "word") >= before


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.permutations(LONG), st.integers(1, 6), st.data())
def test_right_words_beside_wrong_ones_win_no_more_than_those_that_none_stands_for(
    true, lost, data
):
    """Where k words stand for j, and m of the j are added: at most j - k, and not if j <= k."""
    at = data.draw(st.integers(0, len(true) - lost))
    wrong = ALIEN[: data.draw(st.integers(1, len(ALIEN)))]
    right = data.draw(st.lists(st.sampled_from(true[at : at + lost]), unique=True))
    right.sort(key=true.index)
    mixed = sorted((data.draw(st.integers(0, 9)), k) for k in range(len(wrong) + len(right)))
    order = [k for _, k in mixed]
    both = sorted(range(len(order)), key=order.index)
    pieces, rights, wrongs = [], iter(right), iter(wrong)
    for k in both:
        pieces.append(next(wrongs) if k < len(wrong) else next(rights))
    honest = alignment_cost((*true[:at], *wrong, *true[at + lost :]), tuple(true), "word")
    hedged = alignment_cost((*true[:at], *pieces, *true[at + lost :]), tuple(true), "word")
    assert honest == max(lost, len(wrong))
    assert honest - hedged <= max(0, min(len(right), lost - len(wrong)))


@pytest.mark.parametrize("name", ["cer", "wer"])
def test_no_part_of_a_page_in_any_order_is_better_left_out_or_said_again(name):
    parts = [
        "Grain was sold by the harbour committee until late winter.",
        "A survey of the valley found copper beneath the old quarry.",
        "Three surgeons wrote about limestone, membranes and dredging.",
    ]
    reference = "\n\n".join(parts)
    for order in permutations(parts):
        honest = rates(name, "\n\n".join(order), reference)
        for k, part in enumerate(order):
            less = (*order[:k], *order[k + 1 :])
            assert rates(name, "\n\n".join(less), reference) <= honest
            for at in range(4):
                more = (*order[:at], part, *order[at:])
                assert rates(name, "\n\n".join(more), reference) <= honest


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
