"""Weights of unit-test categories that change with the step."""

import dataclasses

import pytest
from reward_pages import group, page, test_row

from olmrl.config import ConfigError, GrpoConfig, dump, load
from olmrl.config.schema import RewardConfig
from olmrl.rewards.curriculum import Curriculum
from olmrl.rewards.registry import build, build_all
from olmrl.rewards.scoring import combine, score_completions
from olmrl.types import TestVerdict

TESTS = [
    test_row("present", "p1", text="alpha"),
    test_row("present", "p2", text="beta"),
    test_row("present", "p3", text="gamma"),
    test_row("order", "o1", before="alpha", after="beta"),
]
FILES = ["easy.jsonl", "easy.jsonl", "hard.jsonl", "hard.jsonl"]


def totals(curriculum, text, steps, **options):
    """Total of one completion at each step."""
    rewards = (build(RewardConfig(name="bench", options=options, curriculum=curriculum)),)
    the_page, completions = page(tests=TESTS, files=FILES), group(text)
    (results,) = score_completions(rewards, the_page, completions)
    assert (
        results["bench"].value
        == score_completions(
            (build(RewardConfig(name="bench", options=options)),), the_page, completions
        )[0]["bench"].value
    ), "the reward itself stays the plain pass rate"
    return [combine(rewards, completions[0], results, step).total for step in steps]


def test_weights_are_linear_between_steps_and_constant_beyond():
    curriculum = Curriculum({"type/table": {30: 0.5, 10: 0.0}, "file/old.jsonl": {0: 2.0}})
    found = [curriculum.weights(step)["type/table"] for step in (0, 10, 15, 20, 30, 999)]
    assert found == [0.0, 0.0, 0.125, 0.25, 0.5, 0.5]
    assert curriculum.weights(999)["file/old.jsonl"] == 2.0


def test_a_type_fades_in():
    # "alpha gamma" passes p1 and p3 of four tests; o1 counts 0, 1/2 and 1.
    found = totals({"type/order": {0: 0, 10: 1}}, "alpha gamma", (0, 5, 10))
    assert found == pytest.approx([2 / 3, 2 / 3.5, 2 / 4])


def test_type_and_file_of_a_test_multiply():
    # p1, p2: 1 each; p3: 3; o1: 3 x 2.
    curriculum = {"type/order": {0: 2}, "file/hard.jsonl": {0: 3}}
    assert totals(curriculum, "alpha beta", (0,)) == pytest.approx([(1 + 1 + 6) / (1 + 1 + 3 + 6)])


def test_macro_weighs_types_after_averaging_each():
    # present passes 2 of 3, order 0 of 1; order counts a half.
    found = totals({"type/order": {0: 0.5}}, "alpha gamma", (0,), average="macro")
    assert found == pytest.approx([(2 / 3) / 1.5])
    assert totals({"type/order": {0: 1}}, "alpha gamma", (0,), average="macro") == pytest.approx(
        [(2 / 3 + 0) / 2]
    )


def test_a_page_whose_tests_all_weigh_nothing_adds_nothing():
    assert totals({"type/present": {0: 0}, "type/order": {0: 0}}, "alpha", (0,)) == [0.0]


def test_other_rewards_and_the_rewards_weight_are_untouched():
    rewards = build_all(
        [
            RewardConfig(name="bench", weight=2.0, curriculum={"type/order": {0: 0}}),
            RewardConfig(name="eos", weight=0.5),
        ]
    )
    completions = group("alpha beta gamma")
    (results,) = score_completions(rewards, page(tests=TESTS, files=FILES), completions)
    assert combine(rewards, completions[0], results, 3).total == pytest.approx(2.0 + 0.5)


def test_a_failed_reward_stays_failed():
    reward = build(RewardConfig(name="bench", curriculum={"type/order": {0: 0}}))
    (results,) = score_completions((reward,), page(tests=TESTS), group("alpha"))
    broken = dataclasses.replace(results["bench"], value=float("nan"), failed=True)
    assert reward.share(broken, 0) != reward.share(broken, 0)


def test_only_named_tests_change():
    verdicts = [TestVerdict("a", "math", "m.jsonl", True), TestVerdict("b", "table", "t", False)]
    assert Curriculum({"type/footnote": {0: 0}}).value(verdicts, 0) == 0.5


@pytest.mark.parametrize(
    ("name", "curriculum", "words"),
    [
        ("bench", {"type/tabel": {0: 1}}, "did you mean 'table'"),
        ("bench", {"type/zzz": {0: 1}}, "allowed: "),
        ("bench", {"table": {0: 1}}, "use type/TYPE or file/NAME.jsonl"),
        ("bench", {"file/": {0: 1}}, "not a category"),
        ("eos", {"type/table": {0: 1}}, "only possible for bench"),
    ],
)
def test_wrong_categories_are_explained(name, curriculum, words):
    with pytest.raises(ValueError, match=f"reward {name}") as error:
        build(RewardConfig(name=name, curriculum=curriculum))
    assert words in str(error.value)


def test_a_file_without_tests_is_refused():
    curriculum = Curriculum({"type/table": {0: 1}, "file/oldscans.jsonl": {0: 1}})
    with pytest.raises(ValueError, match=r"'oldscans.jsonl'; it has a.jsonl, b.jsonl"):
        curriculum.check_files(["b.jsonl", "a.jsonl", "b.jsonl"])
    curriculum.check_files(["oldscans.jsonl"])


@pytest.mark.parametrize(
    ("schedule", "where"),
    [("{-1: 1}", "-1"), ("{0: -1}", "type/table"), ("{0: .inf}", "type/table"), ("{}", "table")],
)
def test_wrong_schedules_name_the_key(schedule, where):
    override = f"rewards=[{{name: bench, curriculum: {{type/table: {schedule}}}}}]"
    with pytest.raises(ConfigError, match="rewards") as error:
        load(GrpoConfig, None, ["model.path=m", "data.train=d", override])
    assert where in str(error.value)


def test_a_curriculum_survives_the_saved_configuration(tmp_path):
    override = "rewards=[{name: bench, curriculum: {type/table: {0: 0, 100: 1.5}}}]"
    config = load(GrpoConfig, None, ["model.path=m", "data.train=d", override])
    (tmp_path / "config.yaml").write_text(dump(config), "utf-8")
    assert load(GrpoConfig, tmp_path / "config.yaml").rewards == config.rewards
