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
def test_normalize_in_compat(text, normal):
    assert normalize(text, compat=True) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("a<br>b<br />c<BR\n/>d", "a b c d"),
        ("**b** __c__ *i* _j_ ***k*** <b>x</b><I>y</I>", "b c i j k xy"),
        ("<strong>x</strong> <em>y</em> <u>z</u> <span style='color: red'>w</span>", "x y z w"),
        ("if a <b and c> d, <strong case> stays", "if a <b and c> d, <strong case> stays"),
        ("**a *b* c** *a\nb* **a\n\nb**", "a b c a b **a b**"),
        ("snake_case_name 2*3*4 5 * 3 * 2 p < 0.05* and 0.1**", None),
        ("Smith*, Jones* and *x*, **W**ord, un__even__", "Smith*, Jones* and x, Word, un__even__"),
        (
            "\u4e2d\u6587**\u5f3a\u8c03\u3002**\u4e2d\u6587",
            "\u4e2d\u6587\u5f3a\u8c03\u3002\u4e2d\u6587",
        ),
        (r"2\*3\*4 \_a\_ \$5 \[1\] 1\. \#3 \\ \d", r"2*3*4 _a_ $5 [1] 1. #3 \ \d"),
        (
            "AT&amp;T &lt;b&gt; caf&eacute; &#42;a&#x2a; &nbsp;x &copy 1",
            "AT&T <b> caf\xe9 *a* x &copy 1",
        ),
        ("10<sup>2</sup> 10<sup>-3</sup> 10\xb2 1<sup>st</sup>", "10\xb2 10\u207b\xb3 10\xb2 1st"),
        ("H<sub>2</sub>O H\u2082O x<sub>i</sub>", "H2O H2O xi"),
        (
            "\ufb01ne o\ufb00er \u017fo \u2163 \uff21\uff11 \uff76\uff9e \u33a1",
            "fine offer so IV A1 \u30ac m2",
        ),
        ("co\xadop co\xad\n  op a\u200bb \ufeffc", "coop coop ab c"),
        ("a\u2010b\u2011c\u2012d\u2013e\u2014f\u2015g\u2212h\ufe63i\uff0dj", "a-b-c-d-e-f-g-h-i-j"),
        ("1890--95, so --- or so ---- x", "1890-95, so - or so ---- x"),
        ("\u2018a\u2019 \u201cb\u201d 5\u2032 6\u2033 \u201fc", '\'a\' "b" 5\' 6" "c'),
        ("1\xbd \xbd \u2153 1\u20442 \u2026", "1 1/2 1/2 1/3 1/2 ..."),
        ("10\xb2 \u2460 \xaa \u2122 \xb4 \xa8", None),
        ("cafe\u0301 \u1112\u1161\u11ab 10 \xb5m", "caf\xe9 \ud55c 10 \u03bcm"),
        ("  a \t\r\n b\u00a0\u3000c ", " a b c "),
        ("", ""),
    ],
)
def test_normalize(text, normal):
    assert normalize(text) == (text if normal is None else normal)


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
        assert normalize(text, compat=True) == slow_normalize(text), text


@pytest.mark.parametrize("unit", ["*", "**a", "_", "__", "<b>", "*_", "<", " \n", "\u0301"])
def test_normalize_finishes_on_a_million_marks(unit):
    assert len(normalize(unit * 1_000_000, compat=True)) <= len(unit) * 1_000_000


@pytest.mark.parametrize(
    "unit", ["*", "**a", "*_", "*a ", "<b>", "<sup>", "<b a='", " \n", "\u0301", "&", "\\", "\xbd"]
)
def test_the_default_form_finishes_on_a_page_of_marks(unit):
    assert len(normalize(unit * 100_000)) <= 4 * len(unit) * 100_000


def test_ratios():
    assert best_ratio("quick", "the quick fox", 1.0) == 1.0
    assert best_ratio("quick", "the quack fox", 0.8) == pytest.approx(0.8)
    assert best_ratio("quick", "zzz", 0.8) == 0.0
    assert best_ratio("the quick fox", "q", 1.0) == 1.0
    assert list(find_similar("abcd", ["abce", "xyz", "", "abcd"], 0.75)) == [0, 3]
    assert list(find_similar("", ["", "a"], 0.5)) == [0]
