"""Expressions for one of some words."""

import re

import pytest

from olmrl.markup.patterns import one_of
from olmrl.markup.text import FORMATTING_TAGS, normalize
from olmrl.rewards.words import plain_text

WORDS = ("s", "span", "strong", "sub", "sup", "b", "br", "table", "td")


@pytest.mark.parametrize("text", [*WORDS, "", "x", "st", "spans", "tables", "bsub", "d", "r"])
def test_only_the_words_match(text):
    assert bool(re.fullmatch(one_of(WORDS), text)) == (text in WORDS)


def test_a_word_that_begins_like_another_is_found():
    assert re.findall(f"<{one_of(WORDS)}>", "<sub><s><b><br><bd>") == [
        "<sub>",
        "<s>",
        "<b>",
        "<br>",
    ]


@pytest.mark.parametrize("name", FORMATTING_TAGS)
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
def test_every_tag_of_formatting_is_read_in_any_case(name, spell):
    assert normalize(f"x <{spell(name)}>2y</{spell(name)}>") in ("x 2y", "x \u00b2y")


@pytest.mark.parametrize("level", range(1, 7))
def test_headings_are_tags(level):
    assert plain_text(f"<h{level}>a</h{level}>") == "a"
    assert plain_text("<h7>a</h7>") == "<h7>a</h7>"
