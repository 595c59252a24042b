"""Seeded damage to texts: pieces of a grammar, repeated, nested, cut and mixed."""

from __future__ import annotations

import random
from collections.abc import Sequence

_ODD = (
    "\0",
    "\ufeff",
    "\u2028",
    "\u0085",
    "\r",
    "\r\n",
    "\ud800",
    "\u202e",
    "\u00ad",
    "\U000e0041",
)
_ODD += ("\U0001f600", "\u0301" * 20, "\x1b[0m", "\u200d", "&#0;", "&#x110000;", "\t", " " * 300)


def mutant(rng: random.Random, seeds: Sequence[str], pieces: Sequence[str]) -> str:
    """A damaged text.

    Args:
        rng: the only source of chance.
        seeds: whole texts to begin with.
        pieces: what the language is made of.
    """
    text = rng.choice(seeds) if rng.random() < 0.7 else _made(rng, pieces)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        text = _damaged(rng, text, seeds, pieces)
    return text


def _made(rng: random.Random, pieces: Sequence[str]) -> str:
    few = rng.sample(pieces, min(len(pieces), rng.randint(1, 6)))
    return "".join(rng.choice(few) for _ in range(rng.choice((3, 10, 40, 400))))


def _damaged(rng: random.Random, text: str, seeds: Sequence[str], pieces: Sequence[str]) -> str:
    start = rng.randrange(len(text) + 1)
    end = min(len(text), start + rng.randint(0, rng.choice((3, 20, 200))))
    kind = rng.randrange(8)
    if kind == 0:
        return text[:start] + text[end:]
    if kind == 1:
        return text[:start] + text[start:end] * rng.choice((2, 3, 50)) + text[end:]
    if kind == 2:
        return text[:start] + rng.choice(_ODD) + text[end:]
    if kind == 3:
        return text[:start] + rng.choice(pieces) * rng.choice((1, 2, 300)) + text[end:]
    if kind == 4:
        other = rng.choice(seeds)
        return text[:start] + other[rng.randrange(len(other) + 1) :] + text[end:]
    if kind == 5:
        return text[:start]
    if kind == 6:
        opening, closing = rng.sample(list(pieces), 2) if len(pieces) > 1 else ("(", ")")
        depth = rng.choice((2, 20, 300))
        return text[:start] + opening * depth + text[start:end] + closing * depth + text[end:]
    return text[:start] + "".join(rng.choice(pieces) for _ in range(5)) + text[end:]
