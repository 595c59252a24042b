"""Signals of rewards that count one by one, and which groups are dropped."""

import asyncio

import numpy as np
import pytest
from test_buffer import group as scored
from test_buffer import started

from olmrl.grpo.saved_groups import decode_groups, encode_groups
from olmrl.grpo.scaling import standardise
from olmrl.rewards.overlong import NAME, shape
from olmrl.types import PolicyVersion, PromptGroup, RewardResult, Rollout

VERSION = PolicyVersion(1, 0)


def group(weights, *values):
    """A group with the given values of two rewards."""
    plain = scored("0-0-1", [0.0] * len(values), VERSION)
    rollouts = []
    for rollout, pair in zip(plain.rollouts, values, strict=True):
        rewards = {name: RewardResult(v) for name, v in zip(weights, pair, strict=True)}
        shares = {name: w * rewards[name].value for name, w in weights.items()}
        rollouts.append(Rollout(rollout.completion, rewards, sum(shares.values()), shares))
    return PromptGroup(plain.group_id, plain.page_id, tuple(rollouts))


def test_totals_that_are_equal_still_have_a_signal():
    weights = {"tests": 1.0, "length": 0.1}
    made = group(weights, (1.0, 0.0), (0.0, 10.0), (0.5, 5.0), (0.5, 0.0))
    assert np.ptp(made.totals[:3]) == 0
    signals = standardise(made, weights).signals
    tests = np.asarray([1.0, 0.0, 0.5, 0.5])
    length = np.asarray([0.0, 10.0, 5.0, 0.0])
    by_hand = (tests - 0.5) / (tests.std(ddof=1) + 1e-4)
    by_hand += 0.1 * (length - length.mean()) / (length.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(signals, by_hand, rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "values", "plain", "one_by_one"),
    [
        ({"a": 1.0, "b": 1.0}, [(1, 0), (0, 1), (1, 0)], "zero_variance", "zero_variance"),
        ({"a": 2.0, "b": 1.0}, [(1, 0), (0, 2), (1, 0)], "zero_variance", "ready"),
        ({"a": 1.0, "b": 1.0}, [(1, 1), (1, 1), (1, 1)], "zero_variance", "zero_variance"),
        ({"a": 1.0, "b": 1.0}, [(1, 0), (1, 1), (1, 0)], "ready", "ready"),
        ({"a": 0.0, "b": 1.0}, [(1, 1), (0, 1), (1, 1)], "zero_variance", "zero_variance"),
        ({"a": 0.0}, [(1,), (0,)], "zero_variance", "zero_variance"),
    ],
)
def test_which_groups_are_dropped(weights, values, plain, one_by_one):
    async def fate(made):
        buffer, version = await started(batch_size=1)
        await buffer.issue(version.incarnation, 0, 0, "page")
        verdict = await buffer.add(made, True)
        if verdict == "ready":
            lease = await buffer.lease("b", 0)
            assert lease.totals.tolist() == [made.signals.tolist()]
        return verdict

    made = group(weights, *values)
    assert asyncio.run(fate(made)) == plain
    assert asyncio.run(fate(standardise(made, weights))) == one_by_one


def test_a_length_penalty_counts_like_a_reward_of_weight_one():
    weights = {"a": 0.5}
    made = shape(group(weights, (1.0,), (1.0,), (0.0,)), max_tokens=6, buffer=2)
    penalties = np.asarray([r.rewards[NAME].value for r in made.rollouts])
    assert np.ptp(penalties) > 0
    a = np.asarray([1.0, 1.0, 0.0])
    by_hand = 0.5 * (a - a.mean()) / (a.std(ddof=1) + 1e-4)
    by_hand += (penalties - penalties.mean()) / (penalties.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(standardise(made, weights).signals, by_hand, rtol=1e-5)


def test_signals_survive_a_checkpoint():
    weights = {"a": 2.0, "b": 1.0}
    made = standardise(group(weights, (1, 0), (0, 2), (1, 1)), weights)
    assert decode_groups(encode_groups([made]))[0].signals.tolist() == made.signals.tolist()
