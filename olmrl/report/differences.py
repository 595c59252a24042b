"""Two texts as the words that they share and those that only one of them has."""

from __future__ import annotations

import re
from typing import NamedTuple

from rapidfuzz.distance import Indel

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_MOST = 20_000
"""Words compared at most; what follows is shown as it is."""


class Piece(NamedTuple):
    """A run of words."""

    kind: str
    """`same`, `missing` (in the truth only) or `extra` (in the transcription only)."""
    text: str


def differences(truth: str, text: str) -> list[Piece]:
    """A transcription beside its truth; the pieces but the missing ones give it back.

    Args:
        truth: what should have been read, or another transcription.
        text: the transcription.
    """
    wanted, found = _TOKEN.findall(truth), _TOKEN.findall(text)
    rest = "".join(found[_MOST:])
    wanted, found = wanted[:_MOST], found[:_MOST]
    pieces: list[Piece] = []
    missing: list[str] = []
    extra: list[str] = []
    for step in Indel.opcodes(wanted, found):
        if step.tag == "equal":
            _flush(pieces, missing, extra)
            pieces.append(Piece("same", "".join(found[step.dest_start : step.dest_end])))
        else:
            missing += wanted[step.src_start : step.src_end]
            extra += found[step.dest_start : step.dest_end]
    _flush(pieces, missing, extra)
    if rest:
        pieces.append(Piece("same", rest))
    return pieces


def _flush(pieces: list[Piece], missing: list[str], extra: list[str]) -> None:
    """Add what differs, the truth's words first, and begin anew."""
    for kind, words in (("missing", missing), ("extra", extra)):
        if words:
            pieces.append(Piece(kind, "".join(words)))
            words.clear()
