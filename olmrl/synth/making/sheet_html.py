"""The pages of a derived bench folder as a sheet to look at (`olmrl.mix.sheet`)."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from olmrl.data.render import render_page
from olmrl.mix.sheet import SheetPage, write_sheet

MOST_PAGES = 200
SIDE = 1000
"""Longer side of a picture, in pixels."""


def write_derived(
    bench: Path,
    pages: Path,
    report: dict[str, Any],
    out: Path,
    told: Callable[[SheetPage], SheetPage] = lambda page: page,
) -> None:
    """Write the sheet of the pages that got tests, at most `MOST_PAGES`.

    Args:
        bench: The bench folder that was derived.
        pages: Folder with X.pdf and X.md of its pages.
        report: Of `derive_folder`.
        out: Folder to write.
        told: Adds what else is known of a page.
    """
    names = sorted(report["tests_per_page"])
    more = f", the first {MOST_PAGES} shown" if len(names) > MOST_PAGES else ""
    rejected = report["rejected_per_page"]
    shown = map(told, derived_pages(bench, pages, names[:MOST_PAGES], rejected))
    write_sheet(shown, out, f"Pages and their tests: {len(names)} pages{more}")


def derived_pages(
    bench: Path, pages: Path, names: list[str], rejected: Mapping[str, Mapping[str, int]]
) -> Iterator[SheetPage]:
    """What a derived bench folder knows of its pages."""
    tests: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(bench.glob("*.jsonl")):
        for line in path.read_text("utf-8").split("\n"):
            if line:
                row = json.loads(line)
                tests[Path(row["pdf"]).stem].append(row)
    for name in names:
        yield SheetPage(
            name,
            render=picture_of(pages / f"{name}.pdf"),
            truth=(pages / f"{name}.md").read_text("utf-8"),
            tests=tuple(tests[Path(name).stem]),
            failed_checks=tuple(f"{n} x {why}" for why, n in rejected.get(name, {}).items()),
        )


def picture_of(pdf: Path, page: int = 1) -> bytes:
    """A page as a JPEG with a longer side of `SIDE` pixels."""
    stream = io.BytesIO()
    Image.fromarray(render_page(str(pdf), page, SIDE)).save(stream, "JPEG")
    return stream.getvalue()
