r"""Formulas in the reference's spelling: `\dfrac`, `\SI{5}{kg}`, a `\tag` are no other reading.

The tests compare formulas by their look. So that the letters of a transcription can be compared
with those of a reference, formulas that look the same are first written in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz import fuzz, process

from olmrl.markup.equations import look_alike
from olmrl.markup.formulas import formula_spans
from olmrl.markup.text import WorkLimitError

_TRIED = 3
"""Formulas of the reference, the most similar ones, that are compared with one of a text."""
_MOST_TRIED = 200
"""Formulas of a text that are compared at all."""
_LONGEST = 2000
"""Characters of a formula that is compared."""


def respelled(text: str, spellings: Sequence[str]) -> str:
    """A text with each formula as the reference spells it, if one there looks the same.

    Args:
        text: A transcription as seen.
        spellings: The formulas of the reference, without delimiters.
    """
    known = frozenset(spellings)
    kept: list[str] = []
    at = tried = 0
    for span in formula_spans(text) if known else ():
        inside = text[span.inside_start : span.inside_end]
        if not inside.strip() or inside.strip() in known or len(inside) > _LONGEST:
            continue
        tried += 1
        same = _same(inside.strip(), spellings) if tried <= _MOST_TRIED else None
        if same is not None:
            kept += [text[at : span.inside_start], same]
            at = span.inside_end
    return "".join(kept) + text[at:]


def _same(formula: str, spellings: Sequence[str]) -> str | None:
    near = process.extract(formula, spellings, scorer=fuzz.ratio, limit=_TRIED)
    return next((other for other, _, _ in near if _look_alike(formula, other)), None)


def _look_alike(one: str, other: str) -> bool:
    """Whether each of two formulas is all of the other, as far as can be told."""
    try:
        return look_alike(one, other)
    except WorkLimitError:
        return False
