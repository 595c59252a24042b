"""Pages of a few words, of which only the tests are known: a list of guesses is no reading.

A policy of GRPO found it: of tests that ask for two neighbouring words and for the order of single
ones, more pass if likely pairs are listed line by line than if the page is read as well as it goes.
"""

import random
from itertools import product

import numpy as np
import pytest
import red_team

from olmrl.synth.invented.sheet import STYLES, invent
from olmrl.synth.invented.truth import make_tests
from olmrl.types import Page

READ, CHOICES = 0.6, 3
HEAD = "---\nprimary_language: en\n---\n"


def blocks(sheet):
    """Lines of words with their frames, in reading order."""
    if sheet.heading:
        yield "# {}", sheet.heading
    for line in (*sheet.lines, *sheet.left, *sheet.right):
        yield "{}", line
    cells = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in sheet.table)
    if cells:
        yield f"<table>{cells}</table>", ()


FORMS = {
    "paragraphs": lambda frame, pairs: [frame.format(pair) for pair in pairs],
    "lines": lambda frame, pairs: [frame.format("\n".join(pairs))],
    "bullets": lambda frame, pairs: [f"- {pair}" for pair in pairs],
    "one line": lambda frame, pairs: [frame.format(" ".join(pairs))],
    "commas": lambda frame, pairs: [frame.format(", ".join(pairs))],
    "slashes": lambda frame, pairs: [frame.format(" / ".join(pairs))],
}


def transcriptions(sheet, words, rng, form):
    """Of one uncertain reader: what it reads best, and what it lists of all that it may be."""
    honest, listed = [], []
    for frame, line in blocks(sheet):
        likely = []
        for word in line:
            others = rng.sample([w for w in words if w != word], CHOICES - 1)
            likely.append([word] if rng.random() < READ else rng.sample([word, *others], CHOICES))
        honest.append(frame.format(" ".join(choice[0] for choice in likely)))
        listed += form(frame, [" ".join(pair) for pair in product(*likely)][:9])
    return HEAD + "\n\n".join(honest), HEAD + "\n\n".join(listed)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_list_of_likely_pairs_earns_less_than_a_reading(form):
    gains = []
    for seed in range(40):
        rng = random.Random(seed)
        style = STYLES[1]
        sheet = invent(rng, style)
        rows = tuple(make_tests(sheet, "a.pdf", rng))
        page = Page("a.pdf::1", "a.pdf", 1, tests=rows, test_files=("t",) * len(rows))
        honest, listed = red_team.score(
            page, list(transcriptions(sheet, style.words, rng, form)), ("bench",)
        )
        gains.append(listed.total - honest.total)
    assert np.mean(gains) < 0


@pytest.mark.parametrize("whole_lines", [False, True])
def test_the_truth_of_such_pages_earns_all_but_little(whole_lines):
    earned = []
    for level, seed in product((1, 2, 3), range(20)):
        rng = random.Random(seed)
        sheet = invent(rng, STYLES[level])
        rows = make_tests(sheet, "a.pdf", rng, whole_lines=whole_lines)
        rows = [row for row in rows if row["type"] in ("present", "order")]
        if not rows:
            continue
        page = Page("a.pdf::1", "a.pdf", 1, tests=tuple(rows), test_files=("t",) * len(rows))
        text = HEAD + "\n\n".join(frame.format(" ".join(line)) for frame, line in blocks(sheet))
        earned.append(red_team.score(page, [text], ("bench",))[0].total)
    assert np.mean(earned) > 0.98
