"""Normalisation and similarity, against slow restatements of the rules."""

import random
import re
import unicodedata

import pytest

from olmrl.markup.text import best_ratio, find_similar, normalize


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("a<br>b<br/>c<br />d", "a b c<br />d"),
        ("**bold** __bold__ *it* _it_ <b>x</b><i>y</i>", "bold bold it it xy"),
        ("<strong>x</strong> <em>y</em>", "<strong>x</strong> <em>y</em>"),
        ("snake_case_name 2*3*4", "snakecasename 234"),
        ("**a\nb**", "a b"),
        ("*a\nb*", "*a b*"),
        ("  a \t\r\n b\u00a0\u3000c ", " a b c "),
        ("\u2018a\u2019 \u201cb\u201d \u201ec\u201a", "'a' \"b\" \"c'"),
        ("a\u2013b\u2014c\u2011d\u2012e\u2212f", "a-b-c-d-e-f"),
        ("10 \u00b5m \uff3fx", "10 \u03bcm _x"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("", ""),
    ],
)
def test_normalize(text, normal):
    assert normalize(text) == normal


def slow_normalize(text):
    text = re.sub(r"<br/?>", " ", text)
    for _ in range(2):
        text = re.sub(r"\*\*(.*?)\*\*", r"\1", text)
        text = re.sub(r"__(.*?)__", r"\1", text)
        text = re.sub(r"</?(b|i)>", "", text)
    text = re.sub(r"\*(.*?)\*", r"\1", text)
    text = re.sub(r"_(.*?)_", r"\1", text)
    text = unicodedata.normalize("NFC", re.sub(r"\s+", " ", text))
    for target, sources in {
        "'": "\u2018\u2019\u201a",
        '"': "\u201c\u201d\u201e",
        "_": "\uff3f",
        "-": "\u2013\u2014\u2011\u2012\u2212",
        "\u03bc": "\u00b5",
    }.items():
        for source in sources:
            text = text.replace(source, target)
    return text


def test_normalize_agrees_with_the_slow_restatement():
    rng = random.Random(3)
    pieces = ["*", "**", "_", "__", "<b>", "</b>", "<br>", "<i>", "\n", " ", "a", "b", "\u2019"]
    for _ in range(3000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 25)))
        if "<b" in text and re.search(r"<(b|/b|i)?<", text):
            continue  # tags made by removing tags: both orders are arbitrary
        assert normalize(text) == slow_normalize(text), text


@pytest.mark.parametrize("unit", ["*", "**a", "_", "__", "<b>", "*_", "<", " \n", "\u0301"])
def test_normalize_finishes_on_a_million_marks(unit):
    assert len(normalize(unit * 1_000_000)) <= len(unit) * 1_000_000


def test_ratios():
    assert best_ratio("quick", "the quick fox", 1.0) == 1.0
    assert best_ratio("quick", "the quack fox", 0.8) == pytest.approx(0.8)
    assert best_ratio("quick", "zzz", 0.8) == 0.0
    assert best_ratio("the quick fox", "q", 1.0) == 1.0
    assert list(find_similar("abcd", ["abce", "xyz", "", "abcd"], 0.75)) == [0, 3]
    assert list(find_similar("", ["", "a"], 0.5)) == [0]
