"""Unit tests by category, weighted by the step: easy ones first, or one kind ramped up.

A category is a test type or a test file, spelled as in the metrics: `type/table`,
`file/table_tests.jsonl`. Its weight is linear between the steps of its schedule and constant
beyond them, so a resumed run continues as if uninterrupted. Only the total that the policy is
trained on is weighted; the reward itself stays the plain pass rate, so steps remain comparable.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from olmrl.bench.cases import TYPES
from olmrl.types import TestVerdict

Schedule = Mapping[int, float]
"""Step -> weight."""


@dataclass(frozen=True)
class Curriculum:
    """Weights of a page's unit tests at a step.

    Raises:
        ValueError: a category that is neither a known test type nor a file.
    """

    schedules: Mapping[str, Schedule]
    """Category -> schedule; a test in two of the categories gets the product of their weights."""
    macro: bool = False
    """Before weighting, every test type of the page counts the same, instead of every test."""

    def __post_init__(self) -> None:
        for category in self.schedules:
            kind, _, name = category.partition("/")
            if not name or kind not in ("type", "file"):
                raise ValueError(
                    f"curriculum: {category!r} is not a category; use type/TYPE or file/NAME.jsonl"
                )
            if kind == "type" and name not in TYPES:
                raise ValueError(f"curriculum: there is no test type {name!r}; {_near(name)}")

    def weights(self, step: int) -> dict[str, float]:
        """Weight of each named category at a step."""
        return {
            category: float(
                np.interp(step, sorted(schedule), [schedule[s] for s in sorted(schedule)])
            )
            for category, schedule in self.schedules.items()
        }

    def value(self, verdicts: Sequence[TestVerdict], step: int) -> float:
        """Weighted share of tests that pass; 0 if all tests of the page have weight 0."""
        weights = self.weights(step)
        of_type = Counter(verdict.type for verdict in verdicts)
        total = passed = 0.0
        for verdict in verdicts:
            weight = 1.0 / of_type[verdict.type] if self.macro else 1.0
            weight *= weights.get(f"type/{verdict.type}", 1.0)
            weight *= weights.get(f"file/{verdict.file}", 1.0)
            total += weight
            passed += weight * verdict.passed
        return passed / total if total else 0.0

    def check_files(self, present: Iterable[str]) -> None:
        """Reject a file category from which no training page has a test.

        Raises:
            ValueError: names the file and those that exist.
        """
        there = sorted(set(present))
        for category in self.schedules:
            kind, _, name = category.partition("/")
            if kind == "file" and name not in there:
                found = ", ".join(there) or "no test files"
                raise ValueError(f"curriculum: data.train has no tests in {name!r}; it has {found}")


def _near(name: str) -> str:
    close = difflib.get_close_matches(name, TYPES, n=1)
    return f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(sorted(TYPES))}"
