"""What a user's reward may return, and one sentence for everything else."""

import math

import pytest
from reward_pages import group, page

from olmrl.config.schema import RewardConfig
from olmrl.rewards import build, build_all, failure, score_rollouts
from olmrl.rewards.scoring import lowest
from olmrl.types import RewardResult


def returned(what, count=1):
    entries = [RewardConfig(name="own_rewards:returns", options={"what": what})] * count
    return failure(score_rollouts(build_all(entries), page(), group("a", "b")))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a number", "returned 1.0, must return one number per completion"),
        ("nothing", "returned None, must return one number per completion"),
        ("words", "returned 'good' for a completion, must be a number"),
        ("too many", "returned 5 results for 2 completions"),
        ("infinity", "its value is inf, must be a finite number"),
        ("NaN", "its value is nan, must be a finite number"),
        ("huge", "the weighted sum of own_rewards:returns is 1e+308, too large"),
        ("a dictionary", "returned {0: 0.5, 1: 0.5}, must return one number per completion"),
        ("a set", ", must return one number per completion"),
        ("digits", "returned '10', must return one number per completion"),
        ("a word as value", "its value is good, must be a finite number"),
        ("NaN as part", "its x is nan, must be a finite number"),
        ("a vast integer", ", must be a finite number"),
    ],
)
def test_what_is_no_number_fails_in_one_sentence(what, words):
    problem = returned(what)
    assert problem.startswith("completion 0: ")
    assert words in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Results", {"what": "nothing"}, "returned None, must return one result per completion"),
        ("Results", {"what": "numbers"}, "returned 1.0 for a completion, must be a RewardResult"),
        ("ends", {"how": "exit"}, "SystemExit: 3"),
        ("ends", {"how": "lines"}, "ValueError: one two three"),
    ],
)
def test_whatever_a_reward_does_is_one_sentence(name, options, words):
    entries = [RewardConfig(name=f"own_rewards:{name}", options=options)]
    problem = failure(score_rollouts(build_all(entries), page(), group("a", "b")))
    assert problem == f"completion 0: own_rewards:{name}: {words}"


def test_two_rewards_that_sum_to_infinity_fail():
    entries = build_all(
        [
            RewardConfig(name="own_rewards:returns", weight=w, options={"what": "huge"})
            for w in (1.0, 1.0)
        ]
    )
    rollouts = score_rollouts(entries, page(), group("a"))
    assert "too large" in failure(rollouts)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_finite_number_is_refused(weight):
    with pytest.raises(ValueError, match=r"reward eos: weight \S+ is not a finite number"):
        build(RewardConfig.model_construct(name="eos", weight=weight, options={}, curriculum={}))


@pytest.mark.parametrize(
    ("weight", "values", "worst"),
    [
        (1.0, (0.5, 1.0), 0.0),
        (1.0, (-2.0, 1.0), -2.0),
        (-1.0, (0.5, 3.0), 3.0),
        (-1.0, (-1.0,), 0.0),
    ],
)
def test_the_lowest_result_never_adds_more_than_a_siblings(weight, values, worst):
    entries = build_all([RewardConfig(name="eos", weight=weight)])
    siblings = [{"eos": RewardResult(value)} for value in values]
    result = lowest(entries, siblings, "because")["eos"]
    assert (result.value, result.failed, result.error) == (worst, False, "because")
