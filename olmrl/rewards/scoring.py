"""Score completions of one page with all rewards of a run, in this process.

The pool's workers run these functions, and so do evaluation and tests, without Ray. If a reward
raises or returns NaN, that becomes a failed result here, so that the caller drops the group as a
whole: never a silent zero, never a partial group. A text that no reward can be asked about, because
it is too long or stalls or kills every process that reads it, gets the `lowest` results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from olmrl.rewards.registry import WeightedReward
from olmrl.rewards.reward import UnscorablePage, failed
from olmrl.types import Completion, Page, RewardResult, Rollout

_LARGEST_TOTAL = 1e30
"""Totals travel as float32, and are squared for their deviation in float64."""

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
    except (Exception, SystemExit) as error:  # hostile output, rewards of the user's own
        problem = " ".join(f"{entry.name}: {type(error).__name__}: {error}".split()).rstrip(":")
        return [failed(problem[:500])] * len(completions)
    if not isinstance(results, Sequence) or isinstance(results, str):
        problem = f"{entry.name}: returned {results!r}"[:200]
        return [failed(f"{problem}, must return one result per completion")] * len(completions)
    if len(results) != len(asked):
        problem = f"{entry.name}: returned {len(results)} results for {len(asked)} completions"
        return [failed(problem)] * len(completions)
    results = [_checked(entry.name, result) for result in results]
    if entry.reward.needs_group:
        return results
    by_identity = dict(zip(unique, results, strict=True))
    return [by_identity[identity(c)] for c in completions]


def _checked(name: str, result: Any) -> RewardResult:
    if not isinstance(result, RewardResult):
        return failed(f"{name}: returned {result!r} for a completion, must be a RewardResult"[:500])
    if result.failed:
        return result
    for what, value in (("value", result.value), *result.parts.items()):
        try:
            finite = math.isfinite(value)
        except (TypeError, OverflowError):
            finite = False
        if not finite:
            return failed(f"{name}: its {what} is {value!s:.80}, must be a finite number")
    return result


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


def lowest(rewards: Sequence[WeightedReward], siblings: Sequence[Results], reason: str) -> Results:
    """What a completion gets that cannot be scored because of its own text.

    Of each reward the value that adds least to the total: 0 (the least of all rewards of olmrl), or
    what the worst sibling got, if that adds less. So it is never above a sibling.

    Args:
        rewards: The configured rewards.
        siblings: Results of the scored completions of its group; not empty.
        reason: Why it cannot be scored, in one sentence.
    """
    results: Results = {}
    for entry in rewards:
        if entry.name not in siblings[0]:
            continue
        values = [0.0, *(results[entry.name].value for results in siblings)]
        worst = min(values) if entry.weight >= 0 else max(values)
        results[entry.name] = RewardResult(worst, error=reason)
    return results


def failure(rollouts: Sequence[Rollout]) -> str:
    """The first failure among rollouts, or an empty string."""
    for rollout in rollouts:
        index = rollout.completion.index
        for result in rollout.rewards.values():
            if result.failed:
                return f"completion {index}: {result.error}"
        if abs(rollout.total) > _LARGEST_TOTAL:
            names = ", ".join(rollout.rewards)
            return (
                f"completion {index}: the weighted sum of {names} is {rollout.total:g}, too large"
            )
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
