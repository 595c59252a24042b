"""The parity guard: equal log-probs pass, others end the run, and nothing compared is no pass."""

import math

import numpy as np
import pytest
from learner_tiny import BANNED, IMAGE, make_group, make_model

from olmrl.config.schema import CorrectionConfig, GuardConfig, LearnerConfig, ModelConfig
from olmrl.data.pack import GroupItem, ScoredCompletion, pack_groups
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import prepare_policy
from olmrl.learner.parity import ParityError, ParityGuard, fresh_tokens, spread_bound
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.mrope import VisionTokens
from olmrl.types import Completion, EncodedPage, PolicyVersion, PromptGroup, Rollout, VersionSpan

OLD, NOW = PolicyVersion(1, 3), PolicyVersion(1, 4)
LENGTHS = [5, 8]


def pack(items):
    return pack_groups(items, 4096, True, VisionTokens(IMAGE, 2))


class Scene:
    """A policy, one page, two completions of it, and an engine that computes the truth."""

    def __init__(self, version=NOW, error=0.0, answers=True, spread=math.inf, pages=1, **guards):
        config = ModelConfig(path="tiny", dtype="float32")
        self.strategy = FsdpStrategy(
            prepare_policy(make_model(), config),
            config,
            LearnerConfig(use_gpu=False),
            HeadSpec(1.0, BANNED, 8),
            total_steps=1,
        )
        page = make_group(1, (4, 8), LENGTHS)
        self.page = EncodedPage("p", page.prompt, page.patches, np.array([[1, 4, 8]]))
        self.tokens = [t.astype(np.int32) for t in page.completions]
        self.truth = [self.logprobs(t) for t in self.tokens]
        self.asked = 0
        sampled = [
            ScoredCompletion(t, p + np.float32(error), 0.5, np.ones(len(t), np.float32))
            for t, p in zip(self.tokens, self.truth, strict=True)
        ]
        self.items = [GroupItem(self.page, sampled)]
        rollouts = tuple(
            Rollout(completion(k, t, version), {}, 0.0) for k, t in enumerate(self.tokens)
        )
        self.groups = [PromptGroup("g", "p", rollouts)] * pages
        self.items *= pages
        self.answers = answers
        self.error = np.float32(error)
        self.guard = ParityGuard(
            self.strategy,
            GuardConfig(parity_every=10, parity_pages=max(2, pages), **guards),
            1e-3,
            pack=pack,
            decode=lambda ids: f"token {ids[0]}",
            score=self.score,
            keeps_kv=False,
            spread_bound=spread,
        )

    def logprobs(self, tokens):
        zeros = np.zeros(len(tokens), np.float32)
        (row,) = pack([GroupItem(self.page, [ScoredCompletion(tokens, zeros, 0.0, zeros + 1)])])
        return self.strategy.logprobs(row)

    def score(self, group, made):
        self.asked += 1
        return self.logprobs(made.token_ids) + self.error if self.answers else None

    def check(self):
        return self.guard.check(NOW, self.groups, self.items)


def completion(index, tokens, version):
    spans = (VersionSpan(version, 0, len(tokens)),)
    logprobs = np.zeros(len(tokens), np.float32)
    return Completion("g", index, tokens, logprobs, spans, "stop", "", np.arange(3, dtype=np.int32))


def test_equal_logprobs_pass_and_are_counted():
    scene = Scene()
    assert scene.guard.is_due(0)
    measured = scene.check()
    assert measured["parity/tokens"].value() == sum(LENGTHS)
    assert measured["parity/mean_gap"].value() < 1e-5 and not scene.asked
    assert not scene.guard.is_due(1) and scene.guard.is_due(10)


def test_a_gap_ends_the_run_with_its_figures_and_the_worst_tokens():
    with pytest.raises(ParityError, match=r"differ by 2\.00e-02 on average over 13 tokens .*token"):
        Scene(error=0.02).check()
    with pytest.raises(ParityError, match=r"100\.0% by more than 0\.01"):
        Scene(error=0.02, outlier_gap=0.01).check()


def test_small_gaps_that_add_up_over_a_completion_end_the_run():
    """5 and 8 tokens, each off by 0.0009: sums of 0.0045 and 0.0072, root mean square 0.0060."""
    expected = math.sqrt((0.0045**2 + 0.0072**2) / 2)
    measured = Scene(error=0.0009, spread=0.0061, pages=4).check()
    assert measured["parity/sequence_spread"].value() == pytest.approx(expected, rel=1e-2)
    with pytest.raises(ParityError, match=r"by 0\.006 .* 8 completions.*max_sequence_spread"):
        Scene(error=0.0009, spread=0.0059, pages=4).check()
    few = Scene(error=0.0009, spread=0.0059, pages=3).check()
    assert few["parity/sequence_spread"].value() == pytest.approx(expected, rel=1e-2)


def test_whole_completions_are_bounded_where_they_are_weighed_as_a_whole():
    assert spread_bound(GuardConfig(), CorrectionConfig()) == 2.0
    assert spread_bound(GuardConfig(), CorrectionConfig(level="token")) == math.inf
    assert spread_bound(GuardConfig(max_sequence_spread=0.5), CorrectionConfig(level="none")) == 0.5


@pytest.mark.parametrize("error", [0.0, 0.02])
def test_where_rollouts_run_ahead_an_engine_scores_again(error):
    scene = Scene(version=OLD, error=error)
    if error:
        with pytest.raises(ParityError, match="over 5 tokens"):
            scene.check()
        return
    assert scene.guard.is_due(0)
    assert scene.check()["parity/tokens"].value() == LENGTHS[0] and scene.asked == 1
    assert not scene.guard.is_due(1)


def test_nothing_compared_stays_due_and_at_the_next_turn_ends_the_run():
    scene = Scene(version=OLD, answers=False)
    for step in range(10):
        assert scene.guard.is_due(step)
        assert scene.check() == {}
    with pytest.raises(ParityError, match="since step 0"):
        scene.guard.is_due(10)


def test_tokens_over_kept_caches_of_old_weights_are_not_fresh():
    tokens = np.arange(6, dtype=np.int32)
    made = completion(0, tokens, NOW)
    assert fresh_tokens(made, NOW, keeps_kv=True).tolist() == [1.0] * 6
    crossed = (VersionSpan(OLD, 0, 2), VersionSpan(NOW, 2, 6))
    mixed = Completion("g", 0, tokens, made.logprobs, crossed, "stop", "", made.prompt_token_ids)
    assert fresh_tokens(mixed, NOW, keeps_kv=False).tolist() == [0, 0, 1, 1, 1, 1]
    assert not fresh_tokens(mixed, NOW, keeps_kv=True).any()
