"""olmOCR-bench unit tests as a reward (docs/formats.md#bench-reward)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

from olmrl.bench.cases import TYPES, Case, Verdict
from olmrl.bench.document import ParsedPage
from olmrl.rewards.earned import earned
from olmrl.rewards.parsed import parsed, truth_of
from olmrl.types import Completion, Page, RewardResult, TestVerdict

Average = Literal["micro", "macro"]


@dataclass(frozen=True)
class Bench:
    """Share of a page's unit tests that pass.

    The default mode judges what a reader of the rendered page sees of the body, and counts only
    passes that were earned by text of the page (see `integrity`). Parts: the pass rate of
    each test type (`type/...`) and of each test file (`file/...`).
    """

    needs_group: ClassVar[bool] = False

    average: Average = "micro"
    """micro: every test has equal weight; macro: every test type of the page has equal weight."""
    types: Sequence[str] | None = None
    """Test types that count; null: all."""
    integrity: bool = True
    """False: every pass counts, as in `python -m olmrl.bench score`."""
    compat: bool = False
    """The public benchmark's verdicts bit for bit: front matter included, no extra conditions."""

    def __post_init__(self) -> None:
        if self.average not in get_args(Average):
            allowed = " or ".join(get_args(Average))
            raise ValueError(f"average is {self.average!r}, must be {allowed}")
        for kind in self.types or ():
            if kind not in TYPES:
                raise ValueError(f"types has {kind!r}, allowed: {', '.join(TYPES)}")

    def missing(self, page: Page) -> str:
        """Needs at least one test that counts."""
        if any(self._counts(str(row.get("type"))) for row in page.tests):
            return ""
        return (
            f"the page has no unit test of type {self.types}"
            if self.types
            else ("the page has no unit tests")
        )

    def _counts(self, kind: str) -> bool:
        return self.types is None or kind in self.types

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Run the page's tests on each completion.

        Raises:
            UnscorablePage: one of the page's tests is invalid.
        """
        truth = truth_of(page)
        training = self.integrity and not self.compat
        cases = [
            (case, file)
            for case, file in zip(
                truth.seen_cases() if training else truth.cases(self.compat),
                page.test_files,
                strict=True,
            )
            if self._counts(case.type)
        ]
        if training:
            judges = [partial(earned, truth, truth.read(c.text)) for c in completions]
        else:
            judges = [partial(_plain, parsed(c.text, self.compat).page) for c in completions]
        return [self._score(judge, cases) for judge in judges]

    def _score(
        self, judge: Callable[[Case], Verdict], cases: Sequence[tuple[Case, str]]
    ) -> RewardResult:
        verdicts = [TestVerdict(case.id, case.type, file, *judge(case)) for case, file in cases]
        by_type = _rates(verdicts, "type")
        parts = {f"type/{kind}": rate for kind, rate in by_type.items()}
        parts |= {f"file/{file}": rate for file, rate in _rates(verdicts, "file").items()}
        if self.average == "macro":
            value = sum(by_type.values()) / len(by_type)
        else:
            value = sum(v.passed for v in verdicts) / len(verdicts)
        return RewardResult(value, parts, tuple(verdicts))


def _plain(page: ParsedPage, case: Case) -> Verdict:
    return case.run_parsed(page)


def _rates(verdicts: Sequence[TestVerdict], by: Literal["type", "file"]) -> dict[str, float]:
    passed = defaultdict(list)
    for verdict in verdicts:
        passed[getattr(verdict, by)].append(verdict.passed)
    return {name: sum(hits) / len(hits) for name, hits in passed.items()}
