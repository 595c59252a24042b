"""What a file is, by the end of its name: X.PDF is a PDF as X.pdf is.

Where names differ in that only, the one in small letters counts, and its twins do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

TWIN = "another file has its name, with the suffix in small letters"
"""Why a twin is left."""


def has_suffix(path: str, suffix: str | tuple[str, ...]) -> bool:
    """Whether a name ends in a suffix (given in small letters), however it is written."""
    return path.lower().endswith(suffix)


def cut_suffix(path: str, suffix: str) -> str:
    """The name without its suffix, however that is written; all of it if it has another."""
    return path[: -len(suffix)] if has_suffix(path, suffix) else path


class Named(NamedTuple):
    """The files of a kind."""

    by_stem: dict[str, str]
    """Path of each by its path without suffix, in the order of the paths."""
    twins: list[str]
    """Paths whose stem another one has."""


def of_kind(paths: Iterable[str], suffix: str) -> Named:
    """Those of a kind, one for each stem."""
    found = sorted(path for path in paths if has_suffix(path, suffix))
    by_stem = {cut_suffix(path, suffix): path for path in found}  # ".pdf" sorts behind ".PDF"
    taken = set(by_stem.values())
    return Named(by_stem, [path for path in found if path not in taken])
