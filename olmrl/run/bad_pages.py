"""Pages of a run that cannot be used: left out, each listed once, their share bounded."""

from __future__ import annotations

from collections.abc import Iterable

from olmrl.data.fence import costs_a_reader
from olmrl.data.page import PageSource
from olmrl.data.render import BadPage
from olmrl.data.tally import excess_bad
from olmrl.errors import RunStopped
from olmrl.run.directory import RunDirectory, bad_page_place


class BadPages:
    """The bad pages of one set; a resumed run knows those it listed before.

    Args:
        directory: Lists them, for all sets in one file.
        sources: The whole set.
        max_fraction: `data.max_bad_fraction`.
        title: What the set's pages are called in a message.
    """

    def __init__(
        self,
        directory: RunDirectory,
        sources: Iterable[PageSource],
        max_fraction: float,
        title: str = "pages",
    ) -> None:
        self._directory = directory
        self._max_fraction = max_fraction
        self._title = title
        self._ids = {(source.pdf_path, source.page_number): source.page_id for source in sources}
        listed = {bad_page_place(row): row["reason"] for row in directory.bad_pages()}
        self._found = self._ids.keys() & listed.keys()
        self.not_again = {
            place: listed[place] for place in self._found if costs_a_reader(listed[place])
        }
        """Pages with their reasons that crashed or held up a reader before; a stream leaves them
        alone."""

    def __len__(self) -> int:
        """Number of bad pages."""
        return len(self._found)

    def list(self, bad: BadPage) -> None:
        """List a bad page of the set."""
        place = (bad.path, bad.page_number)
        self._directory.bad_page(self._ids[place], bad.path, bad.reason)
        self._found.add(place)

    def add(self, bad: BadPage) -> None:
        """List a bad page of the set, and stop the run if there are now too many.

        Raises:
            RunStopped: There are.
        """
        self.list(bad)
        problem = excess_bad(len(self._found), len(self._ids), self._max_fraction, self._title)
        if problem:
            raise RunStopped(f"{problem}; see {self._directory.path / 'bad_pages.jsonl'}")
