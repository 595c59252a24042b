"""Whether the symbols of one formula occur in another in the same arrangement.

The rule is in docs/formats.md#formulas.

Every symbol of the reference must map to a distinct symbol of the hypothesis with the same
character and, in each of the four directions, a matching nearest neighbour. The search backtracks,
so the number of steps is bounded.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from olmrl.markup.text import WorkLimitError

MAX_STEPS = 200_000
"""Maximum candidate symbols that one comparison tries."""

ALIGNMENT_PX = 5.0
"""Symbols are in line if their centres differ by at most this much (px)."""


_ZERO_WIDTH = "\u200b"


class Symbol(NamedTuple):
    """A run of characters and its box; px, y downwards."""

    text: str
    x: float
    y: float
    width: float
    height: float


class Arrangement:
    """The characters of a formula, each with its nearest neighbours.

    Args:
        symbols: Runs of characters; a run's width is divided equally among its characters. White
            space gets its share but does not become a character.
    """

    def __init__(self, symbols: Sequence[Symbol]) -> None:
        self.chars: list[str] = []
        """The characters, in the order of the runs."""
        self._xs: list[float] = []
        self._ys: list[float] = []
        for symbol in symbols:
            width = symbol.width / len(symbol.text)
            for index, char in enumerate(symbol.text):
                if char.isspace() or char == _ZERO_WIDTH:
                    continue
                self.chars.append(char)
                self._xs.append(symbol.x + index * width + width / 2)
                self._ys.append(symbol.y + symbol.height / 2)
        self.counts = Counter(self.chars)
        """How often each character occurs."""
        self.places: dict[str, list[int]] = defaultdict(list)
        """The indices of each character."""
        for index, char in enumerate(self.chars):
            self.places[char].append(index)
        self._by_x = sorted(range(len(self.chars)), key=self._xs.__getitem__)
        self._by_y = sorted(range(len(self.chars)), key=self._ys.__getitem__)
        self._sorted_xs = [self._xs[index] for index in self._by_x]
        self._sorted_ys = [self._ys[index] for index in self._by_y]
        self._neighbors: dict[int, tuple[int | None, ...]] = {}

    def neighbors(self, index: int) -> tuple[int | None, ...]:
        """The nearest characters in line with one: up, down, left, right; None if there is none."""
        if index not in self._neighbors:
            column = _in_line(self._by_x, self._sorted_xs, self._xs[index])
            row = _in_line(self._by_y, self._sorted_ys, self._ys[index])
            self._neighbors[index] = (
                *_nearest(column, self._ys, index),
                *_nearest(row, self._xs, index),
            )
        return self._neighbors[index]


def _in_line(order: list[int], values: list[float], center: float) -> list[int]:
    first = bisect_left(values, center - ALIGNMENT_PX)
    return sorted(order[first : bisect_right(values, center + ALIGNMENT_PX)])


def _nearest(line: list[int], values: list[float], index: int) -> tuple[int | None, int | None]:
    """The members of a line just before and just after one; the first if tied."""
    before: int | None = None
    after: int | None = None
    for other in line:
        if values[other] < values[index]:
            if before is None or values[other] > values[before]:
                before = other
        elif values[other] > values[index] and (after is None or values[other] < values[after]):
            after = other
    return before, after


def contains(hypothesis: Arrangement, reference: Arrangement) -> bool:
    """Whether the hypothesis contains all symbols of the reference in the same arrangement.

    Raises:
        WorkLimitError: The search needs more than `MAX_STEPS`.
    """
    if any(hypothesis.counts.get(char, 0) < count for char, count in reference.counts.items()):
        return False
    candidates = [
        _candidates(reference, index, hypothesis) for index in range(len(reference.chars))
    ]
    if not all(candidates):
        return False
    image: list[int] = []
    used: set[int] = set()
    tried = [0] * len(candidates)
    steps = 0
    while len(image) < len(candidates):
        index = len(image)
        steps += 1
        if steps > MAX_STEPS:
            raise WorkLimitError(f"comparing two formulas takes more than {MAX_STEPS} steps")
        if tried[index] == len(candidates[index]):
            if index == 0:
                return False
            tried[index] = 0
            used.discard(image.pop())
            continue
        candidate = candidates[index][tried[index]]
        tried[index] += 1
        if candidate not in used and _agrees(reference, index, hypothesis, candidate, image):
            image.append(candidate)
            used.add(candidate)
    return True


def _candidates(reference: Arrangement, index: int, hypothesis: Arrangement) -> list[int]:
    """Symbols with the same character whose neighbours have the same characters too."""
    wanted = [
        None if neighbor is None else reference.chars[neighbor]
        for neighbor in reference.neighbors(index)
    ]
    return [
        place
        for place in hypothesis.places[reference.chars[index]]
        if all(
            char is None or (neighbor is not None and hypothesis.chars[neighbor] == char)
            for char, neighbor in zip(wanted, hypothesis.neighbors(place), strict=True)
        )
    ]


def _agrees(
    reference: Arrangement, index: int, hypothesis: Arrangement, candidate: int, image: list[int]
) -> bool:
    """Whether the neighbours that are already mapped are the candidate's neighbours."""
    return all(
        neighbor is None or neighbor >= len(image) or image[neighbor] == other
        for neighbor, other in zip(
            reference.neighbors(index), hypothesis.neighbors(candidate), strict=True
        )
    )
