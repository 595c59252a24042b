"""Pages of one set that cannot be read: left out, listed once, their share bounded."""

from __future__ import annotations

from collections.abc import Sequence

from olmrl.data.page import PageSource
from olmrl.data.render import BadPage
from olmrl.errors import RunStopped
from olmrl.run.directory import RunDirectory


class BadPages:
    """Those of one set, the ones that a resumed run listed before included.

    Args:
        directory: lists them.
        sources: the whole set.
        max_fraction: `data.max_bad_fraction`.
        title: what the set's pages are called in a message.
    """

    def __init__(
        self,
        directory: RunDirectory,
        sources: Sequence[PageSource],
        max_fraction: float,
        title: str = "pages",
    ) -> None:
        self._directory = directory
        self._total = len(sources)
        self._max_fraction = max_fraction
        self._title = title
        # One file lists those of all sets.
        mine = {f"{source.pdf_path}::{source.page_number}" for source in sources}
        self._found = mine & {row["page_id"] for row in directory.bad_pages()}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._found)

    def add(self, bad: BadPage) -> None:
        """List one.

        Raises:
            RunStopped: too many of the set.
        """
        page_id = f"{bad.path}::{bad.page_number}"
        if page_id not in self._found:
            self._directory.bad_page(page_id, bad.path, bad.reason)
            self._found.add(page_id)
        share = len(self._found) / self._total
        if share > self._max_fraction:
            raise RunStopped(
                f"{share:.0%} of {self._total} {self._title} cannot be read, more than "
                f"data.max_bad_fraction={self._max_fraction} allows; "
                f"see {self._directory.path / 'bad_pages.jsonl'}"
            )
