"""Whether two typeset formulas look the same.

The bench asks whether one formula shows another as a part of it, and tells places apart only by
neighbours in line, so that `x^2` shows `x_2`. A reward needs more: the same symbols, in the same
places up to spacing, under the same lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from olmrl.bench.document import MAX_FORMULAS
from olmrl.markup.equations import Rendered, configured_renderer, render
from olmrl.markup.symbol_match import ALIGNMENT_PX
from olmrl.types import Float64Array

MAX_CHARS = 20_000
"""Most characters of LaTeX to typeset for one page; a page of nothing else has about half."""
_MOST_SYMBOLS = 1000
"""Longer formulas only look the same if they are the same to MathML."""
_DRAWN = re.compile(
    r"<(?:msqrt|mroot|mphantom|mfrac(?!linethickness=\"0)|menclosenotation=\"\w*\")"
    r"|<mostretchy=\"true\">[^<()\[\]{}|\u2223\u2225\u27e8\u27e9\u230a\u230b\u2308\u2309]<"
)
"""What is drawn without being a symbol: roots, fraction lines, boxes, strokes, bars, braces."""


def are_too_many(formulas: Sequence[str]) -> bool:
    """Whether typesetting formulas would take too long."""
    return len(formulas) > MAX_FORMULAS or sum(map(len, set(formulas))) > MAX_CHARS


@dataclass(frozen=True, eq=False)
class Look:
    """What is compared of a formula."""

    mathml: str
    symbols: str
    """Characters, ordered by themselves, then from left to right, then from the top."""
    places: Float64Array
    """[symbols, 2] their centres, px, y downwards."""
    drawn: Counter[str]
    """What is drawn that is no symbol."""


def typeset(latex: str) -> Rendered:
    """The formula as the configured renderer shows it, or with an error; cached."""
    renderer = configured_renderer()
    return render(latex, fonts="serif" if renderer == "chromium" else "katex", renderer=renderer)


@lru_cache(maxsize=4096)
def look_of(latex: str) -> Look:
    """How a formula that can be typeset looks."""
    rendered = typeset(latex)
    placed = []
    for run in rendered.symbols:
        width = run.width / len(run.text)
        for place, char in enumerate(run.text):
            if char.isprintable() and not char.isspace():
                x, y = run.x + (place + 0.5) * width, run.y + run.height / 2
                placed.append((char, round(x, 1), round(y, 1)))
    placed.sort()
    symbols = "".join(char for char, _, _ in placed)
    places = np.asarray([(x, y) for _, x, y in placed]).reshape(-1, 2)
    return Look(rendered.mathml, symbols, places, Counter(_DRAWN.findall(rendered.mathml)))


def looks_the_same(one: Look, other: Look) -> bool:
    """Whether two formulas show the same symbols in the same places, up to spacing.

    No two symbols differ by more than `ALIGNMENT_PX` in how far one is above the other, and none
    are the other way round from left to right by more than that in both.
    """
    if one.mathml == other.mathml:
        return True
    same = one.symbols == other.symbols and one.drawn == other.drawn
    if not same or not one.symbols or len(one.symbols) > _MOST_SYMBOLS:
        return False
    x, y = one.places.T
    other_x, other_y = other.places.T
    if np.ptp(y - other_y) > ALIGNMENT_PX:
        return False
    right = x[:, None] - x[None] > ALIGNMENT_PX
    left = other_x[:, None] - other_x[None] < -ALIGNMENT_PX
    return not (right & left).any()
