"""What lay in the folders of a run, and what became of it; every file is counted once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from olmrl import storage
from olmrl.data.page import PageSource, lone_files
from olmrl.suffixes import has_suffix


class FoundPairs(NamedTuple):
    """Of all sets of page pairs."""

    unpaired: list[str]
    """.md files without a PDF of their own, and PDFs without a .md; they are not pages."""
    refused: int
    """Pairs that cannot be used; each is listed with its reason."""
    dropped: int
    """Pages that rules on their text will drop from training."""
    limited: int
    """Pairs beyond the limit of their set."""
    kept: int
    """The others."""
    plain: int
    """Usable pairs whose .md has no front matter."""

    @property
    def pairs(self) -> int:
        """Pairs of page and text."""
        return self.refused + self.dropped + self.limited + self.kept

    def __str__(self) -> str:
        lone_md = sum(has_suffix(path, ".md") for path in self.unpaired)
        lone = lone_files(lone_md, len(self.unpaired) - lone_md)
        beside = f" (beside them {lone})" if lone else ""
        plain = (
            f"; {self.plain} without front matter, taken as upright pages of text"
            if self.plain
            else ""
        )
        limited = f"{self.limited} beyond a limit, " if self.limited else ""
        return (
            f"{self.pairs} page pairs{beside}: {self.refused} refused, "
            f"{self.dropped} dropped by rules on their text, {limited}{self.kept} kept{plain}"
        )


class FoundBench(NamedTuple):
    """Of the bench folder that a run trains on."""

    untested: list[str]
    """PDFs that no test of the chosen files names; they are not pages."""
    limited: int
    """Pages beyond `data.max_pages`."""
    kept: int
    """The others."""

    def __str__(self) -> str:
        beside = f" (beside them {len(self.untested)} PDF without a test)" if self.untested else ""
        limited = f"{self.limited} beyond data.max_pages, " if self.limited else ""
        return f"{self.limited + self.kept} pages with tests{beside}: {limited}{self.kept} kept"


def untested(folder: str, sources: Sequence[PageSource]) -> list[str]:
    """PDFs of a bench folder that have no page among these."""
    named = {source.pdf_path for source in sources}
    return [p for p in storage.list_files(storage.join(folder, "pdfs"), ".pdf") if p not in named]
