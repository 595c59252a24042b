"""Which pages a folder holds: bench folders and folders of page pairs.

Formats: docs/formats.md#bench-folder and docs/formats.md#page-pairs.

Scanning reads names and JSON lines only. Pages are opened later, one at a time, by `load_page`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from olmrl import storage
from olmrl.data.render import BadPage, UnreadPage, render_page
from olmrl.suffixes import cut_suffix, of_kind
from olmrl.types import REJECTED, Page, RenderedPage

REFERENCE_FOLDER = "claude_original"
"""Folder of reference transcriptions inside a bench folder."""

_PAGE_SUFFIX = re.compile(r"(?P<base>.+)_page(?P<page>\d+)")


@dataclass(frozen=True, slots=True)
class PageSource:
    """Where a page and its truth are stored; light and picklable."""

    page_id: str
    """`<pdf relative to its folder>::<page number>`."""
    pdf_path: str
    """Local path or fsspec URL."""
    page_number: int
    """1-based."""
    reference_path: str | None = None
    """Markdown truth with front matter, or None."""
    tests: tuple[dict[str, Any], ...] = ()
    """Unit-test rows of this page, over all JSONL files, in file and line order."""
    test_files: tuple[str, ...] = ()
    """File name of each row of `tests`."""


class PairScan(NamedTuple):
    """What a folder of page pairs holds."""

    sources: list[PageSource]
    """One per .md with a .pdf beside it, sorted by the .md path."""
    orphans: list[str]
    """.md files without a .pdf of their own beside them; they are not pages."""
    lone_pdfs: list[str]
    """.pdf files without a .md of their own beside them; they are not pages either."""


def lone_files(md: int, pdfs: int) -> str:
    """In words, how many files of page pairs lack the other one; empty if none does."""
    counts = ((md, ".md without a PDF"), (pdfs, "PDF without a .md"))
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def scan_bench(
    folder: str, file_pattern: str | None = None, *, with_rejected: bool = False
) -> list[PageSource]:
    """Find the pages of an olmOCR-bench folder, sorted by page id.

    A page gets its tests from every JSONL file that names it, without those that a person rejected
    (`checked`). A PDF that is named but missing counts as a bad page when it is loaded.

    Args:
        folder: Folder with `pdfs/` and `*.jsonl`.
        file_pattern: Case-insensitive regular expression that JSONL file names must match
            (searched anywhere in the name).
        with_rejected: Keep tests that a person rejected.

    Raises:
        ValueError: not a bench folder, no file matches, or a malformed row (names file and line).
    """
    if not storage.exists(storage.join(folder, "pdfs")):
        raise ValueError(f"{folder}: not a bench folder, it has no pdfs/ folder")
    found = list(_rows(folder, file_pattern))
    rows: dict[tuple[str, int], list[tuple[dict[str, Any], str]]] = {}
    for page_key, row, name in found:
        if with_rejected or row.get("checked") != REJECTED:
            rows.setdefault(page_key, []).append((row, name))
    if not rows:
        held = "only tests that a person rejected" if found else "no tests"
        raise ValueError(f"{folder}: its *.jsonl files hold {held}")
    references = _references(folder)
    sources = [
        PageSource(
            page_id=f"{pdf}::{page}",
            pdf_path=storage.join(folder, "pdfs", pdf),
            page_number=page,
            reference_path=_reference_of(references, pdf, page),
            tests=tuple(row for row, _ in tests),
            test_files=tuple(name for _, name in tests),
        )
        for (pdf, page), tests in rows.items()
    ]
    return sorted(sources, key=lambda source: source.page_id)


def _rows(
    folder: str, file_pattern: str | None
) -> Iterator[tuple[tuple[str, int], dict[str, Any], str]]:
    """((PDF, page), test, file name) of each row."""
    for path in bench_files(folder, file_pattern):
        seen: set[str] = set()
        for line, row in storage.read_jsonl(path):
            page_key, test_id = _check_row(row, f"{path}, line {line}")
            if test_id in seen:
                raise ValueError(f"{path}, line {line}: id {test_id!r} occurs twice in the file")
            seen.add(test_id)
            yield page_key, row, PurePosixPath(path).name


def bench_files(folder: str, file_pattern: str | None = None) -> list[str]:
    """Full paths of the test files of a bench folder, sorted.

    Raises:
        ValueError: there are none, or none matches.
    """
    root = _full_path(folder)
    files = [p for p in storage.list_files(folder, ".jsonl") if p.rpartition("/")[0] == root]
    if not files:
        raise ValueError(f"{folder}: not a bench folder, it has no *.jsonl file")
    if file_pattern is None:
        return files
    try:
        pattern = re.compile(file_pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"file pattern {file_pattern!r}: {error}") from error
    matching = [p for p in files if pattern.search(PurePosixPath(p).name)]
    if not matching:
        names = ", ".join(PurePosixPath(p).name for p in files)
        raise ValueError(f"{folder}: no JSONL file matches {file_pattern!r}; there are {names}")
    return matching


def _full_path(folder: str) -> str:
    """The folder as `storage.list_files` spells it."""
    fs, inner = storage.filesystem(folder)
    full = fs.unstrip_protocol(inner) if storage.is_remote(folder) else inner
    return str(full).rstrip("/")


def _check_row(row: Any, where: str) -> tuple[tuple[str, int], str]:
    """(pdf, page) and id of a test row; the rest is checked where tests are run."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a JSON object, found {type(row).__name__}")
    pdf, page, test_id = row.get("pdf"), row.get("page"), row.get("id")
    if not isinstance(pdf, str) or not pdf:
        raise ValueError(f"{where}: 'pdf' is {pdf!r}, must be a path below pdfs/")
    if ".." in PurePosixPath(pdf).parts or PurePosixPath(pdf).is_absolute():
        raise ValueError(f"{where}: 'pdf' is {pdf!r}, must stay below pdfs/")
    if isinstance(page, str) and page.isdecimal():
        page = int(page)
    if not isinstance(page, int) or isinstance(page, bool) or page < 1:
        raise ValueError(f"{where}: 'page' is {row.get('page')!r}, must be an integer >= 1")
    if not isinstance(test_id, str) or not test_id:
        raise ValueError(f"{where}: 'id' is {test_id!r}, must be a non-empty text")
    return (pdf, page), test_id


def _references(folder: str) -> dict[str, str]:
    """Path of every reference file by its path below the reference folder, without suffix."""
    root = storage.join(folder, REFERENCE_FOLDER)
    if not storage.exists(root):
        return {}
    start = len(_full_path(root)) + 1
    found = of_kind(storage.list_files(root), ".md").by_stem
    return {stem[start:]: path for stem, path in found.items()}


def _reference_of(references: dict[str, str], pdf: str, page: int) -> str | None:
    """Path of a page's reference, under its public name or else under the bench's own."""
    relative = PurePosixPath(pdf)
    stem = cut_suffix(relative.name, ".pdf")
    split = _PAGE_SUFFIX.fullmatch(stem)
    base, numbered = (split["base"], int(split["page"])) if split else (stem, page)
    names = (f"{base}_page{numbered}_pg1_repeat1", f"{stem}_pg{page}_repeat1")
    paths = [str(relative.parent / name) for name in names]
    return next((references[path] for path in paths if path in references), None)


def scan_pairs(root: str) -> PairScan:
    """Find the page pairs below a folder, symlinked folders and files followed.

    Args:
        root: Folder searched recursively.

    Raises:
        ValueError: no such folder, or no pair in it.
    """
    files = storage.list_files(root)
    pdfs, texts = of_kind(files, ".pdf"), of_kind(files, ".md")
    start = len(_full_path(root)) + 1
    sources = [
        PageSource(f"{pdf[start:]}::1", pdf, 1, reference_path=path)
        for stem, path in texts.by_stem.items()
        if (pdf := pdfs.by_stem.get(stem))
    ]
    orphans = [path for stem, path in texts.by_stem.items() if stem not in pdfs.by_stem]
    lone = [path for stem, path in pdfs.by_stem.items() if stem not in texts.by_stem]
    orphans, lone = sorted(orphans + texts.twins), sorted(lone + pdfs.twins)
    if not sources:
        found = f"{len(lone)} .pdf and {len(orphans)} .md files"
        raise ValueError(f"{root}: no page pair X.pdf + X.md in it (it holds {found})")
    return PairScan(sources, orphans, lone)


def load_page(source: PageSource, longest_side: int) -> RenderedPage:
    """Render a page and read its truth.

    Args:
        source: The page.
        longest_side: Pixels of the longer side.

    Raises:
        BadPage: the PDF, the page or the reference cannot be read.
    """
    image = render_page(source.pdf_path, source.page_number, longest_side)
    page = Page(
        page_id=source.page_id,
        pdf_path=source.pdf_path,
        page_number=source.page_number,
        reference=read_reference(source),
        tests=source.tests,
        test_files=source.test_files,
    )
    return RenderedPage(page, image)


Place = tuple[str, int]
"""PDF and page number."""


def refuse_again(source: PageSource, not_again: Mapping[Place, str]) -> None:
    """Leave a page alone that is known to be bad.

    Raises:
        BadPage: with the reason it is known for.
    """
    reason = not_again.get((source.pdf_path, source.page_number))
    if reason is not None:
        raise BadPage(source.pdf_path, source.page_number, reason)


def read_reference(source: PageSource) -> str | None:
    """The truth of a page, or None if there is none.

    Raises:
        UnreadPage: the file cannot be read.
        BadPage: it is not UTF-8.
    """
    if source.reference_path is None:
        return None
    try:
        return storage.read_document(source.reference_path)
    except (OSError, ValueError) as error:
        kind = UnreadPage if isinstance(error, OSError) else BadPage
        reason = f"reference unusable: {error}"
        raise kind(source.pdf_path, source.page_number, reason) from error
