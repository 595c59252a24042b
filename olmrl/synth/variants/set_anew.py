"""Variants of a page that are set anew from its HTML: more text on it, or typing errors in it.

They come after their source page, with names that say so (`X-p3-density`), and go through the same
proof and the same derivation of tests as any page.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from olmrl.synth.variants.kinds import gets
from olmrl.synth.variants.typos import MOST_TYPOS, with_typos
from olmrl.synth.web.document import text_of
from olmrl.synth.web.pages import Height, WebPage, fill
from olmrl.synth.web.style import Look

LEAST_GAIN = 1.3
"""Times the text of the source page that a dense page must hold."""
_LEAST_PX = 8.5
"""CSS pixels of the smallest type: 6.4 points."""


@dataclass(frozen=True)
class Version:
    """A page, or a variant of one."""

    suffix: str
    """Of its name: `` for the page itself, `-density`, `-typos`."""
    page: WebPage
    look: Look
    facts: dict[str, Any] = field(default_factory=dict)
    """`variant`, and how it was made."""


def versions(
    pages: Sequence[WebPage],
    blocks: Sequence[str],
    look: Look,
    measure: Callable[[Sequence[str], Look], Sequence[Height]],
    *,
    shares: Mapping[str, float],
    seed: int,
    name: str,
) -> Iterator[Version]:
    """Each page, followed by its variants.

    Args:
        pages: Of one document.
        blocks: All blocks of the document.
        look: How the pages are set.
        measure: Heights of blocks in a look.
        shares: Of `kinds.parse_variants`.
        seed: Of the run.
        name: Of the document.
    """

    @cache
    def dense() -> tuple[Look, Sequence[Height]]:
        smaller = _denser(look, random.Random(f"{seed}/{name}/density"))
        return smaller, measure(blocks, smaller)

    for page in pages:
        yield Version("", page, look)
        own = f"{name}-p{page.number}"
        if gets(shares, "density", own, seed):
            smaller, heights = dense()
            fuller = _fuller(page, blocks, heights, smaller)
            if fuller is not None:
                yield Version("-density", fuller, smaller, {"variant": "density", "of": own})
        if gets(shares, "typos", own, seed):
            changed, typos = with_typos(
                page.blocks, random.Random(f"{seed}/{own}/typos"), MOST_TYPOS
            )
            if typos:
                facts = {"variant": "typos", "of": own, "typos": [list(typo) for typo in typos]}
                yield Version("-typos", replace(page, blocks=tuple(changed)), look, facts)


def _denser(look: Look, rng: random.Random) -> Look:
    """The same design in small type, close lines and narrow margins."""
    return replace(
        look,
        font_px=round(max(_LEAST_PX, look.font_px * rng.uniform(0.62, 0.74)), 1),
        line=round(rng.uniform(1.1, 1.2), 2),
        margin=max(28, round(look.margin * 0.55)),
        gap=max(16, round(look.gap * 0.8)),
    )


def _fuller(
    page: WebPage, blocks: Sequence[str], heights: Sequence[Height], look: Look
) -> WebPage | None:
    """The page that starts as another one does and holds more; None at a document's end."""
    starts = [at for at, block in enumerate(blocks) if block == page.blocks[0]]
    following = page.blocks[1] if len(page.blocks) > 1 else None
    start = next((at for at in starts if following in blocks[at + 1 : at + 4]), starts[0])
    made = next(fill(blocks[start:], heights[start:], look, lambda reason: None), None)
    if made is None or _length(made) < LEAST_GAIN * _length(page):
        return None
    return replace(made, number=page.number)


def _length(page: WebPage) -> int:
    return sum(len(text_of(block)) for block in page.blocks)
