"""The fonts of this machine: which families there are, and which letters no font has.

Pages are set in the system's fonts, and Chromium takes any of them for a letter that the chosen
family lacks. A letter that none has becomes an empty box, which no test should ask a model to read.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import unicodedata
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

_PACKAGES = {
    **dict.fromkeys(("CJK", "HANGUL", "HIRAGANA", "KATAKANA", "BOPOMOFO"), "fonts-noto-cjk"),
    **dict.fromkeys(("IDEOGRAPHIC", "KANGXI", "FULLWIDTH", "HALFWIDTH"), "fonts-noto-cjk"),
}
"""Debian's package of fonts for letters whose Unicode name begins so; others: see `advice`."""


@dataclass(frozen=True)
class Fonts:
    """What fontconfig, which Chromium asks too, tells of the fonts."""

    families: frozenset[str]
    starts: tuple[int, ...]
    """Beginnings of ranges of code points that some font has, ascending and apart."""
    ends: tuple[int, ...]

    def has(self, char: str) -> bool:
        """Whether some font has a character."""
        at = bisect_right(self.starts, ord(char)) - 1
        return at >= 0 and ord(char) <= self.ends[at]


@functools.cache
def installed() -> Fonts | None:
    """The fonts of this machine; None where no fontconfig decides (macOS, Windows).

    Raises:
        ValueError: Linux without fc-list.
    """
    if shutil.which("fc-list") is None:
        if sys.platform == "linux":
            raise ValueError(
                "fc-list, which tells what fonts there are, is not on the PATH: install fontconfig "
                "(Debian: apt-get install fontconfig)"
            )
        return None
    told = subprocess.run(
        ["fc-list", "--format", "%{family}|%{charset}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return parse(told)


def parse(told: str) -> Fonts:
    """Read lines of families (comma-separated), a bar, and ranges of hexadecimal code points."""
    families: set[str] = set()
    ranges: set[tuple[int, int]] = set()
    for line in told.splitlines():
        names, _, charset = line.partition("|")
        families.update(name.strip() for name in names.split(","))
        for piece in charset.split():
            first, _, last = piece.partition("-")
            ranges.add((int(first, 16), int(last or first, 16)))
    starts: list[int] = []
    ends: list[int] = []
    for start, end in sorted(ranges):
        if ends and start <= ends[-1] + 1:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return Fonts(frozenset(families - {""}), tuple(starts), tuple(ends))


def missing(text: str, fonts: Fonts | None) -> str:
    """The letters of a text that no font has, each once; none where fonts cannot be asked."""
    if fonts is None or text.isascii():
        return ""
    return "".join(sorted(char for char in set(text) if _is_drawn(char) and not fonts.has(char)))


def advice(letters: str) -> str:
    """Debian's package of fonts that most likely has some letters."""
    votes = Counter(_package(letter) for letter in letters)
    return votes.most_common(1)[0][0]


def _package(letter: str) -> str:
    name = unicodedata.name(letter, "")
    if not name:
        return "none known, a letter of private use"
    if unicodedata.category(letter) == "So" and ord(letter) >= 0x1F000:
        return "fonts-noto-color-emoji"
    return _PACKAGES.get(name.replace("-", " ").split()[0], "fonts-noto-core")


def _is_drawn(char: str) -> bool:
    return not char.isspace() and unicodedata.category(char) not in ("Cc", "Cf")
