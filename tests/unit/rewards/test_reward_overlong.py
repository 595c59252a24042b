"""The soft punishment of long completions counts before a group is judged for signal."""

import numpy as np
import pytest

from olmrl.rewards.overlong import overlong_penalty, shape
from olmrl.types import Completion, PromptGroup, RewardResult, Rollout


@pytest.mark.parametrize(
    ("length", "penalty"), [(10, 0.0), (80, 0.0), (90, -0.5), (99, -0.95), (100, -1.0), (120, -1.0)]
)
def test_overlong_penalty_falls_linearly_over_the_buffer(length, penalty):
    assert overlong_penalty(length, 100, 20) == pytest.approx(penalty)


def test_without_buffer_only_the_limit_is_punished():
    assert overlong_penalty(99, 100, 0) == 0.0
    assert overlong_penalty(100, 100, 0) == -1.0


def test_rollouts_that_differ_in_length_alone_differ_in_total():
    rollouts = tuple(
        Rollout(
            Completion(
                "g", k, np.zeros(n, np.int32), np.zeros(n, np.float32), (), "stop", "",
                np.zeros(3, np.int32),
            ),
            {"bench": RewardResult(1.0)},
            1.0,
        )
        for k, n in enumerate((50, 90, 100))
    )  # fmt: skip
    group = PromptGroup("g", "p", rollouts)
    assert np.ptp(group.totals) == 0
    shaped = shape(group, 100, 20)
    assert shaped.totals.tolist() == [1.0, 0.5, 0.0]
    assert [r.rewards["overlong"].value for r in shaped.rollouts] == [0.0, -0.5, -1.0]
    assert [r.rewards["bench"].value for r in shaped.rollouts] == [1.0] * 3


def test_a_completion_cut_by_the_models_length_pays_as_one_cut_by_the_limit():
    def rollout(k, length, finish_reason):
        tokens = np.zeros(length, np.int32)
        logprobs = np.zeros(length, np.float32)
        prompt = np.zeros(3, np.int32)
        made = Completion("g", k, tokens, logprobs, (), finish_reason, "", prompt)
        return Rollout(made, {"bench": RewardResult(1.0)}, 1.0)

    group = PromptGroup("g", "p", (rollout(0, 40, "length"), rollout(1, 40, "stop")))
    for buffer in (0, 20):
        assert shape(group, 100, buffer).totals.tolist() == [0.0, 1.0]
