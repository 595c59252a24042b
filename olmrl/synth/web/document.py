"""What is left of an HTML file: blocks of plain, safe HTML."""

from __future__ import annotations

from dataclasses import dataclass, field

from lxml.html import fragment_fromstring


@dataclass
class Document:
    """What is left of an HTML file."""

    title: str
    language: str
    """Two letters."""
    right_to_left: bool
    blocks: list[str] = field(default_factory=list)
    """HTML of each block, in reading order."""
    left: dict[str, int] = field(default_factory=dict)
    """How much was left behind, by reason."""

    def leave(self, reason: str) -> None:
        """Count something that no page will show."""
        self.left[reason] = self.left.get(reason, 0) + 1


def text_of(block: str) -> str:
    """Text of a block."""
    return str(fragment_fromstring(block, create_parent="div").text_content())
