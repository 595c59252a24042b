"""Order tests across columns: a reader that goes on to the right at a line's end fails them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise, product

from olmrl.synth.derived.candidates import Candidate, beginnings, in_order
from olmrl.synth.proof.layer import Box, TextLayer
from olmrl.synth.proof.reading import Reading

_LETTERS = 12
"""Of a text's beginning; it should stand on one line."""


def across_columns(page: Reading, layer: TextLayer, rng: random.Random) -> Iterator[Candidate]:
    """Pairs of sentences in neighbouring columns, the second no lower on the page than the first.

    Read across, the second comes first, or in the middle of the first one's lines. Where a text
    stands is what the page's text layer says.
    """
    found = [(text, box) for text in beginnings(page) if (box := start_of(layer, text))]
    columns: list[list[tuple[str, Box]]] = [[]]
    for number, (text, box) in enumerate(found):
        if number and starts_column(found[number - 1][1], box):
            columns.append([])
        columns[-1].append((text, box))
    pairs = [
        (before, after)
        for left, right in pairwise(columns)
        for (before, upper), (after, lower) in product(left, right)
        if beside(upper, lower)
    ]
    for before, after in rng.sample(pairs, len(pairs)):
        yield from in_order(page, before, after)


def start_of(layer: TextLayer, text: str) -> Box | None:
    """Where a text begins, if it stands once on the page."""
    places = list(layer.places(text))
    if len(places) != 1:
        return None
    return layer.box(places[0][:_LETTERS])


def starts_column(before: Box, after: Box) -> bool:
    """Whether a text stands at the top of the next column, beside the one before and above it."""
    return beside(before, after) and after.bottom > before.top + _height(before)


def beside(before: Box, after: Box) -> bool:
    """Whether a later text stands in another column, no lower than the one before."""
    far = 4 * _height(before)
    apart = after.left >= before.left + far or after.right <= before.right - far
    return apart and after.top >= before.top - 2


def has_columns(layer: TextLayer, before: str, after: str) -> bool:
    """Whether an order test goes from one column to another."""
    first, second = (start_of(layer, text) for text in (before, after))
    return first is not None and second is not None and beside(first, second)


def _height(box: Box) -> float:
    return max(1.0, box.top - box.bottom)
