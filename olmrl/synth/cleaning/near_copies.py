"""Pages that say nearly the same as another one, so that no form or reprint is made twice.

Pages with a text layer are compared by their runs of words (Jaccard similarity), others by a coarse
picture. Whatever the order of the pages, the one whose name sorts first stays.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

LEAST_WORDS = 30
"""Words of the text layer from which it is compared; below, the picture is."""
RUN = 3
"""Words per key."""
SIMILAR = 0.8
"""Share of the keys of two pages that both have, from which one is a copy."""
SIDE = 16
"""Rows and columns of the coarse picture."""
MOST_DIFFERENT = 10
"""Of `SIDE` x `SIDE` comparisons of neighbouring spots, how many may differ in a copy."""
_SKETCH = 8
"""Smallest keys by which pages are found; copies share one of them almost surely."""


@dataclass(frozen=True)
class Print:
    """What a page is compared by."""

    runs: frozenset[int]
    """Keys of its text; empty if it has too little."""
    picture: int
    """Bits of its coarse picture."""


def print_of(text: str, picture: Image.Image) -> Print:
    """What a page is compared by: its text layer and its picture."""
    words = re.findall(r"\w+", text.lower())
    runs: set[int] = set()
    if len(words) >= LEAST_WORDS:
        joined = (" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1))
        runs = {zlib.crc32(run.encode("utf-8", "replace")) for run in joined}
    small = picture.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.int16)
    bits = (grey[:, 1:] - grey[:, :-1] > 2).ravel()
    return Print(frozenset(runs), int("".join("1" if bit else "0" for bit in bits), 2))


def near_copies(prints: Mapping[str, Print]) -> dict[str, str]:
    """For each page that is a near copy of one that stays, the name of that one."""
    copies: dict[str, str] = {}
    with_run: dict[int, list[str]] = defaultdict(list)
    pictures: list[str] = []
    for name in sorted(prints):
        page = prints[name]
        sketch = sorted(page.runs)[:_SKETCH]
        if sketch:
            others = dict.fromkeys(other for run in sketch for other in with_run[run])
            found = next((o for o in others if _share(page.runs, prints[o].runs) >= SIMILAR), None)
        else:
            close = (o for o in pictures if _differ(page, prints[o]) <= MOST_DIFFERENT)
            found = next(close, None)
        if found is not None:
            copies[name] = found
        elif sketch:
            for run in sketch:
                with_run[run].append(name)
        else:
            pictures.append(name)
    return copies


def _share(first: frozenset[int], second: frozenset[int]) -> float:
    return len(first & second) / len(first | second)


def _differ(first: Print, second: Print) -> int:
    return (first.picture ^ second.picture).bit_count()
