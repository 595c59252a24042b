"""A page that cannot be used, as a value in streams and as an error elsewhere."""

from __future__ import annotations


class BadPage(ValueError):
    """A page that cannot be used. Picklable; a value in data streams, an error elsewhere."""

    def __init__(self, path: str, page_number: int, reason: str) -> None:
        super().__init__(path, page_number, reason)
        self.path = path
        self.page_number = page_number
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}, page {self.page_number}: {self.reason}"


class UnreadPage(BadPage):
    """A page whose file could not be read this time; what it holds is not known."""
