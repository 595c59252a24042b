"""Formulas against the reference's formulas, by what they look like."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rapidfuzz import fuzz, process

from olmrl.markup.formulas import extract_formulas
from olmrl.rewards.body import AgainstBody, body_of
from olmrl.rewards.element_hedges import symbols
from olmrl.rewards.formula_look import are_too_many, look_of, looks_the_same, typeset
from olmrl.rewards.open_marks import count_open_formulas
from olmrl.types import RewardResult

_READING = 50.0
"""Similarity, 0..100, of the symbols of a formula to those of which it is a reading."""

_SWALLOWED = 75.0
"""The same within a broken formula, which may go on to the end of another one."""


@dataclass(frozen=True)
class Formula(AgainstBody):
    """F1 of the formulas: 2 x pairs that look the same / (formulas of both sides).

    Each formula of the completion makes a pair with at most one of the reference's. Two look the
    same if, typeset, they show the same symbols in the same places (`formula_look`): one that has
    the other as a part does not. A pair counts as if it were not there if another formula of the
    completion is a reading of the same one, and each formula more than the reference has stands for
    one of its. Parts: `precision` and `recall` without these conditions, and `valid`, the share of
    the completion's formulas that can be typeset. Definition: docs/formats.md#formula.
    """

    compat: bool = False
    """Every pair counts; score 0 on a page without a reference, instead of leaving the reward
    out."""

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
        left, missing = unpaired(mine, true)
        pairs = true.total() - missing.total()
        valid = sum(n for latex, n in mine.items() if not typeset(latex).error)
        said = mine.total()
        parts = {"recall": pairs / true.total()}
        if said:
            parts |= {"precision": pairs / said, "valid": valid / said}
        twice = 0
        if not self.compat:
            said += max(0, _open(text) - _open(reference))
            further = min(pairs, max(0, said - true.total()))
            twice = max(further, _given_twice(left, true - missing, missing))
        return RewardResult(2 * (pairs - twice) / (said - twice + true.total()), parts)


def _formulas(text: str) -> list[str]:
    return extract_formulas(body_of(text).text)


def _open(text: str) -> int:
    """Delimiters without a partner: each may have taken a reading out of its formula."""
    return count_open_formulas(body_of(text).text)


def _true_formulas(reference: str) -> Counter[str]:
    """Those that can be typeset; a reading of any other cannot be judged."""
    return Counter(latex for latex in _formulas(reference) if latex and not typeset(latex).error)


def unpaired(mine: Mapping[str, int], true: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """What is left of both sides without the pairs that look the same, each formula used once.

    Args:
        mine: how often the completion has each formula.
        true: the same for the reference, whose formulas all can be typeset.
    """
    exact = Counter(mine) & Counter(true)
    left, missing = Counter(mine) - exact, Counter(true) - exact
    by_symbols = _by_symbols(left) if missing else {}
    for latex, count in list(missing.items()):
        look = look_of(latex)
        for candidate in by_symbols.get(look.symbols, ()):
            used = min(count, left[candidate])
            if used and looks_the_same(look_of(candidate), look):
                left[candidate] -= used
                missing[latex] -= used
                count -= used
    return +left, +missing


def _given_twice(left: Counter[str], paired: Counter[str], missing: Counter[str]) -> int:
    """How many formulas of the reference have another reading besides the right one.

    Args:
        left: formulas of the completion without a pair. One is a reading of the formula that it
            resembles most, rather of one that is missing.
        paired: formulas of the reference with a pair.
        missing: formulas of the reference without one.
    """
    known = {latex: symbols(latex) for latex in paired}
    lost = {symbols(latex) for latex in missing}
    again: Counter[str] = Counter()
    for latex, count in left.items() if known else ():
        said = symbols(latex)
        if typeset(latex).error:  # it shows no reading, but may have swallowed one
            again.update([name for name, there in known.items() if _has_a_reading(said, there)][:1])
            continue
        found = process.extractOne(said, known, scorer=fuzz.ratio, score_cutoff=_READING)
        if found is None or found[0] == said:
            continue
        if process.extractOne(said, lost, scorer=fuzz.ratio, score_cutoff=found[1]) is None:
            again[found[2]] += count
    return (again & paired).total()


def _has_a_reading(said: str, wanted: str) -> bool:
    """Whether symbols have others among them that resemble those of a formula, and not these."""
    if len(said) < len(wanted) or wanted in said:
        return False
    return fuzz.partial_ratio(wanted, said) >= _SWALLOWED


def _by_symbols(formulas: Iterable[str]) -> dict[str, list[str]]:
    """Formulas by their symbols: only those with the same ones can look the same."""
    groups = defaultdict(list)
    for latex in formulas:
        if not typeset(latex).error:
            groups[look_of(latex).symbols].append(latex)
    return groups
