"""Minibatches are cut by groups: neither ranks nor token budget change what is learnt."""

from dataclasses import replace

import numpy as np
import pytest
from learner_tiny import BANNED, IMAGE, make_group, make_model

from olmrl.config.load import ConfigError, validate
from olmrl.config.schema import (
    AlgorithmConfig,
    CorrectionConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
    TeacherConfig,
)
from olmrl.data.pack import GroupItem, ScoredCompletion, pack_rows
from olmrl.learner.core import GrpoLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.minibatches import GroupMinibatches, Minibatches, cut_groups
from olmrl.learner.model import prepare_policy
from olmrl.learner.replay import load_step, replay_path, save_batches
from olmrl.learner.strategy import FrozenModel
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.mrope import VisionTokens
from olmrl.types import EncodedPage

LENGTHS = [[5, 3, 0, 8], [4, 6], [2, 7, 3], [1, 5], [9, 9]]
GROUPS = len(LENGTHS)


def items():
    made = []
    for index, lengths in enumerate(LENGTHS):
        group = make_group(index, (4, 4), lengths)
        page = EncodedPage(f"p{index}", group.prompt, group.patches, np.array([[1, 4, 4]]))
        made.append(
            GroupItem(
                page,
                [
                    ScoredCompletion(
                        t.astype(np.int32), np.full(len(t), -3.0, np.float32), a,
                        np.ones(len(t), np.float32),
                    )
                    for t, a in zip(group.completions, group.advantages, strict=True)
                ],
            )
        )  # fmt: skip
    return made


def share(places, budget, minibatches, step=0):
    whole = items()

    def pack(chosen):
        return pack_rows(chosen, budget, True, VisionTokens(IMAGE, 2))

    def cut(epoch):
        return cut_groups(GROUPS, minibatches, seed=3, step=step, epoch=epoch)

    return GroupMinibatches([whole[p] for p in places], places, cut, pack)


def strategy(teacher=False):
    config = ModelConfig(path="tiny", dtype="float32")
    optimizer = OptimizerConfig(lr=1e-3, schedule="constant")
    learner = LearnerConfig(use_gpu=False, optimizer=optimizer)
    head = HeadSpec(0.8, BANNED, chunk=8)
    frozen = FrozenModel(lambda: prepare_policy(make_model(seed=5, hidden=96), config))
    return FsdpStrategy(
        prepare_policy(make_model(), config),
        config,
        learner,
        head,
        total_steps=20,
        teacher=frozen if teacher else None,
    )


def train(budget, **algorithm):
    """Weights after two steps; with two ranks, rank 0 has groups 0 and 3, rank 1 the others."""
    policy = strategy("teacher" in algorithm)
    # the log-probs of the engine are made up, and would be masked
    settings = AlgorithmConfig(**algorithm, correction=CorrectionConfig(level="none"))
    learner = GrpoLearner(policy, settings, max_tokens=9)
    places = [[0, 3], [1, 2, 4]][policy.rank] if policy.world_size > 1 else list(range(GROUPS))
    for step in range(2):
        learner.step(share(places, budget, algorithm.get("minibatches", 1), step), step)
    return {n: w.numpy().copy() for n, w in policy.named_weights()}


def gap(a, b):
    return max(np.abs(a[n] - b[n]).max() for n in a)


@pytest.mark.parametrize(
    "algorithm",
    [
        {"loss": "bnpo", "minibatches": 2, "epochs_per_batch": 2},
        {"loss": "grpo", "minibatches": 5, "importance_level": "sequence"},
        {
            "loss": "bnpo",
            "minibatches": 2,
            "epochs_per_batch": 2,
            "teacher": TeacherConfig(path="t", alone=True),
        },
    ],
)
def test_token_budget_and_ranks_change_nothing(algorithm, ranks):
    wide = train(4096, **algorithm)
    assert gap(wide, train(4096, loss=algorithm["loss"])) > 1e-4, "minibatches do something"
    assert gap(wide, train(30, **algorithm)) < 2e-4
    first, second = ranks(_train, 60, algorithm)
    assert gap(first, second) == 0
    assert gap(wide, first) < 2e-4


def _train(budget, algorithm):
    return train(budget, **algorithm)


@pytest.mark.parametrize(("groups", "minibatches"), [(7, 3), (12, 4), (5, 5), (2, 4), (9, 1)])
def test_every_group_is_in_one_minibatch_of_each_pass(groups, minibatches):
    passes = [cut_groups(groups, minibatches, seed=1, step=0, epoch=e) for e in range(6)]
    for parts in passes:
        assert sorted(p for part in parts for p in part) == list(range(groups))
        sizes = [len(part) for part in parts]
        assert len(sizes) == min(groups, minibatches) and max(sizes) - min(sizes) <= 1
    distinct = {str(parts) for parts in passes}
    assert len(distinct) == 1 if minibatches == 1 else len(distinct) > 1
    again = cut_groups(groups, minibatches, seed=1, step=0, epoch=5)
    assert again == passes[5]


def test_seed_and_step_give_other_minibatches():
    def cut(seed, step):
        return str(cut_groups(20, 4, seed=seed, step=step, epoch=0))

    assert len({cut(1, 0), cut(2, 0), cut(1, 1), cut(7, 0)}) == 4


def test_completions_of_a_group_stay_together_however_small_the_budget():
    for part in share(range(GROUPS), 30, 2).rows(1):
        pages = {page for row in part for page in row.page_ids}
        trained = sum(int(row.weights.sum()) for row in part)
        assert trained == sum(sum(LENGTHS[int(page[1:])]) for page in pages)


@pytest.mark.parametrize("budget", [30, 4096])
def test_a_column_found_in_the_first_pass_follows_its_tokens_into_the_next(budget):
    work = share(range(GROUPS), budget, 2)
    # a number that names the token, so that a wrong place shows
    work.add_column("old_logprobs", [[_names(row) for row in part] for part in work.rows(0)])
    work.add_column("reference_logprobs", [[-_names(row) for row in p] for p in work.rows(0)])
    assert str([r.page_ids for r in work.rows(0)[0]]) != str([r.page_ids for r in work.rows(1)[0]])
    for epoch in (0, 1):
        for row in (row for part in work.rows(epoch) for row in part):
            np.testing.assert_array_equal(row.old_logprobs, _names(row))
            np.testing.assert_array_equal(row.reference_logprobs, -_names(row))


def _names(row):
    return (row.targets * 100 + row.advantages * 7).astype(np.float32)


def test_every_token_weighs_alike_in_whichever_minibatch():
    policy = strategy()
    learner = GrpoLearner(policy, AlgorithmConfig(loss="bnpo", minibatches=2), max_tokens=9)
    make, sizes = learner._loss, []
    learner._loss = lambda counts: sizes.append(counts) or make(counts)
    learner.step(share(range(GROUPS), 4096, 2))
    assert [size.tokens for size in sizes] == [31.0, 31.0]  # 62 tokens in two minibatches
    assert [size.sequences for size in sizes] == [6.0, 6.0]  # 12 that are not empty


def test_a_last_batch_of_fewer_groups_makes_an_update_for_each():
    policy = strategy()
    learner = GrpoLearner(policy, AlgorithmConfig(minibatches=4, pages_per_step=4), max_tokens=9)

    def pack(chosen):
        return pack_rows(chosen, 4096, True, VisionTokens(IMAGE, 2))

    def cut(epoch):
        return cut_groups(2, 4, seed=0, step=0, epoch=epoch)

    learner.step(GroupMinibatches(items()[:2], [0, 1], cut, pack))
    assert policy.optim.steps == 2


def test_more_minibatches_than_groups_are_refused_with_both_keys():
    with pytest.raises(ConfigError, match=r"4 minibatches .* algorithm\.pages_per_step=3"):
        validate(AlgorithmConfig, {"minibatches": 4, "pages_per_step": 3}, "x")


def test_rows_that_do_not_know_their_groups_are_refused():
    learner = GrpoLearner(strategy(), AlgorithmConfig(minibatches=2), max_tokens=9)
    with pytest.raises(ValueError, match=r"algorithm\.minibatches: 2 minibatches are cut by"):
        learner.step(list(share(range(GROUPS), 4096, 1)))


def test_a_saved_step_keeps_its_minibatches_over_ranks(tmp_path):
    for rank, places in enumerate(([0, 3], [1, 2, 4])):
        save_batches(replay_path(str(tmp_path), 7, rank), share(places, 60, 2))
    found, whole = load_step(str(tmp_path), 7), share(range(GROUPS), 60, 2)
    for mine, theirs in zip(found.rows(0), whole.rows(0), strict=True):
        assert {p for r in mine for p in r.page_ids} == {p for r in theirs for p in r.page_ids}
    learner = GrpoLearner(strategy(), AlgorithmConfig(minibatches=2), max_tokens=9)
    learner.step(found)


def test_a_step_saved_without_minibatches_is_one(tmp_path):
    rows = [replace(row) for row in share(range(GROUPS), 60, 1)]
    save_batches(replay_path(str(tmp_path), 1, 0), rows)
    found = load_step(str(tmp_path), 1)
    assert isinstance(found, Minibatches) and len(found.rows(0)) == 1 and len(found) == len(rows)
