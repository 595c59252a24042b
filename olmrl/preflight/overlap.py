"""Held-out pages that are trained on: scores on them say nothing of new pages."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence

from olmrl import storage
from olmrl.config.schema import GrpoConfig, SftConfig
from olmrl.data.page import PageSource, scan_bench, scan_pairs

Place = tuple[str, int]
"""A PDF and its page."""


def remarks(config: GrpoConfig | SftConfig) -> Iterator[str]:
    """A sentence for each set of held-out pages that shares pages with the training pages.

    Pages are the same by path, links followed, or by the content of their PDF. Folders that cannot
    be read, or lie elsewhere, are left out: the checks tell of them.
    """
    trained = [page for place in _trained(config) for page in _pages(*place)]
    for key, folder, kind in _heldout(config):
        held = _pages(folder, kind)
        places = _shared(trained, held)
        shared = [page for page in held if _place(page) in places]
        if shared:
            share = "all" if len(shared) == len(held) else str(len(shared))
            yield (
                f"{key}: {share} of its {len(held)} pages are trained on as well (the first is "
                f"{shared[0].page_id}); scores on them say nothing of new pages"
            )


def _trained(config: GrpoConfig | SftConfig) -> list[tuple[str, str, str | None]]:
    """(Folder, kind, pattern of its test files) of each set of training pages."""
    if isinstance(config, GrpoConfig):
        return [(config.data.train, "bench", config.data.file_pattern)]
    return [(entry.root, "pairs", None) for entry in config.data.train]


def _heldout(config: GrpoConfig | SftConfig) -> Iterator[tuple[str, str, str]]:
    """(Key, folder, kind) of each set of held-out pages."""
    if isinstance(config, GrpoConfig):
        if config.data.heldout is not None:
            yield "data.heldout", config.data.heldout, "bench"
        return
    for number, entry in enumerate(config.data.evaluation):
        yield f"data.evaluation[{number}].root", entry.root, "pairs"
    generate = config.evaluation.generate
    if generate is not None and generate.bench is not None:
        yield "evaluation.generate.bench", generate.bench, "bench"


def _pages(folder: str, kind: str, pattern: str | None = None) -> Sequence[PageSource]:
    if storage.is_remote(folder) or not os.path.isdir(folder):
        return ()
    try:
        return scan_bench(folder, pattern) if kind == "bench" else scan_pairs(folder).sources
    except (ValueError, OSError):
        return ()


def _place(page: PageSource) -> Place:
    return page.pdf_path, page.page_number


def _shared(trained: Sequence[PageSource], held: Sequence[PageSource]) -> set[Place]:
    """Places of held-out pages that are trained on.

    Content is compared between PDFs of one size only, so that few are read.
    """
    paths = {_real(page) for page in trained}
    found = {_place(page) for page in held if _real(page) in paths}
    left = [page for page in held if _place(page) not in found]
    sizes = {_size(page.pdf_path) for page in left} - {None}
    alike = _contents(page for page in trained if _size(page.pdf_path) in sizes)
    if alike:
        known = set(alike.values())
        found |= {place for place, content in _contents(left).items() if content in known}
    return found


def _real(page: PageSource) -> Place:
    return os.path.realpath(page.pdf_path), page.page_number


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _contents(pages: Iterable[PageSource]) -> dict[Place, tuple[str, int]]:
    """Digest of the PDF and number of each page that can be read."""
    digests: dict[str, str | None] = {}
    found = {}
    for page in pages:
        if page.pdf_path not in digests:
            digests[page.pdf_path] = _digest(page.pdf_path)
        digest = digests[page.pdf_path]
        if digest is not None:
            found[_place(page)] = (digest, page.page_number)
    return found


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None
