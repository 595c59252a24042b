"""Soft penalty for completions near the length limit (`algorithm.overlong: shape`)."""

from __future__ import annotations

from dataclasses import replace

from olmrl.types import PromptGroup, RewardResult

NAME = "overlong"
"""Name of the penalty among a rollout's rewards."""


def overlong_penalty(length: int, max_tokens: int, buffer: int) -> float:
    """DAPO's soft overlong punishment (arXiv 2503.14476, equation 13), in [-1, 0].

    Args:
        length: completion tokens, the end token included.
        max_tokens: the limit of completions.
        buffer: number of tokens before the limit over which the penalty falls linearly from 0 to
            -1; with 0, only completions that reach the limit are penalised.
    """
    if length >= max_tokens:
        return -1.0
    start = max_tokens - buffer
    return 0.0 if length <= start else -(length - start) / buffer


def shape(group: PromptGroup, max_tokens: int, buffer: int) -> PromptGroup:
    """Add the penalty to every total; it may be the only difference between a group's rollouts.

    A completion that was cut pays in full, wherever it was cut: `rollout.max_model_len` may leave a
    long prompt less room than `max_tokens`.
    """
    shaped = []
    for rollout in group.rollouts:
        completion = rollout.completion
        cut = completion.finish_reason == "length"
        length = max_tokens if cut else len(completion.token_ids)
        penalty = overlong_penalty(length, max_tokens, buffer)
        rewards = rollout.rewards | {NAME: RewardResult(penalty)}
        shaped.append(replace(rollout, rewards=rewards, total=rollout.total + penalty))
    return replace(group, rollouts=tuple(shaped))
