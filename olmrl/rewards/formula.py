"""Formulas against the reference's formulas, by what they look like."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from olmrl.markup.formulas import extract_formulas
from olmrl.rewards.body import AgainstBody, body_of
from olmrl.rewards.formula_look import are_too_many, look_of, looks_the_same, typeset
from olmrl.types import RewardResult


@dataclass(frozen=True)
class Formula(AgainstBody):
    """F1 of the formulas: 2 x pairs that look the same / (formulas of both sides).

    Each formula of the completion makes a pair with at most one of the reference's. Two look the
    same if, typeset, they show the same symbols in the same places (`formula_look`): one that has
    the other as a part does not. Parts: `precision`, `recall` and `valid`, the share of the
    completion's formulas that can be typeset. Definition: docs/formats.md#formula.
    """

    compat: bool = False
    """Score 0 on a page without a reference, instead of leaving the reward out."""

    def lacking(self, reference: str) -> str:
        """Needs a reference with a formula that can be typeset."""
        if are_too_many(_formulas(reference)):
            return "the reference has too many formulas"
        return "" if _true_formulas(reference) else "the reference has no formula"

    def judge(self, text: str, reference: str) -> RewardResult:
        """Score one text."""
        formulas = _formulas(text)
        if are_too_many(formulas):
            return RewardResult(0.0, {"too_many": 1.0})
        mine, true = Counter(formulas), _true_formulas(reference)
        pairs = count_pairs(mine, true)
        valid = sum(n for latex, n in mine.items() if not typeset(latex).error)
        said = mine.total()
        parts = {"recall": pairs / true.total()}
        if said:
            parts |= {"precision": pairs / said, "valid": valid / said}
        return RewardResult(2 * pairs / (said + true.total()), parts)


def _formulas(text: str) -> list[str]:
    return extract_formulas(body_of(text).text)


def _true_formulas(reference: str) -> Counter[str]:
    """Those that can be typeset; a reading of any other cannot be judged."""
    return Counter(latex for latex in _formulas(reference) if latex and not typeset(latex).error)


def count_pairs(mine: Mapping[str, int], true: Mapping[str, int]) -> int:
    """Number of pairs that look the same, each formula used once.

    Args:
        mine: how often the completion has each formula.
        true: the same for the reference, whose formulas all can be typeset.
    """
    exact = Counter(mine) & Counter(true)
    left, wanted = Counter(mine) - exact, Counter(true) - exact
    pairs = exact.total()
    if not wanted:
        return pairs
    by_symbols = _by_symbols(left)
    for latex, count in wanted.items():
        look = look_of(latex)
        for candidate in by_symbols.get(look.symbols, ()):
            used = min(count, left[candidate])
            if used and looks_the_same(look_of(candidate), look):
                left[candidate] -= used
                count -= used
                pairs += used
    return pairs


def _by_symbols(formulas: Iterable[str]) -> dict[str, list[str]]:
    """Formulas by their symbols: only those with the same ones can look the same."""
    groups = defaultdict(list)
    for latex in formulas:
        if not typeset(latex).error:
            groups[look_of(latex).symbols].append(latex)
    return groups
