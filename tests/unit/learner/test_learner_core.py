"""Whole training steps: ranks, accumulation, passes over a batch, and the guard against NaN."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_tiny import BANNED, make_group, make_model, pack

from olmrl.config.schema import (
    AlgorithmConfig,
    FreezeConfig,
    LearnerConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
)
from olmrl.learner.core import GrpoLearner, SftLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import prepare_policy
from olmrl.learner.optim import NonFiniteStep
from olmrl.learner.packed import Policy, prepare_inputs
from olmrl.learner.replay import load_batches, replay_path
from olmrl.learner.strategy import FrozenModel
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.metrics import flatten, merge

HEAD = HeadSpec(0.8, BANNED, chunk=8)


def _strategy(lr=1e-3, reference=False, optimizer="adamw", **model_keys):
    config = ModelConfig(path="tiny", dtype="float32", **model_keys)
    learner = LearnerConfig(
        use_gpu=False,
        optimizer=OptimizerConfig(name=optimizer, lr=lr, schedule="constant", weight_decay=0.1),
    )
    model = prepare_policy(make_model(), config, activation_checkpointing=True)
    other = FrozenModel(lambda: prepare_policy(make_model(), config)) if reference else None
    return FsdpStrategy(model, config, learner, HEAD, total_steps=20, reference=other)


def _batches(cut):
    """Micro-batches of groups, with log-probs as an engine with the first weights gives them."""
    shapes = [((4, 6), [5, 3, 0, 8]), ((8, 4), [4, 6]), ((4, 4), [2, 7, 3]), ((4, 4), [1, 5])]
    groups = [make_group(i, grid, lengths) for i, (grid, lengths) in enumerate(shapes)]
    model = make_model()
    batches = [pack(model, [groups[i] for i in part]) for part in cut]
    policy = Policy(prepare_policy(model, ModelConfig(path="tiny", dtype="float32")), "sdpa", HEAD)
    found = []
    for batch in batches:
        with torch.no_grad():
            out = policy(prepare_inputs(batch, model.config, "sdpa", "cpu"))
        found.append(replace(batch, behaviour_logprobs=out.logprobs_N.numpy() + 0.01))
    return found


def _train(cut, algorithm, optimizer="adamw"):
    """Weights and measurements after three steps; each rank takes its share of micro-batches."""
    strategy = _strategy(optimizer=optimizer)
    batches = _batches(cut)[strategy.rank :: strategy.world_size]
    learner = GrpoLearner(strategy, AlgorithmConfig(**algorithm), max_tokens=9)
    rows = [learner.step(batches) for _ in range(3)]
    return _weights(strategy), rows


def _weights(strategy):
    return {n: w.numpy().copy() for n, w in strategy.named_weights()}


def _gap(a, b):
    return max(np.abs(a[n] - b[n]).max() for n in a)


SHOWN = ("loss/policy", "policy/entropy", "policy/clip_fraction", "mismatch/logprob_mean_abs")


@pytest.mark.parametrize(
    "algorithm",
    [{"loss": "bnpo"}, {"loss": "grpo", "epochs_per_batch": 2, "importance_level": "sequence"}],
    ids=["one pass", "two epochs"],
)
def test_one_worker_two_workers_and_accumulation_learn_the_same(algorithm, ranks):
    whole, rows = _train([[0, 1, 2, 3]], algorithm)
    assert _gap(whole, _weights(_strategy())) > 1e-3
    pieces, piece_rows = _train([[0], [1], [2], [3]], algorithm)
    assert _gap(whole, pieces) < 2e-4
    # three micro-batches: rank 0 has two of them, rank 1 one and a blank
    (first, first_rows), (second, second_rows) = ranks(_train, [[0], [1, 2], [3]], algorithm)
    assert _gap(first, second) == 0
    assert _gap(whole, first) < 2e-4
    for step in range(3):
        expected = flatten(rows[step])
        merged = flatten(merge(first_rows[step], second_rows[step]))
        for found in (flatten(piece_rows[step]), merged):
            for name in SHOWN:
                assert found[name] == pytest.approx(expected[name], rel=2e-2, abs=1e-5), name
        assert merged["tokens/trained"] == 44
        assert merged["tokens/patches"] == 24 + 32 + 16 + 16


def test_muon_learns_the_same_on_two_ranks(ranks):
    alone, _ = _train([[0, 1], [2, 3]], {"loss": "bnpo"}, "muon")
    (first, _), (second, _) = ranks(_train, [[0, 1], [2, 3]], {"loss": "bnpo"}, "muon")
    assert _gap(first, second) == 0
    # its bfloat16 iteration amplifies rounding: compare the whole updates, not single numbers
    start = _weights(_strategy())
    for name in alone:
        moved, other = alone[name] - start[name], first[name] - start[name]
        assert np.linalg.norm(moved - other) < 0.1 * np.linalg.norm(moved) + 1e-5, name


def test_positive_advantages_become_more_probable():
    strategy = _strategy(lr=3e-3)
    (batch,) = _batches([[0]])
    before = strategy.logprobs(batch)
    learner = GrpoLearner(strategy, AlgorithmConfig(loss="bnpo"), max_tokens=9)
    for _ in range(4):
        learner.step([batch])
    gain = strategy.logprobs(batch) - before
    assert (gain * batch.advantages).sum() > 0.5


def test_the_kl_term_holds_the_policy_near_its_reference():
    gaps = []
    for beta in (0.0, 5.0):
        strategy = _strategy(lr=3e-3, reference=True)
        (batch,) = _batches([[0, 1]])
        start = strategy.logprobs(batch)
        np.testing.assert_allclose(strategy.reference_logprobs(batch), start, atol=1e-6)
        learner = GrpoLearner(strategy, AlgorithmConfig(kl_beta=beta), max_tokens=9)
        for _ in range(5):
            measured = learner.step([batch])
        gaps.append(np.abs(strategy.logprobs(batch) - start).mean())
        # the reference itself never moves
        np.testing.assert_allclose(strategy.reference_logprobs(batch), start, atol=1e-6)
    assert measured["loss/kl"].value() > 0
    assert gaps[1] < 0.7 * gaps[0]


def test_adapters_take_themselves_away_as_the_reference():
    strategy = _strategy(lr=1e-2, lora=LoraConfig(rank=2, dropout=0.0))
    (batch,) = _batches([[0, 1]])
    start = strategy.reference_logprobs(batch)
    learner = GrpoLearner(strategy, AlgorithmConfig(kl_beta=0.01), max_tokens=9)
    for _ in range(3):
        learner.step([batch])
    np.testing.assert_allclose(strategy.reference_logprobs(batch), start, atol=1e-6)
    assert np.abs(strategy.logprobs(batch) - start).max() > 1e-3


def test_kl_without_reference_is_an_error():
    learner = GrpoLearner(_strategy(), AlgorithmConfig(kl_beta=0.1), max_tokens=9)
    with pytest.raises(ValueError, match="kl_beta"):
        learner.step(_batches([[0]]))


def test_a_frozen_tower_sees_each_page_once_over_all_epochs():
    results = []
    for keep in (True, False):
        strategy = _strategy(freeze=FreezeConfig(vision=True, projector=True))
        strategy._runner._keep = keep
        passes = []
        tower = strategy.policy.model.model.visual
        tower.register_forward_hook(lambda *_: passes.append(1))  # noqa: B023
        learner = GrpoLearner(strategy, AlgorithmConfig(epochs_per_batch=3), max_tokens=9)
        learner.step(_batches([[0], [1]]))
        results.append((len(passes), _weights(strategy)))
    assert (results[0][0], results[1][0]) == (2, 8)  # old log-probs and three epochs, two batches
    assert _gap(results[0][1], results[1][1]) == 0


def test_nan_stops_the_step_before_the_weights_and_saves_the_batch(tmp_path):
    strategy = _strategy()
    good, bad = _batches([[0], [1]])
    bad = replace(bad, advantages=np.full_like(bad.advantages, np.nan))
    before = _weights(strategy)
    learner = GrpoLearner(strategy, AlgorithmConfig(), max_tokens=9, replay_dir=str(tmp_path))
    with pytest.raises(NonFiniteStep, match=r"step 7: loss/policy is not finite.*step-7-rank-0"):
        learner.step([good, bad], step=7)
    assert _gap(before, _weights(strategy)) == 0
    saved = load_batches(replay_path(str(tmp_path), 7, 0))
    assert len(saved) == 2 and saved[1].page_ids == bad.page_ids
    for name in ("token_ids", "patches", "advantages", "behaviour_logprobs", "position_ids"):
        np.testing.assert_array_equal(getattr(saved[1], name), getattr(bad, name))
    assert saved[1].old_logprobs is None
    learner.step([good], step=8)  # and goes on
    assert 0 < _gap(before, _weights(strategy)) < 0.1


def _poisoned(folder):
    strategy = _strategy()
    batch = _batches([[0], [1]])[strategy.rank]
    if strategy.rank == 1:
        batch = replace(batch, advantages=np.full_like(batch.advantages, np.inf))
    learner = SftLearner(strategy) if folder is None else None
    learner = learner or GrpoLearner(strategy, AlgorithmConfig(), max_tokens=9, replay_dir=folder)
    try:
        learner.step([batch], step=1)
    except NonFiniteStep as error:
        return str(error)
    return "no error"


def test_nan_on_one_rank_stops_all_ranks(tmp_path, ranks):
    messages = ranks(_poisoned, str(tmp_path))
    assert "a loss on another rank is not finite" in messages[0]
    assert "loss/policy is not finite" in messages[1]
    assert len(list(tmp_path.iterdir())) == 2


def test_infinite_gradients_stop_the_step(tmp_path):
    strategy = _strategy()
    (batch,) = _batches([[0]])
    before = _weights(strategy)
    norm = strategy.policy.model.model.language_model.norm.weight
    norm.register_hook(lambda grad: grad * torch.inf)
    learner = GrpoLearner(strategy, AlgorithmConfig(), max_tokens=9, replay_dir=str(tmp_path))
    with pytest.raises(NonFiniteStep, match="the gradient norm is"):
        learner.step([batch])
    assert _gap(before, _weights(strategy)) == 0
    assert len(list(tmp_path.iterdir())) == 1


def test_an_update_that_breaks_the_weights_is_neither_sent_nor_taken_for_unchanged(tmp_path):
    strategy = _strategy()
    batches = _batches([[0], [1]])
    norm = strategy.policy.model.model.language_model.norm.weight
    (adamw,) = strategy.optim.optimizers
    learner = GrpoLearner(strategy, AlgorithmConfig(), max_tokens=9, replay_dir=str(tmp_path))
    learner.step(batches, step=1)
    hook = adamw.register_step_post_hook(lambda *_: norm.data.fill_(torch.nan))
    with pytest.raises(NonFiniteStep, match=r"step 2: the update made weights NaN .*neither sent"):
        learner.step(batches, step=2)
    hook.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["step-2-rank-0.npz"]
    norm.data.fill_(1.0)
    bad = [replace(b, advantages=np.full_like(b.advantages, np.nan)) for b in batches]
    with pytest.raises(NonFiniteStep) as caught:
        learner.step(bad, step=3)
    assert not caught.value.weights_changed


def test_a_step_of_masked_completions_only_is_counted_and_changes_nothing():
    strategy = _strategy()
    (batch,) = _batches([[0]])
    before = _weights(strategy)
    learner = GrpoLearner(strategy, AlgorithmConfig(), max_tokens=9)
    measured = learner.step([replace(batch, weights=np.zeros_like(batch.weights))])
    assert measured["policy/empty_steps"].value() == 1
    assert _gap(before, _weights(strategy)) == 0


def _train_sft(cut):
    """As `_train`, on pages whose transcriptions differ much in length."""
    lengths = [2, 31, 7, 1]
    model = make_model()
    pages = [make_group(i, (4, 4 + 2 * i), [n]) for i, n in enumerate(lengths)]
    batches = [pack(model, [pages[i] for i in part], page_once=False) for part in cut]
    strategy = _strategy()
    learner = SftLearner(strategy)
    share = batches[strategy.rank :: strategy.world_size]
    return _weights(strategy), [learner.step(share) for _ in range(3)], _weights(strategy)


def test_sft_on_one_worker_two_workers_and_by_accumulation_learns_the_same(ranks):
    start, rows, whole = _train_sft([[0, 1, 2, 3]])
    assert _gap(whole, start) > 1e-3
    _, piece_rows, pieces = _train_sft([[0], [1], [2], [3]])
    assert _gap(whole, pieces) < 2e-4
    # 33 tokens on rank 0, 8 on rank 1; then 2 + 1 on rank 0, 38 on rank 1 in one forward pass
    for cut in ([[0, 1], [2, 3]], [[0], [1, 2], [3]]):
        (_, first_rows, first), (_, second_rows, second) = ranks(_train_sft, cut)
        assert _gap(first, second) == 0
        assert _gap(whole, first) < 2e-4
        for step in range(3):
            expected = flatten(rows[step])
            merged = flatten(merge(first_rows[step], second_rows[step]))
            for found in (flatten(piece_rows[step]), merged):
                assert found["loss/sft"] == pytest.approx(expected["loss/sft"], rel=1e-4)
                assert found["tokens/trained"] == 41
            norm = flatten(first_rows[step])["policy/grad_norm"]
            assert norm == pytest.approx(expected["policy/grad_norm"], rel=1e-3)


def _evaluate(cut):
    strategy = _strategy()
    batches = _batches(cut)[strategy.rank :: strategy.world_size]
    return SftLearner(strategy).evaluate(batches)


def test_evaluation_loss_is_the_mean_over_all_tokens(ranks):
    alone = _evaluate([[0, 1, 2]])
    whole = _batches([[0, 1, 2]])[0]
    assert alone.weight == len(whole.targets)
    assert alone.value() == pytest.approx(-(whole.behaviour_logprobs - 0.01).mean(), rel=1e-5)
    parts = ranks(_evaluate, [[0], [1], [2]])
    assert parts[0].merge(parts[1]).value() == pytest.approx(alone.value(), rel=1e-5)


def test_a_saved_step_that_is_no_step_is_refused(tmp_path):
    path = tmp_path / "step-1-rank-0.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"step-1-rank-0\.npz: not a saved step"):
        load_batches(str(path))
    with pytest.raises(ValueError, match=r"missing\.npz"):
        load_batches(str(tmp_path / "missing.npz"))
