"""Scores of held-out transcriptions: unit-test pass rates and honest reading figures beside them.

Pure functions on scored rollouts; the Driver generates them through the same engines as training.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from olmrl.config.schema import RewardConfig
from olmrl.markup import front_matter
from olmrl.run_directory import rollout_row
from olmrl.types import (
    Completion,
    Page,
    PolicyVersion,
    RewardResult,
    Rollout,
    TestVerdict,
    VersionSpan,
)

REWARDS = (RewardConfig(name="bench"), RewardConfig(name="edit_distance"))
"""What held-out transcriptions are scored by; pages without tests or reference go without."""

_WORD = re.compile(r"\w+")
_TAG = re.compile(r"<[^>]*>")


def words(markdown: str) -> list[str]:
    """Words of a transcription's body, whatever its layout: tags and front matter left out."""
    return _WORD.findall(_TAG.sub(" ", front_matter.strip(markdown)))


def reading(text: str, reference: str) -> float:
    """Similarity of the word sequences, 1 - Levenshtein distance / longer length."""
    return Levenshtein.normalized_similarity(words(text), words(reference))


def no_completion(group_id: str, version: PolicyVersion) -> Completion:
    """Stand for what an engine could not make."""
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
    """Make the rollout of what could not be generated or scored: it passes no test, says no word.

    The text is left out: whatever made its scorer fail must not be looked at again.
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

    Returns:
        `pass_rate` (passed / run over all unit tests), `type/<test type>` the same per type,
        `category/<file>` per JSONL file with `category_mean` their mean (the public benchmark's
        score), `page_exact` (all tests of the page passed), `reading` (words alone), `ended`
        (finished by the end token), `tokens` (mean length) and `reward/<name>` means.
    """
    by_type: dict[str, list[bool]] = defaultdict(list)
    by_file: dict[str, list[bool]] = defaultdict(list)
    rewards: dict[str, list[float]] = defaultdict(list)
    exact, read, ended, lengths = [], [], [], []
    for page_id, rollout in rollouts:
        verdicts = [v for result in rollout.rewards.values() for v in result.verdicts]
        for verdict in verdicts:
            by_type[verdict.type].append(verdict.passed)
            by_file[verdict.file].append(verdict.passed)
        for name, result in rollout.rewards.items():
            if not result.failed:
                rewards[name].append(result.value)
        if verdicts:
            exact.append(all(v.passed for v in verdicts))
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
        "pass_rate": _mean([passed for results in by_type.values() for passed in results]),
        "category_mean": _mean([_mean(results) for results in by_file.values()]),
    }
    figures |= {f"type/{name}": _mean(results) for name, results in sorted(by_type.items())}
    figures |= {f"category/{name}": _mean(results) for name, results in sorted(by_file.items())}
    figures |= {f"reward/{name}": _mean(values) for name, values in sorted(rewards.items())}
    return {name: value for name, value in figures.items() if value == value}


def record(
    step: int,
    pages: Mapping[str, Page],
    images: Mapping[str, str],
    modes: Mapping[str, Sequence[tuple[str, Rollout]]],
) -> dict[str, Any]:
    """An evaluation as plain JSON: figures of every mode, and the transcriptions of shown pages.

    Args:
        step: optimizer steps in the weights.
        pages: held-out pages by id.
        images: picture path of the pages whose transcriptions are kept.
        modes: `greedy` and `sampled` rollouts as (page id, rollout).
    """
    figures = {
        f"{mode}/{name}": value
        for mode, rollouts in modes.items()
        for name, value in scores(pages, rollouts).items()
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
    return {"step": step, "scores": figures, "pages": shown}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
