"""Texts and text layers of pages compare alike, whatever a PDF makes of their letters."""

import unicodedata

import pytest

from olmrl.synth.proof.letters import is_right_to_left, key, letters_of


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("efficient office", "e\ufb03cient o\ufb03ce"),
        ("Well-known, too", "well\x02\r\nknown too"),
        ("１２３ ＡＢＣ", "123 abc"),
        ("déjà é", unicodedata.normalize("NFD", "déjà é")),
        ("항구 도서관", unicodedata.normalize("NFD", "항구 도서관")),
        ("港口图书馆", "港口图\r\n书馆"),
        ("Ἀθῆναι", unicodedata.normalize("NFD", "Ἀθῆναι")),
    ],
)
def test_a_layer_may_break_and_compose_its_letters_otherwise(text, layer):
    assert key(text) == key(layer) == "".join(letter for letter, _ in letters_of(layer))


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("على الطاولة", "ىلع ةلواطلا"),
        ("الإسلام", "الإسالم"),  # a ligature told in the order of its picture
        ("مكتبة 1887 قديمة", "ةبتكم 1887 ةميدق"),
        ("מים שקטים", "םימ םיטקש"),
        ("قــديم", "قديم"),
    ],
)
def test_words_read_from_the_right_may_come_from_either_end(text, layer):
    assert key(text) == key(layer)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("على الطاولة", "الطاولة على"),  # words keep their order
        ("1887", "7881"),
        ("abc", "acb"),
        ("قديم", "قديمة"),
        ("été", "ete"),
    ],
)
def test_other_texts_stay_other_texts(text, other):
    assert key(text) != key(other)


def test_each_letter_knows_its_place():
    text = "a\u0301\ufb01 بت-x"
    assert [(letter, text[place]) for letter, place in letters_of(text)] == [
        ("á", "a"),
        ("f", "\ufb01"),
        ("i", "\ufb01"),
        ("ب", "ب"),
        ("ت", "ت"),
        ("x", "x"),
    ]


@pytest.mark.parametrize(
    ("text", "answer"), [("نص عربي 12", True), ("a text", False), ("مع some English", False)]
)
def test_direction_is_that_of_most_letters(text, answer):
    assert is_right_to_left(text) == answer
