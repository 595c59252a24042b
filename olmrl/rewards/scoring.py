"""Score completions of one page with all rewards of a run, in this process.

The pool's workers run these functions, and so do evaluation and tests, without Ray. If a reward
raises or returns NaN, that becomes a failed result here, so that the caller drops the group as a
whole: never a silent zero, never a partial group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from olmrl.rewards.registry import WeightedReward
from olmrl.rewards.reward import UnscorablePage, failed
from olmrl.types import Completion, Page, RewardResult, Rollout

Results = dict[str, RewardResult]
"""Reward name -> result, for one completion."""


def applicable(rewards: Sequence[WeightedReward], page: Page) -> tuple[WeightedReward, ...]:
    """The rewards that apply to a page; the same for all of its completions.

    Raises:
        UnscorablePage: none applies; says what each one lacks.
    """
    missing = {entry.name: entry.reward.missing(page) for entry in rewards}
    chosen = tuple(entry for entry in rewards if not missing[entry.name])
    if not chosen:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise UnscorablePage(f"{page.page_id}: no configured reward applies ({reasons})")
    return chosen


def identity(completion: Completion) -> tuple[str, bytes, str]:
    """What a reward may depend on: completions with equal identity are scored once."""
    return completion.text, completion.token_ids.tobytes(), completion.finish_reason


def score_completions(
    rewards: Sequence[WeightedReward], page: Page, completions: Sequence[Completion]
) -> list[Results]:
    """Score completions of one page with each of the given rewards.

    Rewards with `needs_group` treat the given completions as the whole group.

    Raises:
        UnscorablePage: no completion of this page can be scored.
    """
    results: list[Results] = [{} for _ in completions]
    for entry in rewards:
        for mine, result in zip(results, _score_one(entry, page, completions), strict=True):
            mine[entry.name] = result
    return results


def _score_one(
    entry: WeightedReward, page: Page, completions: Sequence[Completion]
) -> list[RewardResult]:
    unique: dict[tuple[str, bytes, str], Completion] = {}
    for completion in completions:
        unique.setdefault(identity(completion), completion)
    asked = list(completions) if entry.reward.needs_group else list(unique.values())
    try:
        results = entry.reward.score_group(page, asked)
    except UnscorablePage:
        raise
    except Exception as error:  # model output may be hostile, and rewards may be the user's own
        return [failed(f"{entry.name}: {type(error).__name__}: {error}"[:500])] * len(completions)
    if len(results) != len(asked):
        problem = f"{entry.name}: returned {len(results)} results for {len(asked)} completions"
        return [failed(problem)] * len(completions)
    results = [_checked(entry.name, result) for result in results]
    if entry.reward.needs_group:
        return results
    by_identity = dict(zip(unique, results, strict=True))
    return [by_identity[identity(c)] for c in completions]


def _checked(name: str, result: RewardResult) -> RewardResult:
    if result.failed or math.isfinite(result.value):
        return result
    return failed(f"{name}: {result.value} is not a number")


def combine(
    rewards: Sequence[WeightedReward],
    completion: Completion,
    results: Mapping[str, RewardResult],
    step: int = 0,
) -> Rollout:
    """Make a rollout: results in the configured order and their weighted sum at a step.

    A reward without a result did not apply to the page; a failed one makes the total NaN.
    """
    present = [entry for entry in rewards if entry.name in results]
    shares = {entry.name: entry.share(results[entry.name], step) for entry in present}
    mine = {entry.name: results[entry.name] for entry in present}
    return Rollout(completion, mine, sum(shares.values()), shares)


def failure(rollouts: Sequence[Rollout]) -> str:
    """The first failure among rollouts, or an empty string."""
    for rollout in rollouts:
        for result in rollout.rewards.values():
            if result.failed:
                return f"completion {rollout.completion.index}: {result.error}"
    return ""


def score_rollouts(
    rewards: Sequence[WeightedReward], page: Page, completions: Sequence[Completion]
) -> list[Rollout]:
    """Score one whole group in this process, without deadlines.

    Returns:
        One rollout per completion, in order; `failure` tells whether any reward failed.

    Raises:
        UnscorablePage: no completion of this page can be scored.
    """
    results = score_completions(applicable(rewards, page), page, completions)
    return [combine(rewards, c, r) for c, r in zip(completions, results, strict=True)]
