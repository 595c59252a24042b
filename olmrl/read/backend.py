"""What reads pages: the interface that engines and servers share, and the loop over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from olmrl.data.page import PageSource
from olmrl.data.render import BadPage
from olmrl.evaluation.reading import Answer, Reading, ReadingSpec, read_pages

LADDER = (0.1, 0.1, 0.2, 0.3, 0.5, 0.8, 0.9, 1.0)
"""Temperatures of the attempts with which released models are read
(docs/formats.md#inference-ladder)."""


class Usage(NamedTuple):
    """Tokens of a page."""

    prompt: int
    completion: int


class Item(NamedTuple):
    """One page to read."""

    name: str
    """Unique; seeds the sampling."""
    source: PageSource


@dataclass(frozen=True, slots=True)
class HowToRead:
    """How pages become text, whoever reads them."""

    longest_side: int = 1288
    """Pixels of the longer side."""
    temperatures: tuple[float, ...] = (0.0,)
    """One per attempt; 0 is greedy. `LADDER` as released models are read."""
    correct_rotation: bool = False
    """Turn a page that the answer calls rotated, and read it again."""
    max_tokens: int = 8000
    """Most tokens of an answer."""
    top_p: float = 1.0
    seed: int = 0

    @property
    def spec(self) -> ReadingSpec:
        """For `evaluation.reading`."""
        return ReadingSpec(self.max_tokens, self.temperatures, self.top_p, self.seed)


class Backend(Protocol):
    """Renders pages and has them read."""

    @property
    def generator(self) -> Any:
        """A `Generator` that takes what `pages` gives."""

    @property
    def at_once(self) -> int:
        """Pages that keep it busy."""

    def count(self, paths: Sequence[str]) -> Iterator[int | BadPage]:
        """Number of pages of each PDF, in order."""

    def pages(self, items: Sequence[Item]) -> Iterator[tuple[str, Any]]:
        """(name, page as the generator takes it or `BadPage`), in order, ready ahead of time."""

    def turn(self, page: Any, degrees: int) -> Any:
        """The page turned counter-clockwise by 90, 180 or 270 degrees."""

    def usage(self, answer: Any) -> Usage:
        """Tokens of an answer."""


Outcome = tuple[str, Reading[Any] | BadPage]


def read_items(backend: Backend, items: Sequence[Item], how: HowToRead) -> Iterator[Outcome]:
    """Read pages; yields (name, what was read or why the page cannot be) as they are settled."""
    if not items:
        return
    bad: list[Outcome] = []

    def good(pages: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        for name, page in pages:
            if isinstance(page, BadPage):
                bad.append((name, page))
            else:
                yield name, page

    turn: Callable[[Any, int], Any] | None = backend.turn if how.correct_rotation else None
    waiting = good(backend.pages(items))
    readings: Iterator[Reading[Answer]] = read_pages(
        backend.generator, waiting, how.spec, at_once=backend.at_once, turn=turn
    )
    for reading in readings:
        while bad:
            yield bad.pop(0)
        yield reading.name, reading
    yield from bad
