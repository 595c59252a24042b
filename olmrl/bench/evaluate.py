"""Scores a candidate's markdown on a bench folder, as the public benchmark does.

The rules are in docs/formats.md#scoring-a-bench-folder.

The score is the mean over categories of the share of tests passed. A category is a JSONL file, or
the baseline tests that are added. A candidate may have several repeats of a page; a test counts as
passed if more than half of them pass.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from olmrl import storage
from olmrl.bench.candidates import candidate_folder
from olmrl.bench.case import Case, CaseError
from olmrl.bench.document import ParsedPage
from olmrl.bench.folder import BenchFolder, BenchPage
from olmrl.bench.statistics import Interval, bootstrap, paired_bootstrap, permutation_p_value
from olmrl.bench.text_cases import BaselineCase
from olmrl.markup import front_matter
from olmrl.pipes import refuse_stream
from olmrl.progress import track

BASELINE = "baseline"
"""Category of the added baseline tests."""


@dataclass(frozen=True)
class TestResult:
    """One test on all repeats of its page."""

    __test__ = False

    id: str
    type: str
    category: str
    """JSONL file name, or `baseline`."""
    pdf: str
    page: int
    score: float
    """Share of the repeats that pass."""
    explanation: str
    """Why the first failing repeat fails; empty if none does."""

    @property
    def passed(self) -> bool:
        """True if more than half of the repeats pass."""
        return self.score > 0.5


@dataclass(frozen=True)
class CategoryScore:
    """Tests of one category."""

    passed: int
    total: int
    interval: Interval

    @property
    def score(self) -> float:
        """Share of tests passed."""
        return self.passed / self.total


@dataclass(frozen=True)
class BenchResult:
    """How a candidate did on a folder."""

    candidate: str
    """Name of the candidate's folder."""
    mode: str
    """compat or default."""
    score: float
    """Mean of the category scores."""
    interval: Interval
    confidence: float
    """Confidence level of all intervals, e.g. 0.95."""
    categories: dict[str, CategoryScore]
    types: dict[str, float]
    """Per test type, the mean share of repeats that pass."""
    tests: tuple[TestResult, ...]
    errors: tuple[str, ...]
    """Pages without output and unreadable outputs; their tests count as failed."""
    rejected: tuple[str, ...] = ()
    """Tests that were left out as invalid."""
    unused: tuple[str, ...] = ()
    """Outputs that belong to no page, by path in the candidate's folder."""

    def to_json(self) -> dict[str, Any]:
        """The whole result as JSON values."""
        row = asdict(self)
        for name, category in self.categories.items():
            row["categories"][name] = {
                "passed": category.passed,
                "total": category.total,
                "score": category.score,
                "interval": list(category.interval),
            }
        row["interval"] = list(self.interval)
        return row


@dataclass(frozen=True)
class Comparison:
    """Two candidates on the same tests."""

    first: str
    second: str
    difference: float
    """Score of the first minus score of the second."""
    interval: Interval
    """Of the difference."""
    confidence: float
    """Confidence level of all intervals, e.g. 0.95."""
    p_value: float
    """From a paired permutation test; a small value means that the difference is not chance."""
    categories: dict[str, float]
    """Difference per category."""
    intervals: dict[str, Interval]
    """Of the difference per category."""
    only_first: tuple[str, ...]
    """`category:id` of the tests that only the first one passes."""
    only_second: tuple[str, ...]


def evaluate(
    folder: BenchFolder,
    candidate: str,
    *,
    compat: bool = False,
    add_baselines: bool = True,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BenchResult:
    """Scores the outputs `<folder>/<candidate>/<pdf without suffix>_pg{page}_repeat{n}.md`.

    Front matter is stripped in both modes, as the public runner does.

    Args:
        folder: The tests, loaded in the same mode.
        candidate: Name of the sub-folder with the outputs.
        compat: Judge as the public benchmark does.
        add_baselines: Give each PDF without a baseline test one for its first page.
        samples: Bootstrap samples.
        confidence: Level of the confidence intervals, e.g. 0.95.
        seed: Of the bootstrap.

    Raises:
        CaseError: There is no such candidate folder.
    """
    outputs = candidate_folder(folder.path, candidate)
    errors: list[str] = []
    tests: list[TestResult] = []
    used: set[Path] = set()
    pages = _with_baselines(folder.pages, compat) if add_baselines else folder.pages
    for page in track(pages, "judging pages", len(pages)):
        texts = []
        for path in find_outputs(outputs, page.pdf, page.page):
            used.add(path)
            try:
                refuse_stream(path)
                texts.append(path.read_text("utf-8" if compat else "utf-8-sig"))
            except UnicodeDecodeError as error:
                errors.append(f"{path}: not UTF-8: {error.reason}")
                texts.append("")
        if not texts:
            name = f"{Path(page.pdf).stem}_pg{page.page}_repeat1.md"
            errors.append(f"{outputs} has no output for {page.pdf} page {page.page} ({name})")
        tests += judge_page(page, texts, compat=compat)
    return summarize(
        candidate,
        tests,
        mode="compat" if compat else "default",
        errors=errors,
        rejected=folder.rejected,
        unused=_unused(outputs, used),
        samples=samples,
        confidence=confidence,
        seed=seed,
    )


def _unused(outputs: Path, used: set[Path]) -> list[str]:
    root = outputs.absolute()
    there = {Path(path) for path in storage.list_files(root, ".md")}
    left = there - {path.absolute() for path in used}
    return sorted(path.relative_to(root).as_posix() for path in left)


def find_outputs(outputs: Path, pdf: str, page: int) -> list[Path]:
    """A candidate's files for one page: all repeats, in their order."""
    base = outputs / Path(pdf).with_suffix("")
    name = re.compile(rf"{re.escape(base.name)}_pg{page}_repeat(\d+)\.md")
    if not base.parent.is_dir():
        return []
    found = [(m, p) for p in base.parent.iterdir() if (m := name.fullmatch(p.name))]
    return [path for _, path in sorted(found, key=lambda item: int(item[0][1]))]


def judge_page(page: BenchPage, texts: list[str], *, compat: bool) -> list[TestResult]:
    """Runs all tests of a page on the repeats of its transcription.

    Without any output every test fails, even those that an empty page would pass.
    """
    # Outside compat mode ParsedPage itself strips the front matter, and only once.
    bodies = [front_matter.strip(text) for text in texts] if compat else texts
    parsed = [ParsedPage(body, compat=compat) for body in bodies]
    results = []
    for case, category in zip(page.cases, page.files, strict=True):
        verdicts = [case.run_parsed(document) for document in parsed]
        failed = [verdict for verdict in verdicts if not verdict.passed]
        if not verdicts:
            score, explanation = 0.0, "no output"
        else:
            score = 1 - len(failed) / len(verdicts)
            explanation = failed[0].explanation if failed else ""
        results.append(
            TestResult(case.id, case.type, category, case.pdf, page.page, score, explanation)
        )
    return results


def _with_baselines(pages: Iterable[BenchPage], compat: bool) -> list[BenchPage]:
    """The pages, plus a baseline test on page 1 of each PDF that has none."""
    by_pdf: dict[str, list[BenchPage]] = defaultdict(list)
    for page in pages:
        by_pdf[page.pdf].append(page)
    completed = []
    for pdf, of_pdf in by_pdf.items():
        if not any(isinstance(case, BaselineCase) for page in of_pdf for case in page.cases):
            added: Case = BaselineCase(pdf=pdf, page=1, id=f"{pdf}_baseline", compat=compat)
            first = next((page for page in of_pdf if page.page == 1), None)
            if first is None:
                of_pdf.insert(0, BenchPage(pdf, 1, of_pdf[0].pdf_path, (added,), (BASELINE,)))
            else:
                cases, files = (*first.cases, added), (*first.files, BASELINE)
                of_pdf[of_pdf.index(first)] = BenchPage(pdf, 1, first.pdf_path, cases, files)
        completed += of_pdf
    return completed


def summarize(
    candidate: str,
    tests: list[TestResult],
    *,
    mode: str = "default",
    errors: Iterable[str] = (),
    rejected: Iterable[str] = (),
    unused: Iterable[str] = (),
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BenchResult:
    """Turns test results into scores with confidence intervals."""
    assert tests, "no tests"
    by_category: dict[str, list[bool]] = defaultdict(list)
    by_type: dict[str, list[float]] = defaultdict(list)
    for test in tests:
        by_category[test.category].append(test.passed)
        by_type[test.type].append(test.score)
    overall, intervals = bootstrap(by_category, samples=samples, confidence=confidence, seed=seed)
    categories = {
        name: CategoryScore(sum(passed), len(passed), intervals[name])
        for name, passed in sorted(by_category.items())
    }
    return BenchResult(
        candidate=candidate,
        mode=mode,
        score=sum(category.score for category in categories.values()) / len(categories),
        interval=overall,
        confidence=confidence,
        categories=categories,
        types={name: sum(scores) / len(scores) for name, scores in sorted(by_type.items())},
        tests=tuple(tests),
        errors=tuple(errors),
        rejected=tuple(rejected),
        unused=tuple(unused),
    )


def compare(
    first: BenchResult,
    second: BenchResult,
    *,
    permutations: int = 10_000,
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compares two candidates test by test: a permutation test, and intervals of the differences.

    Args:
        first: One candidate.
        second: The other, on the same tests.
        permutations: Random sign assignments of the test.
        samples: Bootstrap samples of the intervals, whose level is that of `first`.
        seed: Of the random draws.

    Raises:
        CaseError: The two were not scored on the same tests.
    """
    scores = [{(t.category, t.id, t.pdf): t for t in result.tests} for result in (first, second)]
    if scores[0].keys() != scores[1].keys():
        odd = sorted(scores[0].keys() ^ scores[1].keys())[0]
        raise CaseError(f"the candidates have different tests, e.g. {odd[1]!r} of {odd[0]}")
    differences: dict[str, list[float]] = defaultdict(list)
    only: tuple[list[str], list[str]] = ([], [])
    for key, test in scores[0].items():
        other = scores[1][key]
        differences[key[0]].append(float(test.passed) - float(other.passed))
        if test.passed != other.passed:
            only[0 if test.passed else 1].append(f"{key[0]}:{key[1]}")
    interval, intervals = paired_bootstrap(
        differences, samples=samples, confidence=first.confidence, seed=seed
    )
    return Comparison(
        first=first.candidate,
        second=second.candidate,
        difference=first.score - second.score,
        interval=interval,
        confidence=first.confidence,
        p_value=permutation_p_value(differences, permutations=permutations, seed=seed),
        categories={name: sum(d) / len(d) for name, d in sorted(differences.items())},
        intervals=dict(sorted(intervals.items())),
        only_first=tuple(only[0]),
        only_second=tuple(only[1]),
    )
