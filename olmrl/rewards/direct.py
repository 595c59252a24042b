"""Rewards without Ray, pages or a configuration: one name, some texts, a list of numbers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from olmrl.bench import Case
from olmrl.config.registered import REWARDS
from olmrl.config.schema import RewardConfig
from olmrl.rewards.registry import WeightedReward, build
from olmrl.rewards.scoring import failure, score_rollouts
from olmrl.types import Completion, Page


def score(
    name: str,
    completions: Sequence[Any],
    *,
    references: Sequence[str | None] | None = None,
    cases: Sequence[Case | Mapping[str, Any] | str] | None = None,
    compat: bool = False,
    options: Mapping[str, Any] | None = None,
) -> list[float]:
    """Score texts with one reward.

    Examples:
        `score("edit_distance", ["a b"], references=["a c"])`,
        `score("bench", texts, cases=rows, options={"average": "macro"})`

    Args:
        name: A registered reward or `package.module:callable`.
        completions: Texts or `Completion` objects (required by eos), all of one page.
        references: The reference of each completion; None if it has none.
        cases: The page's unit tests.
        compat: The public code's values: chat messages are accepted as completions, a missing
            reference scores 0.
        options: Further constructor arguments of the reward.

    Raises:
        ValueError: a reward cannot be computed, e.g. without a reference; names the reward.
    """
    if isinstance(completions, str):
        raise ValueError("completions is a single text, must be a list of texts")
    settings = dict(options or {})
    own = ":" in REWARDS.check(name)
    if compat and not own and "compat" in inspect.signature(REWARDS.load(name)).parameters:
        settings["compat"] = True
    entry = build(RewardConfig(name=name, options=settings))
    made = [_completion(i, given, compat) for i, given in enumerate(completions)]
    known = list(references or ())[: len(made)]
    known += [None] * (len(made) - len(known))
    if entry.reward.needs_group:
        return _score_page(entry, _page(None, cases), made) if made else []
    values = [0.0] * len(made)
    for reference in dict.fromkeys(known):
        mine = [i for i, theirs in enumerate(known) if theirs == reference]
        scores = _score_page(entry, _page(reference, cases), [made[i] for i in mine])
        for i, value in zip(mine, scores, strict=True):
            values[i] = value
    return values


def _score_page(entry: WeightedReward, page: Page, completions: list[Completion]) -> list[float]:
    rollouts = score_rollouts((entry,), page, completions)
    problem = failure(rollouts)
    if problem:
        raise ValueError(problem)
    return [rollout.rewards[entry.name].value for rollout in rollouts]


def _page(reference: str | None, cases: Sequence[Case | Mapping[str, Any] | str] | None) -> Page:
    rows = tuple(_row(case) for case in cases or ())
    return Page(
        page_id="the page",
        pdf_path="",
        page_number=1,
        image=np.zeros((1, 1, 3), np.uint8),
        reference=reference,
        tests=rows,
        test_files=("cases",) * len(rows),
    )


def _completion(index: int, given: Any, compat: bool) -> Completion:
    if isinstance(given, Completion):
        return given
    if compat and not isinstance(given, str):
        message = given[0] if isinstance(given, list) and given else {}
        given = message.get("content", "") if isinstance(message, dict) else ""
    if not isinstance(given, str):
        raise ValueError(f"completion {index} is a {type(given).__name__}, must be text")
    nothing = np.zeros(0, np.int32)
    return Completion(
        group_id="",
        index=index,
        token_ids=nothing,
        logprobs=np.zeros(0, np.float32),
        versions=(),
        finish_reason="",
        text=given,
        prompt_token_ids=nothing,
    )


def _row(case: Case | Mapping[str, Any] | str) -> dict[str, Any]:
    if isinstance(case, Case):
        return case.to_row()
    if not isinstance(case, str):
        return dict(case)
    try:
        row = json.loads(case)
    except json.JSONDecodeError as error:
        raise ValueError(f"the test {case[:80]!r} is not valid JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise ValueError(f"the test {case[:80]!r} must be a JSON object")
    return row
