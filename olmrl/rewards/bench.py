"""olmOCR-bench unit tests as a reward (docs/formats.md#bench-reward)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast, get_args

from olmrl.bench.cases import TYPES, Case
from olmrl.bench.text_cases import FormatCase
from olmrl.markup.formatting import Kind
from olmrl.rewards.integrity import has_read, marks_too_much, runs_on
from olmrl.rewards.parsed import PageTruth, ParsedText, parsed, truth_of
from olmrl.types import Completion, Page, RewardResult, TestVerdict

Average = Literal["micro", "macro"]


@dataclass(frozen=True)
class Bench:
    """Share of a page's unit tests that pass.

    The default mode judges the body without front matter, and counts tests that are easy to pass
    only for completions that show they read the page (see `integrity`). Parts: the pass rate of
    each test type (`type/...`) and of each test file (`file/...`).
    """

    needs_group: ClassVar[bool] = False

    average: Average = "micro"
    """micro: every test has equal weight; macro: every test type of the page has equal weight."""
    types: Sequence[str] | None = None
    """Test types that count; null: all."""
    integrity: bool = True
    """False: easy passes count too, as in `python -m olmrl.bench score`."""
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
        cases = [
            (case, file)
            for case, file in zip(truth.cases(self.compat), page.test_files, strict=True)
            if self._counts(case.type)
        ]
        return [self._score(parsed(c.text, self.compat), cases, truth) for c in completions]

    def _score(
        self, text: ParsedText, cases: Sequence[tuple[Case, str]], truth: PageTruth
    ) -> RewardResult:
        verdicts = [run(case, file, text) for case, file in cases]
        if self.integrity and not self.compat:
            pairs = zip(verdicts, cases, strict=True)
            verdicts = [earned(verdict, case, text, truth) for verdict, (case, _) in pairs]
        by_type = _rates(verdicts, "type")
        parts = {f"type/{kind}": rate for kind, rate in by_type.items()}
        parts |= {f"file/{file}": rate for file, rate in _rates(verdicts, "file").items()}
        if self.average == "macro":
            value = sum(by_type.values()) / len(by_type)
        else:
            value = sum(v.passed for v in verdicts) / len(verdicts)
        return RewardResult(value, parts, tuple(verdicts))


def run(case: Case, file: str, text: ParsedText) -> TestVerdict:
    """Run one test."""
    verdict = case.run_parsed(text.page)
    return TestVerdict(case.id, case.type, file, verdict.passed, verdict.explanation)


def earned(verdict: TestVerdict, case: Case, text: ParsedText, truth: PageTruth) -> TestVerdict:
    """Revoke a pass that the completion did not earn (see `integrity`)."""
    reason = _objection(case, text, truth) if verdict.passed else ""
    return replace(verdict, passed=False, explanation=reason) if reason else verdict


def _objection(case: Case, text: ParsedText, truth: PageTruth) -> str:
    if case.type == "absent" and not has_read(text.said, truth.said):
        return "the page was not read, so absence shows nothing"
    whole = truth.reference is not None
    if case.type in ("order", "baseline") and runs_on(text.said, truth.said, whole):
        return "the transcription repeats itself or continues past the end of the page"
    if isinstance(case, FormatCase):
        kind = cast("Kind", case.format)
        if marks_too_much(text.marked_share(kind), truth.marked_share(kind)):
            return f"most of the transcription is set as {kind}"
    return ""


def _rates(verdicts: Sequence[TestVerdict], by: Literal["type", "file"]) -> dict[str, float]:
    passed = defaultdict(list)
    for verdict in verdicts:
        passed[getattr(verdict, by)].append(verdict.passed)
    return {name: sum(hits) / len(hits) for name, hits in passed.items()}
