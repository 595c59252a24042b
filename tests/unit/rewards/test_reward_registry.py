"""Building rewards from a configuration, and the messages a user gets for mistakes."""

import math

import pytest
from reward_pages import group, page

from olmrl.config.schema import RewardConfig
from olmrl.rewards.registry import build, build_all
from olmrl.rewards.reward import UnscorablePage
from olmrl.rewards.scoring import failure, score_rollouts


def built(name, weight=1.0, **options):
    return build(RewardConfig(name=name, weight=weight, options=options))


def test_options_go_to_the_constructor():
    assert built("bench", average="macro").reward.average == "macro"
    assert built("eos", end_id=5).reward.end_id == 5


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("edit_distanse", {}, "did you mean 'edit_distance'"),
        ("zzz", {}, "package.module:callable"),
        ("bench", {"avarage": "macro"}, "did you mean 'average'"),
        ("bench", {"average": "median"}, "'median'"),
        ("medoid", {"scale": 1}, "no options"),
        ("no_such_module:f", {}, "cannot import 'no_such_module'"),
        ("own_rewards:nothing", {}, "own_rewards has no 'nothing'"),
        ("own_rewards:not_callable", {}, "not callable"),
        ("own_rewards:NotAReward", {}, "score_group"),
        ("own_rewards:Vowels", {"letters": ""}, "letters is empty"),
        ("own_rewards:length", {"scal": 2}, "did you mean 'scale'"),
    ],
)
def test_mistakes_are_explained(name, options, words):
    with pytest.raises(ValueError, match=name.partition(":")[0]) as error:
        built(name, **options)
    assert words in str(error.value)


def test_weight_must_be_finite():
    with pytest.raises(ValueError, match="weight"):
        built("eos", weight=math.inf)


def test_users_function_and_class():
    rewards = build_all(
        [
            RewardConfig(name="own_rewards:length", weight=0.5, options={"scale": 2}),
            RewardConfig(name="own_rewards:Vowels"),
            RewardConfig(name="own_rewards:rank", weight=10),
        ]
    )
    rollouts = score_rollouts(rewards, page(reference="x"), group("aei", "bc"))
    assert [r.total for r in rollouts] == [3 + 3 + 10, 2 + 0 + 0]
    assert rollouts[0].rewards["own_rewards:Vowels"].parts == {"n": 3}


def test_a_reward_that_does_not_apply_is_left_out_of_the_whole_group():
    rewards = (built("own_rewards:Vowels"), built("eos"))
    rollouts = score_rollouts(rewards, page(), group("a", "b"))
    assert [set(r.rewards) for r in rollouts] == [{"eos"}, {"eos"}]
    assert [r.total for r in rollouts] == [1.0, 1.0]


def test_a_page_to_which_no_reward_applies_is_refused():
    with pytest.raises(UnscorablePage, match=r"a\.pdf::1.*edit_distance: the page has no ref"):
        score_rollouts((built("edit_distance"),), page(), group("a"))


@pytest.mark.parametrize("text", ["raise", "nan", "short"])
def test_a_failing_reward_is_never_a_number(text, tmp_path):
    rewards = (built("own_rewards:moody", folder=str(tmp_path)), built("eos"))
    rollouts = score_rollouts(rewards, page(), group(text))
    assert math.isnan(rollouts[0].total)
    assert rollouts[0].rewards["own_rewards:moody"].failed
    assert not rollouts[0].rewards["eos"].failed
    assert failure(rollouts).startswith("completion 0: own_rewards:moody")


def test_identical_completions_are_scored_once(tmp_path):
    rewards = (built("own_rewards:counting", folder=str(tmp_path)),)
    rollouts = score_rollouts(rewards, page(), group("ab", "ab", "c", "ab"))
    assert [r.total for r in rollouts] == [2.0, 2.0, 1.0, 2.0]
    assert len(list(tmp_path.iterdir())) == 2
