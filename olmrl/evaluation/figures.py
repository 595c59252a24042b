"""Figures of held-out transcriptions: unit-test pass rates, and how much of the text was read.

Pure functions on scored rollouts, which come from the same engines as training.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
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


def scores(pages: Mapping[str, Page], rollouts: Sequence[tuple[str, Rollout]]) -> dict[str, float]:
    """Held-out figures of (page id, rollout) pairs.

    Tests are judged by the rules of `olmrl.bench`, not the stricter ones of training rewards. A
    text that could not be generated or scored passes nothing.

    Returns:
        As `python -m olmrl.bench score` gives them on the same texts, with the added baseline
        tests: `category_mean` (its score, the mean over categories), `category/<file or
        "baseline">` (share of tests that most transcriptions of their page pass), `type/<test
        type>` (share of passes).
        Of the folder's own tests: `pass_rate` (passed / run), `page_exact` (share of transcriptions
        that pass all tests of their page).
        Of the texts: `reading` (similarity of the words alone), `ended` (share that ended by the
        end token), `tokens` (mean length), `reward/<name>` (means of `REWARDS`).
    """
    repeats: dict[tuple[str, str, str], list[TestVerdict]] = defaultdict(list)
    rewards: dict[str, list[float]] = defaultdict(list)
    exact, read, ended, lengths, passes = [], [], [], [], []
    for page_id, rollout in rollouts:
        verdicts = [v for result in rollout.rewards.values() for v in result.verdicts]
        for verdict in verdicts:
            repeats[page_id, verdict.file, verdict.test_id].append(verdict)
        own = [verdict.passed for verdict in verdicts if verdict.file != BASELINE]
        passes += own
        for name, result in rollout.rewards.items():
            if not result.failed:
                rewards[name].append(result.value)
        if own:
            exact.append(all(own))
        reference = pages[page_id].reference
        if reference is not None:
            read.append(reading(rollout.completion.text, reference))
        ended.append(rollout.completion.finish_reason == "stop")
        lengths.append(len(rollout.completion.token_ids))
    figures = {
        "page_exact": _mean(exact),
        "reading": _mean(read),
        "ended": _mean(ended),
        "tokens": _mean(lengths),
        "pass_rate": _mean(passes),
    }
    if repeats:
        figures |= _benchmark(pages, repeats)
    figures |= {f"reward/{name}": _mean(values) for name, values in sorted(rewards.items())}
    return {name: value for name, value in figures.items() if value == value}


def rate_and_error(rollouts: Sequence[tuple[str, Rollout]]) -> tuple[float, float] | None:
    """Pass rate of the folder's own tests and its standard error, the pages being the sample.

    Args:
        rollouts: (page id, rollout) pairs, several of a page or one.

    Returns:
        None if no page has a test; the error is NaN for a single page.
    """
    passed: dict[str, float] = defaultdict(float)
    tests: dict[str, int] = defaultdict(int)
    for page_id, rollout in rollouts:
        for result in rollout.rewards.values():
            own = [verdict.passed for verdict in result.verdicts if verdict.file != BASELINE]
            passed[page_id] += sum(own)
            tests[page_id] += len(own)
    return _mean_and_error(passed, tests)


def reading_and_error(
    pages: Mapping[str, Page], rollouts: Sequence[tuple[str, Rollout]]
) -> tuple[float, float] | None:
    """Mean `reading` and its standard error, the pages being the sample.

    Returns:
        None if no page has a reference; the error is NaN for a single page.
    """
    read: dict[str, float] = defaultdict(float)
    texts: dict[str, int] = defaultdict(int)
    for page_id, rollout in rollouts:
        reference = pages[page_id].reference
        if reference is not None:
            read[page_id] += reading(rollout.completion.text, reference)
            texts[page_id] += 1
    return _mean_and_error(read, texts)


def _mean_and_error(
    sums: Mapping[str, float], counts: Mapping[str, int]
) -> tuple[float, float] | None:
    """Mean of what several values of each page add up to, and its standard error.

    Values of a page rise and fall together, so they are no samples of their own: with sum p of t
    values on each of n pages and r = sum p / sum t, the error is
    sqrt(n / (n - 1) x sum (p - r t)^2) / sum t (ratio estimator, Cochran 1977, 6.3).
    """
    counted = [page_id for page_id, count in counts.items() if count]
    if not counted:
        return None
    total = sum(counts[page_id] for page_id in counted)
    mean = sum(sums[page_id] for page_id in counted) / total
    if len(counted) == 1:
        return mean, float("nan")
    squares = sum((sums[page_id] - mean * counts[page_id]) ** 2 for page_id in counted)
    return mean, math.sqrt(len(counted) / (len(counted) - 1) * squares) / total


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
    step: int,
    pages: Mapping[str, Page],
    images: Mapping[str, str],
    modes: Mapping[str, Sequence[tuple[str, Rollout]]],
) -> dict[str, Any]:
    """An evaluation as plain JSON: figures of all pages, and transcriptions of some.

    Args:
        step: steps in the weights.
        pages: held-out pages by id.
        images: by page id, picture path of the pages whose transcriptions are kept.
        modes: `greedy` and `sampled` rollouts as (page id, rollout).
    """
    figures = {
        f"{mode}/{name}": value
        for mode, rollouts in modes.items()
        for name, value in (scores(pages, rollouts) | _errors(pages, rollouts)).items()
    }
    shown = [
        {
            "page_id": page_id,
            "image": image,
            "reference": pages[page_id].reference,
            "rollouts": {
                mode: [rollout_row(r) for p, r in rollouts if p == page_id]
                for mode, rollouts in modes.items()
            },
        }
        for page_id, image in images.items()
    ]
    return {"step": step, "scores": figures, "pages": shown, "by_page": by_page(pages, modes)}


def by_page(
    pages: Mapping[str, Page], modes: Mapping[str, Sequence[tuple[str, Rollout]]]
) -> dict[str, Any]:
    """What each page adds to the figures; the error of a change between evaluations follows.

    A figure of `scores` is the sum of its sums over the sum of its counts (that of a category, if
    each page was read once).

    Returns:
        `pages`: ids in order; `sums` and `counts`: by `<mode>/<figure>`, a number per page.
    """
    order = sorted({page_id for rollouts in modes.values() for page_id, _ in rollouts})
    place = {page_id: index for index, page_id in enumerate(order)}
    sums: dict[str, list[float]] = {}
    counts: dict[str, list[int]] = {}
    for mode, rollouts in modes.items():
        for page_id, rollout in rollouts:
            for figure, value, count in _of_page(rollout, pages[page_id].reference):
                name, index = f"{mode}/{figure}", place[page_id]
                total = sums.setdefault(name, [0] * len(order))
                total[index] = round(total[index] + value, 4)
                counts.setdefault(name, [0] * len(order))[index] += count
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


def _of_page(rollout: Rollout, reference: str | None) -> Iterator[tuple[str, float, int]]:
    """Figure, what a transcription adds to its sum, and to its count."""
    verdicts = [v for result in rollout.rewards.values() for v in result.verdicts]
    own = [verdict.passed for verdict in verdicts if verdict.file != BASELINE]
    yield "ended", rollout.completion.finish_reason == "stop", 1
    if own:
        yield "pass_rate", sum(own), len(own)
        yield "page_exact", all(own), 1
    if reference is not None:
        yield "reading", reading(rollout.completion.text, reference), 1
    for verdict in verdicts:
        yield f"category/{verdict.file}", verdict.passed, 1


def _errors(pages: Mapping[str, Page], rollouts: Sequence[tuple[str, Rollout]]) -> dict[str, float]:
    """Standard errors of figures, the pages being the sample."""
    found = {
        "pass_rate_error": rate_and_error(rollouts),
        "reading_error": reading_and_error(pages, rollouts),
    }
    known = {name: both[1] for name, both in found.items() if both is not None}
    return {name: error for name, error in known.items() if error == error}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
