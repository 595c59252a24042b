"""Rewards against a reference: text that is not on the page never pays, nor does silence.

Pages have sentences, headings, a table or two and formulas. The honest transcription has typing
errors, and some blocks are lost or in the wrong place. Each attack adds something to it.

Examples are the same in every run: a random page can, rarely, lack just what a copied word is.
"""

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_pages import HEAD, group, page

from olmrl.config.schema import RewardConfig
from olmrl.rewards import build, score_rollouts
from olmrl.rewards.integrity import Said, key

NAMES = ("cer", "wer", "teds", "formula", "validity", "reading_order")
COMMON = ("the", "of", "and", "in", "to", "a", "was", "that")


class Source:
    """Random words, sentences and elements; those of different sources have nothing in common."""

    def __init__(self, rng, letters):
        self.rng = rng
        self.letters = letters
        self.words = ["".join(rng.choices(letters, k=rng.randrange(5, 11))) for _ in range(200)]

    def sentence(self, common=0.3):
        picks = [
            self.rng.choice(COMMON) if self.rng.random() < common else self.rng.choice(self.words)
            for _ in range(self.rng.randrange(8, 20))
        ]
        return " ".join(picks) + "."

    def paragraph(self):
        return " ".join(self.sentence() for _ in range(self.rng.randrange(2, 5)))

    def rows(self):
        width = self.rng.randrange(2, 5)
        return [
            [self.rng.choice(self.words), *(str(self.rng.randrange(10**6)) for _ in range(width))]
            for _ in range(self.rng.randrange(2, 6))
        ]

    def formula(self):
        a, b, c = self.rng.sample(self.letters, 3)
        forms = rf"\frac{{{a}}}{{{b}+{c}}}", rf"\sqrt{{{a}}} = {b}_{{{c}}}", rf"{a}^{{{b}}} - {c}"
        return self.rng.choice(forms)


def html(rows):
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def make_page(rng):
    """The blocks of a page."""
    source = Source(rng, string.ascii_lowercase[:13])
    blocks = ["# " + source.sentence()]
    for _ in range(rng.randrange(3, 6)):
        blocks.append(source.paragraph())
        first, second, third = rng.sample(source.words, 3)
        formulas = source.formula(), source.formula()
        blocks.append(rf"{first} \({formulas[0]}\) {second} \[ {formulas[1]} \] {third}.")
    for _ in range(rng.randrange(1, 3)):
        blocks.insert(rng.randrange(1, len(blocks)), html(source.rows()))
    return blocks


def misread(blocks, rng):
    """An honest, imperfect transcription, and the names of the rewards that can judge it.

    Error rates cannot judge blocks in another order: each is missing in one place and invented in
    the other, so that leaving it out, or writing it in both places, is better.
    """
    kept = [block for block in blocks if rng.random() > 0.15] or list(blocks)
    shuffled = rng.random() < 0.3
    if shuffled:
        rng.shuffle(kept)
    names = [name for name in NAMES if not (shuffled and name in ("cer", "wer"))]
    return [typing_errors(block, rng) for block in kept], names


def typing_errors(block, rng):
    share = rng.choice((0, 0, 0.003, 0.01))
    return "".join(
        rng.choice(string.ascii_lowercase) if c.isalpha() and rng.random() < share else c
        for c in block
    )


def plain(blocks):
    """Those without formulas, as two formulas may well have most of their characters in common."""
    return [block for block in blocks if "\\" not in block] or blocks


def half(block):
    return block[: len(block) // 2]


def inserted(blocks, more, rng):
    place = rng.randrange(len(blocks) + 1)
    return [*blocks[:place], *more, *blocks[place:]]


def within(blocks, more, rng):
    """Adds words inside a paragraph, between two words."""
    place = rng.randrange(len(blocks))
    if "<" in blocks[place] or "\\" in blocks[place]:
        return [*blocks, more]
    words = blocks[place].split(" ")
    at = rng.randrange(1, len(words) + 1)
    changed = " ".join([*words[:at], more, *words[at:]])
    return [*blocks[:place], changed, *blocks[place + 1 :]]


def more_rows(blocks, foreign, rng):
    tables = [place for place, block in enumerate(blocks) if block.startswith("<table>")]
    if not tables:
        return [*blocks, html(foreign.rows())]
    lines = blocks[tables[0]].split("\n")
    at = rng.randrange(1, len(lines))
    lines[at:at] = html(foreign.rows()).split("\n")[1:-1]
    return [*blocks[: tables[0]], "\n".join(lines), *blocks[tables[0] + 1 :]]


def more_cells(blocks, foreign, rng):
    cell = f"<td>{foreign.rng.choice(foreign.words)}</td></tr>"
    return [block.replace("</tr>", cell) for block in blocks]


ATTACKS = {
    "filler": lambda b, f, r: inserted(b, [f.paragraph()], r),
    "filler at the end": lambda b, f, r: [*b, *(f.paragraph() for _ in range(4))],
    "filler within": lambda b, f, r: within(b, f.sentence(common=0), r),
    "heading": lambda b, f, r: inserted(b, ["## " + f.sentence()], r),
    "bold": lambda b, f, r: within(b, f"**{r.choice(f.words)}**", r),
    "all again": lambda b, f, r: [*b, *b],
    "all again, reversed": lambda b, f, r: [*b, *b[::-1]],
    "all again in one line": lambda b, f, r: [*b, " ".join(b)],
    "all again in capitals": lambda b, f, r: [*b, *(block.upper() for block in b)],
    "a block again": lambda b, f, r: inserted(b, [r.choice(plain(b))], r),
    "half a block again": lambda b, f, r: inserted(
        b, [(c := r.choice(plain(b)))[: len(c) // 2]], r
    ),
    "a table": lambda b, f, r: inserted(b, [html(f.rows())], r),
    "a table of single cells": lambda b, f, r: [*b, html([[w] for w in f.words[:8]])],
    "rows": more_rows,
    "cells": more_cells,
    "formulas": lambda b, f, r: [*b, *(rf"\({f.formula()}\)" for _ in range(5))],
    "all formulas in one": lambda b, f, r: [
        *b,
        r"\(" + r"\quad ".join(f.formula() for _ in b) + r"\)",
    ],
    "a loop": lambda b, f, r: [*b, f"{r.choice(f.words)} " * 300],
    "the common words": lambda b, f, r: [*b, " ".join(COMMON * 20)],
    "a comment": lambda b, f, r: [*b, f"<!-- {f.sentence()} -->"],
    "another head": lambda b, f, r: ["---\nx: 1\n---", *b],
}


def values(truth, *texts):
    the_page = page(HEAD + "\n\n".join(truth))
    completions = group(*(HEAD + "\n\n".join(text) for text in texts))
    rewards = [build(RewardConfig(name=name)) for name in NAMES]
    rollouts = score_rollouts(rewards, the_page, completions)
    return [{name: r.rewards[name].value for name in r.rewards} for r in rollouts]


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10**9))
def test_added_text_never_pays(seed):
    rng = random.Random(seed)
    truth = make_page(rng)
    honest, names = misread(truth, rng)
    foreign = Source(rng, string.ascii_lowercase[13:])
    attacked = {name: attack(honest, foreign, rng) for name, attack in ATTACKS.items()}
    before, *after = values(truth, honest, *attacked.values())
    for attack, value in zip(attacked, after, strict=True):
        for name in names:
            assert value[name] <= before[name] + 1e-9, (attack, name, value[name], before[name])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**9))
def test_true_text_left_out_never_pays(seed):
    rng = random.Random(seed)
    truth = make_page(rng)
    honest, names = misread(truth, rng)
    right = [place for place, block in enumerate(honest) if block in truth]
    shorter = [
        honest[:place] + honest[place + 1 :] for place in rng.sample(right, min(3, len(right)))
    ]
    before, *after = values(truth, honest, *shorter, [])
    for value in after:
        for name in names:
            assert value[name] <= before[name] + 1e-9, (name, value[name], before[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_is_best(name):
    truth = make_page(random.Random(name))
    assert values(truth, truth)[0][name] == 1.0


def test_a_long_page_without_reference_costs_linear_time():
    numbers = " ".join(str(n) for n in range(35_000))
    assert not Said.of_body(numbers).repeats
    assert Said.of_body(numbers + " and again " + numbers[:1000]).repeats
    assert not Said.of_body("if a <b and c> d, else e <f or g> h").repeats


def test_words_in_angle_brackets_are_said():
    assert key("a <b and c> d") == "abandcd"
    assert key('<td colspan="2">Tons</td>') == "tons"
