"""Runs between marks: as a regular expression finds them, in linear time."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmrl.data.steps.rewriting import MATH, TABLE
from olmrl.markup.enclosed import Enclosed, Pair
from olmrl.synth.proof import reading
from olmrl.synth.variants import typos
from olmrl.synth.web import formulas

D, ANY_CASE = re.DOTALL, re.IGNORECASE
RIGHT = {
    "math": (MATH, re.compile(r"\$\$.*?\$\$|\\\(.*?\\\)|\\\[.*?\\\]", D)),
    "table": (TABLE, re.compile(r"<table\b[^>]*>.*?</table\s*>", D | ANY_CASE)),
    "code": (reading._CODE, re.compile(r"^```.*?^```$", re.MULTILINE | D)),
    "inline": (
        reading._INLINE_MATH,
        re.compile(r"\\\(.+?\\\)|(?<![\\$\w])\$[^$\n]+?\$(?![\w$])", D),
    ),
    "note": (
        reading._NOTE,
        re.compile(r"\[\^[^\]\s]+\]:?|<sup\b[^>]*>.*?</sup>|<sub\b[^>]*>.*?</sub>", ANY_CASE),
    ),
    "tag": (reading._TAG, re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", D)),
    "typos": (typos._DELIMITED, re.compile(r"\\\(.*?\\\)|\\\[.*?\\\]|\$[^$]*\$", D)),
    "web": (formulas._DELIMITED, re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]|\$\$(.+?)\$\$", D)),
}
PIECES = [
    *(
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "$",
        "$$",
        "\\",
        "\n",
        " ",
        "a",
        "0",
        "[^",
        "]",
        ":",
        "[",
        "<",
        ">",
    ),
    *("<table>", "<TABLE a>", "</table>", "</table >", "<table", "```", "\n```", "```\n"),
    *("<sup>", "</sup>", "<sub", "</sub>", "<!--", "-->", "</b>", "<!-"),
]


@pytest.mark.parametrize("name", RIGHT)
@settings(max_examples=150, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_it_finds_what_the_expression_finds(name, text):
    mine, right = RIGHT[name]
    assert [m.span() for m in mine.finditer(text)] == [m.span() for m in right.finditer(text)]
    assert mine.sub("\\1", text) == right.sub(lambda _: "\\1", text)
    assert mine.findall(text) == [m[0] for m in right.finditer(text)]


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize(
    "mark", ["\\( ", "\\[ ", "$$ $", "<table ", "<sup> ", "<!-- ", "```a\n", "[^"]
)
def test_marks_that_close_nothing_are_looked_for_once(name, mark):
    mine, _ = RIGHT[name]
    assert len(mine.sub("", mark * 100_000)) <= len(mark) * 100_000  # minutes, if for each anew


def test_groups_are_those_of_the_pair():
    found = Enclosed(Pair(r"\(", "(.+?)", r"\)"), Pair(r"\[", "(.+?)", r"\]")).finditer("(a) [b]")
    assert [match[1] for match in found] == ["a", "b"]
