"""Figures of held-out transcriptions: unit-test pass rates, and how much of the text was read.

Pure functions on scored rollouts, which come from the same engines as training.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from olmrl.bench.evaluate import BASELINE, TestResult, summarize
from olmrl.config.schema import RewardConfig
from olmrl.data.page import PageSource
from olmrl.markup import front_matter
from olmrl.run.directory import rollout_row
from olmrl.types import (
    Completion,
    Page,
    PolicyVersion,
    RewardResult,
    Rollout,
    TestVerdict,
    VersionSpan,
)

REWARDS = (
    RewardConfig(name="bench", options={"integrity": False}),
    RewardConfig(name="edit_distance"),
)
"""What scores held-out transcriptions, where a page has tests or a reference."""

_WORD = re.compile(r"\w+")
_TAG = re.compile(r"<[^>]*>")


def words(markdown: str) -> list[str]:
    """Words of a transcription's body, without tags and front matter."""
    return _WORD.findall(_TAG.sub(" ", front_matter.strip(markdown)))


def reading(text: str, reference: str) -> float:
    """Similarity of the word sequences, 1 - Levenshtein distance / longer length."""
    return Levenshtein.normalized_similarity(words(text), words(reference))


def with_baselines(sources: Sequence[PageSource]) -> list[PageSource]:
    """Add a baseline test to page 1 of each PDF that has none, as the benchmark does.

    Args:
        sources: all pages of a bench folder, sorted by page id.

    Returns:
        The pages in that order, page 1 included if only other pages of its PDF had tests.
    """
    pages = {source.page_id: source for source in sources}
    pdfs = {_pdf(source): source.pdf_path for source in sources}
    tested = {_pdf(s) for s in sources if any(row.get("type") == "baseline" for row in s.tests)}
    for pdf in pdfs.keys() - tested:
        page_id = f"{pdf}::1"
        page = pages.get(page_id) or PageSource(page_id, pdfs[pdf], 1)
        row = {"type": "baseline", "pdf": pdf, "page": 1, "id": f"{pdf}_baseline"}
        tests, files = (*page.tests, row), (*page.test_files, BASELINE)
        pages[page_id] = replace(page, tests=tests, test_files=files)
    return sorted(pages.values(), key=lambda source: source.page_id)


def _pdf(source: PageSource) -> str:
    return source.page_id.rpartition("::")[0]


def no_completion(group_id: str, version: PolicyVersion) -> Completion:
    """An empty completion in place of one that an engine could not make."""
    nothing = np.zeros(0, np.int32)
    return Completion(
        group_id=group_id,
        index=0,
        token_ids=nothing,
        logprobs=np.zeros(0, np.float32),
        versions=(VersionSpan(version, 0, 0),),
        finish_reason="abort",
        text="",
        prompt_token_ids=nothing,
    )


def failed_rollout(page: Page, completion: Completion, reason: str) -> Rollout:
    """The rollout for a text that could not be generated or scored: no text, no test passed.

    The text is left out because it may be what made the scorer fail.
    """
    rewards: dict[str, RewardResult] = {}
    if page.tests:
        verdicts = tuple(
            TestVerdict(str(row.get("id")), str(row.get("type")), file, False, reason)
            for row, file in zip(page.tests, page.test_files, strict=True)
        )
        rewards["bench"] = RewardResult(0.0, verdicts=verdicts)
    if page.reference is not None:
        rewards["edit_distance"] = RewardResult(0.0)
    return Rollout(replace(completion, text=""), rewards, 0.0)


@dataclass(frozen=True, slots=True)
class Tally:
    """Transcriptions, each looked at once: their figures, by page too, and the errors follow."""

    pages: Mapping[str, Page]
    """By id."""
    rollouts: Sequence[tuple[str, Rollout]]
    """(page id, rollout) pairs, several of a page or one."""
    added: Mapping[str, Sequence[tuple[str, float, int]]]
    """By figure, in the order of the rollouts: page id, what it adds to the sum, and to the count.
    """
    verdicts: Mapping[tuple[str, str, str], Sequence[TestVerdict]]
    """Of all repeats, by page id, file and test id."""

    @classmethod
    def of(cls, pages: Mapping[str, Page], rollouts: Sequence[tuple[str, Rollout]]) -> Tally:
        """Look at transcriptions.

        Args:
            pages: by id.
            rollouts: (page id, rollout) pairs.
        """
        added: dict[str, list[tuple[str, float, int]]] = defaultdict(list)
        repeats: dict[tuple[str, str, str], list[TestVerdict]] = defaultdict(list)
        for page_id, rollout in rollouts:
            for figure, value, count in _added(rollout, pages[page_id].reference):
                added[figure].append((page_id, value, count))
            for verdict in _verdicts(rollout):
                repeats[page_id, verdict.file, verdict.test_id].append(verdict)
        return cls(pages, rollouts, added, repeats)

    @classmethod
    def joined(cls, tallies: Iterable[Tally]) -> Tally:
        """Several tallies, of different pages, as one."""
        pages: dict[str, Page] = {}
        rollouts: list[tuple[str, Rollout]] = []
        added: dict[str, list[tuple[str, float, int]]] = defaultdict(list)
        verdicts: dict[tuple[str, str, str], Sequence[TestVerdict]] = {}
        for tally in tallies:
            pages |= tally.pages
            rollouts += tally.rollouts
            verdicts |= tally.verdicts
            for figure, rows in tally.added.items():
                added[figure] += rows
        return cls(pages, rollouts, added, verdicts)

    def scores(self) -> dict[str, float]:
        """Held-out figures.

        Tests are judged by the rules of `olmrl.bench`, not the stricter ones of training rewards.
        A text that could not be generated or scored passes nothing.

        Returns:
            As `python -m olmrl.bench score` gives them on the same texts, with the added baseline
            tests: `category_mean` (its score, the mean over categories), `category/<file or
            "baseline">` (share of tests that most transcriptions of their page pass), `type/<test
            type>` (share of passes).
            Of the folder's own tests: `pass_rate` (passed / run), `page_exact` (share of
            transcriptions that pass all tests of their page).
            Of the texts: `reading` (similarity of the words alone), `ended` (share that ended by
            the end token), `tokens` (mean length), `reward/<name>` (means of `REWARDS`).
        """
        rewards = sorted(name for name in self.added if name.startswith("reward/"))
        figures = {name: self._mean(name) for name in _PLAIN if name in self.added}
        if self.verdicts:
            figures |= _benchmark(self.pages, self.verdicts)
        return figures | {name: self._mean(name) for name in rewards}

    def errors(self) -> dict[str, float]:
        """Standard errors of figures, the pages being the sample, as `<figure>_error`."""
        found = {f"{name}_error": self.mean_and_error(name) for name in ("pass_rate", "reading")}
        known = {name: both[1] for name, both in found.items() if both is not None}
        return {name: error for name, error in known.items() if error == error}

    def mean_and_error(
        self, figure: str, among: Callable[[str], bool] = lambda page_id: True
    ) -> tuple[float, float] | None:
        """Mean of a figure and its standard error, the pages being the sample.

        Values of a page rise and fall together, so they are no samples of their own: with sum p of
        t values on each of n pages and r = sum p / sum t, the error is
        sqrt(n / (n - 1) x sum (p - r t)^2) / sum t (ratio estimator, Cochran 1977, 6.3).

        Args:
            figure: its name.
            among: which pages count, by id.

        Returns:
            None if no page has the figure; the error is NaN for a single page.
        """
        pages: dict[str, tuple[float, int]] = {}
        for page_id, value, count in self.added.get(figure, ()):
            if among(page_id):
                total, values = pages.get(page_id, (0.0, 0))
                pages[page_id] = (total + value, values + count)
        if not pages:
            return None
        total_count = sum(count for _, count in pages.values())
        mean = sum(total for total, _ in pages.values()) / total_count
        if len(pages) == 1:
            return mean, float("nan")
        squares = sum((total - mean * count) ** 2 for total, count in pages.values())
        return mean, math.sqrt(len(pages) / (len(pages) - 1) * squares) / total_count

    def _mean(self, figure: str) -> float:
        rows = self.added[figure]
        return sum(value for _, value, _ in rows) / sum(count for _, _, count in rows)


_PLAIN = ("page_exact", "reading", "ended", "tokens", "pass_rate")
"""Figures that are means over transcriptions or their tests."""


def _verdicts(rollout: Rollout) -> list[TestVerdict]:
    return [verdict for result in rollout.rewards.values() for verdict in result.verdicts]


def _added(rollout: Rollout, reference: str | None) -> Iterator[tuple[str, float, int]]:
    """Figure, what a transcription adds to its sum, and to its count."""
    verdicts = _verdicts(rollout)
    own = [verdict.passed for verdict in verdicts if verdict.file != BASELINE]
    yield "ended", rollout.completion.finish_reason == "stop", 1
    if own:
        yield "pass_rate", sum(own), len(own)
        yield "page_exact", all(own), 1
    if reference is not None:
        yield "reading", reading(rollout.completion.text, reference), 1
    for verdict in verdicts:
        yield f"category/{verdict.file}", verdict.passed, 1
    yield "tokens", len(rollout.completion.token_ids), 1
    for name, result in rollout.rewards.items():
        if not result.failed:
            yield f"reward/{name}", result.value, 1


def _benchmark(
    pages: Mapping[str, Page], repeats: Mapping[tuple[str, str, str], Sequence[TestVerdict]]
) -> dict[str, float]:
    tests = [
        TestResult(
            id=test_id,
            type=verdicts[0].type,
            category=file,
            pdf=pages[page_id].pdf_path,
            page=pages[page_id].page_number,
            score=sum(verdict.passed for verdict in verdicts) / len(verdicts),
            explanation="",
        )
        for (page_id, file, test_id), verdicts in repeats.items()
    ]
    result = summarize("held out", tests, samples=1)
    figures = {"category_mean": result.score}
    figures |= {f"type/{name}": score for name, score in result.types.items()}
    figures |= {f"category/{name}": category.score for name, category in result.categories.items()}
    return figures


def record(
    step: int, pages: Mapping[str, Page], images: Mapping[str, str], modes: Mapping[str, Tally]
) -> dict[str, Any]:
    """An evaluation as plain JSON: figures of all pages, and transcriptions of some.

    Args:
        step: steps in the weights.
        pages: held-out pages by id.
        images: by page id, picture path of the pages whose transcriptions are kept.
        modes: `greedy` and `sampled` transcriptions.
    """
    figures = {
        f"{mode}/{name}": value
        for mode, tally in modes.items()
        for name, value in (tally.scores() | tally.errors()).items()
    }
    shown = [
        {
            "page_id": page_id,
            "image": image,
            "reference": pages[page_id].reference,
            "rollouts": {
                mode: [rollout_row(r) for p, r in tally.rollouts if p == page_id]
                for mode, tally in modes.items()
            },
        }
        for page_id, image in images.items()
    ]
    return {"step": step, "scores": figures, "pages": shown, "by_page": by_page(modes)}


def by_page(modes: Mapping[str, Tally]) -> dict[str, Any]:
    """What each page adds to the figures; the error of a change between evaluations follows.

    A figure of `Tally.scores` is the sum of its sums over the sum of its counts (that of a
    category, if each page was read once).

    Returns:
        `pages`: ids in order; `sums` and `counts`: by `<mode>/<figure>`, a number per page. Neither
        lengths nor rewards are among them.
    """
    order = sorted({page_id for tally in modes.values() for page_id, _ in tally.rollouts})
    place = {page_id: index for index, page_id in enumerate(order)}
    sums: dict[str, list[float]] = {}
    counts: dict[str, list[int]] = {}
    for mode, tally in modes.items():
        for figure, rows in tally.added.items():
            if figure == "tokens" or figure.startswith("reward/"):
                continue
            name = f"{mode}/{figure}"
            sums[name], counts[name] = [0] * len(order), [0] * len(order)
            for page_id, value, count in rows:
                index = place[page_id]
                sums[name][index] = round(sums[name][index] + value, 4)
                counts[name][index] += count
    return {"pages": order, "sums": sums, "counts": counts}


def add_halves(found: dict[str, Any], mode: str, choosing: Container[str]) -> None:
    """Add the pass rates of `selection` and `reported` pages to what `by_page` found.

    Args:
        found: extended in place.
        mode: the mode that both halves are read from.
        choosing: ids of the pages that choose the best checkpoint.
    """
    for part in ("sums", "counts"):
        whole = found[part].get(f"{mode}/pass_rate")
        if whole is None:
            continue
        chosen = [page_id in choosing for page_id in found["pages"]]
        for half, wanted in (("selection", True), ("reported", False)):
            pairs = zip(whole, chosen, strict=True)
            found[part][f"{half}/pass_rate"] = [n if c is wanted else 0 for n, c in pairs]
