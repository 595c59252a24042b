"""A derived bench folder that is changed after the fact: pages and tests go, pages come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmrl import storage
from olmrl.suffixes import cut_suffix

Row = dict[str, Any]


@dataclass(frozen=True)
class PageRows:
    """One page with its tests."""

    pdf: str
    """Below pdfs/."""
    tests: tuple[tuple[str, Row], ...]
    """Test file and row of each."""

    @property
    def name(self) -> str:
        """File name without suffix."""
        return Path(self.pdf).stem


class BenchRows:
    """The tests of a local bench folder, by file.

    Args:
        folder: Bench folder with one-page PDFs, as `folder` writes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, list[Row]] = {
            path.name: [row for _, row in storage.read_jsonl(str(path))]
            for path in sorted(folder.glob("*.jsonl"))
        }

    def pages(self) -> list[PageRows]:
        """All pages with tests, by name."""
        found: dict[str, list[tuple[str, Row]]] = {}
        for file, rows in self.files.items():
            for row in rows:
                found.setdefault(row["pdf"], []).append((file, row))
        return [PageRows(pdf, tuple(tests)) for pdf, tests in sorted(found.items())]

    def add(self, page: PageRows, pdf: bytes, truth: str) -> None:
        """Add a page and its tests."""
        storage.write_bytes(pdf_of(self.folder, page), pdf)
        storage.write_text(truth_of(self.folder, page), truth)
        for file, row in page.tests:
            self.files.setdefault(file, []).append(row)

    def keep(self, wanted: Callable[[Row], bool]) -> None:
        """Drop all other tests, and the files of pages without any."""
        before = self.pages()
        for rows in self.files.values():
            rows[:] = [row for row in rows if wanted(row)]
        left = {page.pdf for page in self.pages()}
        for page in before:
            if page.pdf not in left:
                pdf_of(self.folder, page).unlink()
                truth_of(self.folder, page).unlink(missing_ok=True)

    def write(self) -> None:
        """Write the test files; those without tests go."""
        for file, rows in self.files.items():
            path = self.folder / file
            if rows:
                storage.write_jsonl(str(path), rows)
            else:
                path.unlink(missing_ok=True)


def renamed(page: PageRows, suffix: str) -> PageRows:
    """The page under its name and a suffix, its tests with ids that follow."""
    pdf = f"{cut_suffix(page.pdf, '.pdf')}-{suffix}.pdf"
    old, new = (_id_of(path) for path in (page.pdf, pdf))
    tests = tuple(
        (file, {**row, "pdf": pdf, "id": new + row["id"].removeprefix(old)})
        for file, row in page.tests
    )
    return PageRows(pdf, tests)


def pdf_of(folder: Path, page: PageRows) -> Path:
    """Path of a page's PDF."""
    return folder / "pdfs" / page.pdf


def truth_of(folder: Path, page: PageRows) -> Path:
    """Path of a page's reference."""
    return folder / "claude_original" / f"{cut_suffix(page.pdf, '.pdf')}_page1_pg1_repeat1.md"


def told_apart(row: Row) -> str:
    """What of a test's id stays the same in the variants of its page."""
    return str(row["id"]).removeprefix(_id_of(row["pdf"]))


def _id_of(pdf: str) -> str:
    return cut_suffix(pdf, ".pdf").replace("/", "_")
