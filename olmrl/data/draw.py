"""Which pages a limit leaves: a sample by seed, spread over the files and folders they come from.

Every limit on a list of pages goes through `draw_pages`. Benchmarks list their pages by source (all
arXiv formulas first), so the first pages of a list are no sample of it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from olmrl.data.page import PageSource


def draw_pages(
    sources: Sequence[PageSource], limit: int | None, seed: int | None
) -> list[PageSource]:
    """Draw pages, as many of each origin as its share of all, at least one where possible.

    A page's origin is the JSONL file of its tests (the one with the fewest pages, if several name
    it), or the topmost folder of its PDF. Which pages of an origin are drawn depends on seed and
    page id alone, so a higher limit adds pages and takes none away from an origin that keeps its
    share.

    Args:
        sources: pages.
        limit: most pages; None: all.
        seed: of the run; None: the first pages of the list, as olmrl did before it drew them.

    Returns:
        The drawn pages, in the order of `sources`.
    """
    if limit is None or limit >= len(sources):
        return list(sources)
    if seed is None:
        return list(sources[:limit])
    origins = _origins(sources)
    members: dict[str, list[int]] = {}
    for number, origin in enumerate(origins):
        members.setdefault(origin, []).append(number)
    shares = _shares({name: len(pages) for name, pages in members.items()}, limit, seed)
    chosen = [
        number
        for origin, pages in members.items()
        for number in sorted(pages, key=lambda n: _rank(seed, sources[n].page_id))[: shares[origin]]
    ]
    return [sources[number] for number in sorted(chosen)]


def limit_note(key: str, limit: int | None, there: int) -> str | None:
    """A sentence for a limit that asks for more pages than there are; None if it does not."""
    if limit is None or limit <= there:
        return None
    return f"{key}: {limit} pages were asked for and there are {there}; all of them are used"


def _origins(sources: Sequence[PageSource]) -> list[str]:
    pages_of = Counter(name for source in sources for name in set(source.test_files))

    def origin(source: PageSource) -> str:
        if source.test_files:
            return min(source.test_files, key=lambda name: (pages_of[name], name))
        folder, _, name = source.page_id.partition("/")
        return folder if name else ""

    return [origin(source) for source in sources]


def _shares(sizes: Mapping[str, int], limit: int, seed: int) -> dict[str, int]:
    """Pages of each origin: largest remainders, at least one each where the limit allows."""
    if limit < len(sizes):
        drawn = sorted(sizes, key=lambda name: _rank(seed, name))[:limit]
        return {name: int(name in drawn) for name in sizes}
    total = sum(sizes.values())
    exact = {name: limit * size / total for name, size in sizes.items()}
    shares = {name: max(1, int(share)) for name, share in exact.items()}
    while sum(shares.values()) > limit:
        shares[max((n for n in shares if shares[n] > 1), key=lambda n: shares[n] - exact[n])] -= 1
    while sum(shares.values()) < limit:
        short = (name for name in shares if shares[name] < sizes[name])
        shares[max(short, key=lambda name: exact[name] - shares[name])] += 1
    return shares


def _rank(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
