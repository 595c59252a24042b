"""Advantages against hand computations."""

import math

import numpy as np
import pytest

from olmrl.learner.advantage import group_advantages, has_signal, token_weights


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


def test_a_failed_reward_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        group_advantages(_rewards([0.0, math.nan]), "group")
    assert group_advantages([], "group") == []


def test_only_cut_completions_are_masked_and_only_when_asked():
    assert token_weights(3, "length", "mask").tolist() == [0, 0, 0]
    assert token_weights(3, "stop", "mask").tolist() == [1, 1, 1]
    assert token_weights(2, "length", "keep").tolist() == [1, 1]
    assert token_weights(2, "length", "shape").tolist() == [1, 1]
