r"""Text between an opening and a closing mark, in linear time.

A regular expression such as `\\\(.*?\\\)` looks for the end of each `\(` anew, to the end of the
text where there is none: a page of 40,000 of them takes half a minute. Here a closing mark that is
not there is looked for once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """Regular expressions of an opening mark, of what stands between, and of the closing mark."""

    opening: str
    inside: str
    closing: str


class Enclosed:
    """What one regular expression for all pairs, joined by `|`, would find.

    Args:
        pairs: no two of them may open at one place.
        flags: of `re`, for all of them.
    """

    def __init__(self, *pairs: Pair, flags: re.RegexFlag = re.NOFLAG) -> None:
        self._openings = re.compile(
            "|".join(f"(?P<_{n}>{pair.opening})" for n, pair in enumerate(pairs)), flags
        )
        self._closings = [re.compile(pair.closing, flags) for pair in pairs]
        self._wholes = [
            re.compile(pair.opening + pair.inside + pair.closing, flags) for pair in pairs
        ]

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        """Each run with its marks; groups are those of its own pair."""
        ends = [0] * len(self._wholes)
        """Where the next closing mark begins, as far as it is known."""
        at = 0
        while (opening := self._openings.search(text, at)) is not None:
            pair = int((opening.lastgroup or "_0")[1:])
            if ends[pair] < opening.end():
                closing = self._closings[pair].search(text, opening.end())
                ends[pair] = len(text) + 1 if closing is None else closing.start()
            found = None
            if ends[pair] <= len(text):
                found = self._wholes[pair].match(text, opening.start())
            if found is None:
                at = opening.start() + 1
            else:
                yield found
                at = found.end()

    def findall(self, text: str) -> list[str]:
        """Each run, marks included."""
        return [found[0] for found in self.finditer(text)]

    def sub(self, replacement: str | Callable[[re.Match[str]], str], text: str) -> str:
        """The text with other text in the place of each run, taken as it is (no `\\1`)."""
        pieces: list[str] = []
        at = 0
        for found in self.finditer(text):
            new = replacement if isinstance(replacement, str) else replacement(found)
            pieces += (text[at : found.start()], new)
            at = found.end()
        return "".join(pieces) + text[at:]
