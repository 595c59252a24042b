"""Page pairs on disk: `X.md` beside `X.pdf` (docs/formats.md#page-pairs)."""

from __future__ import annotations

from typing import NamedTuple

from olmrl import storage
from olmrl.mix import files
from olmrl.suffixes import of_kind


class Pair(NamedTuple):
    """A transcription and its one-page PDF."""

    id: str
    """Path of the markdown below the root, without `.md`."""
    md: str
    """Full path of the markdown."""
    pdf: str
    """Full path of the PDF next to it (may not exist)."""


class Found(NamedTuple):
    """What a folder of page pairs holds."""

    pairs: list[Pair]
    """Sorted by path."""
    beside: dict[str, list[str]]
    """Relative paths of PDFs and .md files that belong to none, by what they are."""


def scan(root: str, *, with_pdf: bool = False) -> Found:
    """Page pairs below a folder; hidden folders are skipped.

    Args:
        root: The folder.
        with_pdf: Without one, a .md is no pair.

    Raises:
        ValueError: the folder does not exist, or has none.
    """
    paths = files.listing(root, "")
    texts, pdfs = of_kind(paths, ".md"), of_kind(paths, ".pdf")
    pairs = [
        Pair(files.relative(stem, root), path, pdfs.by_stem.get(stem, stem + ".pdf"))
        for stem, path in texts.by_stem.items()
        if stem in pdfs.by_stem or not with_pdf
    ]
    if not pairs:
        wanted = "*.md beside *.pdf" if with_pdf else "*.md"
        raise ValueError(f"{root}: no page pairs ({wanted}) below it")
    alone = [path for stem, path in texts.by_stem.items() if stem not in pdfs.by_stem]
    beside = {
        ".md without a PDF": alone if with_pdf else [],
        "PDF without a .md": [p for stem, p in pdfs.by_stem.items() if stem not in texts.by_stem],
        "with the name of another": sorted(texts.twins + pdfs.twins),
    }
    return Found(pairs, {k: [files.relative(p, root) for p in v] for k, v in beside.items()})


def write(folder: str, pair_id: str, text: str, pdf: bytes | str) -> None:
    """Write a pair, the PDF first, so that a markdown file always has its PDF.

    Text that cannot be encoded leaves neither.

    Args:
        folder: Root of the pairs.
        pair_id: Relative name (checked by `files.safe_relative`).
        text: The whole markdown file.
        pdf: Its bytes, or the path of a PDF to link (local) or copy.

    Raises:
        UnicodeEncodeError: the text has a lone surrogate.
    """
    base = files.join_inside(folder, pair_id)
    markdown = text.encode("utf-8")
    if isinstance(pdf, bytes):
        files.write(base + ".pdf", pdf)
    else:
        files.place(pdf, base + ".pdf")
    files.write(base + ".md", markdown)


def read_urls(root: str) -> dict[str, str]:
    """Ids and source URLs from a pair folder's `urls.jsonl`; empty if there is none.

    Raises:
        ValueError: a row is not an object with text `id` and `url`.
    """
    path = storage.join(root, "urls.jsonl")
    if not storage.exists(path):
        return {}
    urls = {}
    for number, row in storage.read_jsonl(path):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise ValueError(f"{path}, line {number}: must be an object with a text id and a url")
        if row.get("url"):
            urls[row["id"]] = str(row["url"])
    return urls


def json_line(value: object) -> str:
    """One compact JSON line (without its newline)."""
    return storage.json_bytes(value).decode("utf-8").removesuffix("\n")
