"""Advantages against hand computations."""

import math

import numpy as np
import pytest

from olmrl.learner.advantage import group_advantages, has_signal, standardised_sum, token_weights


def _rewards(*groups):
    return [np.asarray(g, np.float32) for g in groups]


def test_group_scaling_divides_by_the_sample_deviation():
    (found,) = group_advantages(_rewards([1.0, 2.0, 3.0]), "group")
    np.testing.assert_allclose(found, np.asarray([-1, 0, 1]) / 1.0001, rtol=1e-6)


def test_batch_scaling_divides_every_group_by_the_same_deviation():
    first, second = group_advantages(_rewards([0.0, 1.0], [0.0, 3.0]), "batch")
    deviation = math.sqrt(((0 - 1) ** 2 + 0 + (0 - 1) ** 2 + (3 - 1) ** 2) / 3) + 1e-4
    np.testing.assert_allclose(first, np.asarray([-0.5, 0.5]) / deviation, rtol=1e-6)
    np.testing.assert_allclose(second, np.asarray([-1.5, 1.5]) / deviation, rtol=1e-6)


def test_no_scaling_only_subtracts_the_mean():
    (found,) = group_advantages(_rewards([0.0, 1.0, 2.0, 5.0]), "none")
    np.testing.assert_allclose(found, [-2, -1, 0, 3])


def test_equal_rewards_teach_nothing_whatever_their_rounding():
    equal = np.asarray([0.1 + 0.2, 0.3, 0.15 * 2, 0.3], np.float32)
    assert not has_signal(equal)
    assert not has_signal(np.asarray([0.5, 0.5 + 5e-7], np.float32))
    assert has_signal(np.asarray([0.5, 0.5001], np.float32))
    for scaling in ("group", "batch", "none"):
        found = group_advantages([equal, np.asarray([0.0, 1.0], np.float32)], scaling)
        assert (found[0] == 0).all() and found[1][1] > 0


def test_each_reward_is_standardised_before_the_weighted_sum():
    # deviations: 1 for [0, 1, 2], 10 for [10, 0, 20]; the third is the same for all
    rewards = {
        "tests": np.asarray([0.0, 1.0, 2.0]),
        "length": np.asarray([10.0, 0.0, 20.0]),
        "eos": np.asarray([1.0, 1.0 + 1e-9, 1.0]),
    }
    sums = standardised_sum(rewards, {"tests": 1.0, "length": 0.5, "eos": 100.0})
    by_hand = np.asarray([-1, 0, 1]) / 1.0001 + 0.5 * np.asarray([0, -10, 10]) / 10.0001
    np.testing.assert_allclose(sums, by_hand, atol=1e-12)
    other = standardised_sum({"tests": np.asarray([3.0, 3.0])}, {"tests": 1.0})
    assert other.tolist() == [0.0, 0.0]
    # the second step: divided by the deviation over the batch
    found = group_advantages([sums.astype(np.float32), other.astype(np.float32)], "per_reward")
    everything = [*by_hand, 0.0, 0.0]
    deviation = math.sqrt(sum((x - np.mean(everything)) ** 2 for x in everything) / 4) + 1e-4
    np.testing.assert_allclose(found[0], by_hand / deviation, rtol=1e-5)
    assert found[1].tolist() == [0.0, 0.0]


def test_a_failed_reward_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        group_advantages(_rewards([0.0, math.nan]), "group")
    assert group_advantages([], "group") == []


def test_only_cut_completions_are_masked_and_only_when_asked():
    assert token_weights(3, "length", "mask").tolist() == [0, 0, 0]
    assert token_weights(3, "stop", "mask").tolist() == [1, 1, 1]
    assert token_weights(2, "length", "keep").tolist() == [1, 1]
    assert token_weights(2, "length", "shape").tolist() == [1, 1]
