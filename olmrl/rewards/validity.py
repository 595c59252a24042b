"""Whether a transcription is well formed: head, tables, formulas, marks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import ClassVar, TypeVar

import numpy as np
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

from olmrl.markup import front_matter
from olmrl.markup.formulas import extract_formulas
from olmrl.markup.html_tree import MarkupError
from olmrl.markup.tables import Table, parse_html_tables, parse_markdown_tables
from olmrl.markup.text import WorkLimitError
from olmrl.rewards.assignment import best_assignment
from olmrl.rewards.body import body_of
from olmrl.rewards.closed_tables import closed_tables
from olmrl.rewards.formula_look import are_too_many, look_of, typeset
from olmrl.rewards.open_marks import count_open_marks
from olmrl.rewards.words import words_of
from olmrl.types import Completion, Page, RewardResult

_TABLE_RESEMBLES = 0.5
"""Least share of the cells that a reading of a table has in common with it."""
_FORMULA_RESEMBLES = 0.75
"""Least share of the symbols that a reading of a formula has in common with it."""
_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class Validity:
    """Mean of four checks, 0..1: the head parses, tables, formulas and marks are in order.

    Tables must be closed and rectangular, formulas must be typeset, and marks (code fences, bold,
    math delimiters, HTML tags) must be closed. A table or formula of the reference that is not
    there in order counts like one that is broken, so that leaving it out does not pay; and nothing
    counts unless the page is read. Parts: the checks, and `read`. Definition:
    docs/formats.md#validity.
    """

    needs_group: ClassVar[bool] = False

    def missing(self, page: Page) -> str:
        """Nothing: without a reference, only faults count."""
        return ""

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Check each text."""
        return [_check(c.text, page.reference) for c in completions]


@dataclass(frozen=True)
class Form:
    """What is checked of one transcription."""

    has_head: bool
    """It begins like front matter."""
    head_parses: bool
    tables: Counter[tuple[str, ...]]
    """How often each table that is closed and rectangular is there: its cells, ordered."""
    formulas: Counter[str]
    """How often each formula that can be typeset is there: its symbols, ordered."""
    broken_tables: int
    broken_formulas: int
    open_marks: int
    pairs: frozenset[tuple[str, str]]
    """Neighbouring words of a line, and the first of each with nothing before it."""

    @classmethod
    @lru_cache(maxsize=256)
    def of(cls, text: str) -> Form:
        """Read a transcription.

        Raises:
            WorkLimitError: there is too much in it.
        """
        body = body_of(text).text
        tables, broken_tables = _tables(body)
        formulas = extract_formulas(body)
        if are_too_many(formulas):
            raise WorkLimitError("too many formulas")
        typed = [latex for latex in formulas if latex and not typeset(latex).error]
        return cls(
            text.startswith("---\n"),
            _head_parses(text),
            Counter(tuple(sorted(c.normal_text.strip() for c in t.cells)) for t in tables),
            Counter(look_of(latex).symbols for latex in typed),
            broken_tables,
            len(formulas) - len(typed),
            count_open_marks(body),
            frozenset(p for line in body.split("\n") for p in pairwise(("", *words_of(line)))),
        )


_NOTHING = Form(False, False, Counter(), Counter(), 0, 0, 0, frozenset())


def _check(text: str, reference: str | None) -> RewardResult:
    try:
        mine = Form.of(text)
    except (WorkLimitError, MarkupError):  # markup that no reader can parse
        return RewardResult(0.0, {"unreadable": 1.0})
    true = _NOTHING if reference is None else Form.of(reference)
    needs_head = mine.has_head or true.head_parses
    parts = {
        "head": float(mine.head_parses or not needs_head),
        "tables": _in_order(
            mine.tables, true.tables, mine.broken_tables - true.broken_tables, _similar_tables
        ),
        "formulas": _in_order(
            mine.formulas,
            true.formulas,
            mine.broken_formulas - true.broken_formulas,
            _similar_formulas,
        ),
        "marks": 1 / (1 + max(0, mine.open_marks - true.open_marks)),
    }
    value = sum(parts.values()) / len(parts)
    if true.pairs:
        parts["read"] = _read(mine.pairs, true.pairs)
        value *= parts["read"]
    return RewardResult(value, parts)


def _in_order(
    mine: Counter[Item],
    true: Counter[Item],
    broken: int,
    similar: Callable[[Sequence[Item], Sequence[Item]], np.ndarray],
) -> float:
    """Share of the reference's elements that are in order, plus one that always is.

    Each further element, broken or not, stands for one of the reference's.

    Args:
        mine: how often each element that is in order is there.
        true: the same for the reference.
        broken: how many are broken, beyond those of the reference.
        similar: which items of both sides resemble each other.
    """
    broken, wanted = max(0, broken), true.total()
    read = count_readings(mine, true, similar)
    present = min(read, max(0, wanted - (mine.total() - read) - broken))
    return (1 + present) / (1 + max(wanted, present + broken))


def _read(mine: Set[tuple[str, str]], true: Set[tuple[str, str]]) -> float:
    """1 if both sides share half of all their pairs of words, less if they share fewer.

    A pair that the reference has not stands for one that it has: that one does not count as shared,
    so that a second reading beside the first one does not pay.
    """
    shared = min(len(mine & true), max(0, len(true) - len(mine - true)))
    return min(1.0, 2 * shared / len(mine | true))


def _head_parses(text: str) -> bool:
    try:
        front_matter.parse(text)
    except (ValueError, TypeError):
        return False
    return True


def count_readings(
    mine: Counter[Item],
    true: Counter[Item],
    similar: Callable[[Sequence[Item], Sequence[Item]], np.ndarray],
) -> int:
    """How many of the reference's items have one that is the same, or similar enough.

    One that is there more often than in the reference only counts once, so that no copy of it can
    stand for another one.
    """
    same = (mine & true).total()
    capped = Counter({item: min(n, max(1, true[item])) for item, n in mine.items()})
    left, wanted = list((capped - true).elements()), list((true - mine).elements())
    if not left or not wanted:
        return same
    return same + len(best_assignment(similar(left, wanted).astype(np.float64)))


def _similar_tables(mine: Sequence[tuple[str, ...]], true: Sequence[tuple[str, ...]]) -> np.ndarray:
    counted = [[Counter(cells) for cells in side] for side in (mine, true)]
    shared = [[(a & b).total() / max(a.total(), b.total()) for b in counted[1]] for a in counted[0]]
    return np.asarray(shared) >= _TABLE_RESEMBLES


def _similar_formulas(mine: Sequence[str], true: Sequence[str]) -> np.ndarray:
    shared = cdist(mine, true, scorer=Indel.normalized_similarity)  # as symbols are ordered
    return shared >= _FORMULA_RESEMBLES


def _tables(body: str) -> tuple[list[Table], int]:
    """The tables in order, and the number of those that are open, empty or not rectangular."""
    spans, broken = closed_tables(body)
    tables = []
    for start, end in spans:
        found = parse_html_tables(body[start:end])
        tables += found
        broken += not found
    for has_pipe, lines in groupby(body.split("\n"), key=lambda line: "|" in line):
        run = list(lines)
        if has_pipe and any(_RULE.fullmatch(line) for line in run):
            tables += parse_markdown_tables("\n".join(run))
    rectangular = [table for table in tables if table.is_rectangular]
    return rectangular, broken + len(tables) - len(rectangular)
