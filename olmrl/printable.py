"""Text of others on a terminal: it says what it is and does nothing.

Names of files and answers of models may hold escape sequences, which a terminal obeys, and marks
that turn the order of what follows.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Controls but for tab and line feed, directions, other ends of lines, half characters."""


def printable(text: str) -> str:
    r"""The text with such characters as `\x1b`; tabs and ends of lines stay."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def on_one_line(text: str) -> str:
    r"""As `printable`, ends of lines as `\n`."""
    return printable(text).replace("\n", "\\n")
