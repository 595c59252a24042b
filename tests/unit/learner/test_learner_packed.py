"""The packed forward against transformers' own, one completion at a time, in float32."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from family_models import make_family_model, make_page
from learner_tiny import BANNED, IMAGE, dense_logprobs, make_group, make_model, pack

from olmrl.config.schema import AlgorithmConfig, LearnerConfig, ModelConfig
from olmrl.learner.core import SftLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.loss import StepCounts, grpo_loss, sft_loss
from olmrl.learner.model import prepare_policy
from olmrl.learner.packed import prepare_inputs
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.metrics import merge
from olmrl.models.registry import FAMILIES

TEMPERATURE = 0.8
SHAPES = {
    "one completion": [((4, 6), [5])],
    "unequal lengths": [((4, 6), [5, 1, 9, 3])],
    "empty completion": [((4, 4), [4, 0, 2])],
    "two groups": [((4, 6), [3, 5]), ((4, 6), [2, 6])],
    "two image sizes": [((4, 6), [5, 3, 8]), ((12, 8), [4, 2])],
}
ALGORITHM = AlgorithmConfig(
    loss="grpo",
    importance_level="sequence",
    kl_beta=0.1,
    entropy_bonus=0.05,
    correction={"level": "none"},
)


def _groups(shape):
    return [make_group(i, grid, lengths) for i, (grid, lengths) in enumerate(SHAPES[shape])]


def _batch(model, shape, page_once=True):
    """With old and reference log-probs near the policy's own, so that nothing is clipped away."""
    groups = _groups(shape)
    batch = pack(model, groups, page_once)
    with torch.no_grad():
        own = [dense_logprobs(model, g, c, TEMPERATURE)[0] for g in groups for c in g.completions]
    own = torch.cat(own).numpy()
    rng = np.random.default_rng(1)
    near = [(own + rng.normal(size=len(own)) * 0.02).astype(np.float32) for _ in range(2)]
    return replace(
        batch, old_logprobs=near[0], reference_logprobs=near[1], behaviour_logprobs=near[0]
    )


def _strategy(model, learner=None, total_steps=10, **model_keys):
    config = ModelConfig(path="tiny", dtype="float32", **model_keys)
    learner = learner or LearnerConfig(use_gpu=False)
    prepare_policy(model, config, activation_checkpointing=learner.activation_checkpointing)
    head = HeadSpec(TEMPERATURE, BANNED, chunk=3)
    return FsdpStrategy(model, config, learner, head, total_steps=total_steps)


def _dense(shape):
    """Loss and gradients from transformers' forward and the definition of the objective."""
    model = make_model()
    batch = _batch(model, shape)
    losses = []
    start = 0
    for group in _groups(shape):
        for tokens, advantage in zip(group.completions, group.advantages, strict=True):
            if not len(tokens):
                continue
            part = slice(start, start + len(tokens))
            start += len(tokens)
            logp, entropy = dense_logprobs(model, group, tokens, TEMPERATURE)
            old = torch.from_numpy(batch.old_logprobs[part])
            d = torch.from_numpy(batch.reference_logprobs[part]) - logp
            ratio = (logp - old).mean().exp()
            policy = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            kl = (d.exp() - d - 1).mean()
            losses.append(policy + 0.1 * kl - 0.05 * entropy.mean())
    loss = torch.stack(losses).mean()
    loss.backward()
    return loss.item(), {n: p.grad.numpy() for n, p in model.named_parameters()}


def _packed(shape, wrap="block", page_once=True):
    model = make_model()
    batch = _batch(model, shape, page_once)
    strategy = _strategy(model, LearnerConfig(use_gpu=False, wrap=wrap))
    counts = StepCounts(float(len(batch.targets)), float(len(set(batch.sequence_ids.tolist()))))
    # on two ranks each runs the same batch as half of the step
    counts = StepCounts(*(strategy.world_size * x for x in (counts.tokens, counts.sequences)))
    loss_fn = grpo_loss(ALGORITHM, counts, max_tokens=9, outlier_gap=1.0)
    found = {}

    def keep(logprobs, entropy, inputs):
        out = loss_fn(logprobs, entropy, inputs)
        found["loss"] = out.loss.item() * strategy.world_size
        return out

    strategy.forward_backward(batch, keep)
    grads = {
        n: (p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad).numpy()
        for n, p in strategy.policy.model.named_parameters()
    }
    return found["loss"], grads


def _same(found, expected):
    assert found[0] == pytest.approx(expected[0], abs=2e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        scale = np.abs(gradient).max()
        assert scale > 0, f"{name} is not trained, the test would show nothing"
        assert np.abs(found[1][name] - gradient).max() <= 2e-4 * scale + 1e-6, name


@pytest.mark.parametrize("shape", SHAPES)
def test_page_once_equals_dense_in_loss_and_every_gradient(shape):
    _same(_packed(shape), _dense(shape))


def test_the_dense_packing_is_the_same_computation():
    _same(_packed("two image sizes", page_once=False), _dense("two image sizes"))


@pytest.mark.parametrize("wrap", ["block", "root"])
def test_page_once_equals_dense_under_fsdp_on_two_ranks(wrap, ranks):
    for found in ranks(_packed, "two image sizes", wrap):
        _same(found, _dense("two image sizes"))


def _page_and_text(model_type):
    """Every gradient of two rows, shared out over the ranks; the second row has no image."""
    model = make_family_model(model_type)
    rows = [pack(model, [make_page(model_type, i, (4, 6), [5, 3])]) for i in range(2)]
    rows[1] = replace(
        rows[1],
        token_ids=np.where(rows[1].token_ids == IMAGE, 9, rows[1].token_ids),
        patches=rows[1].patches[:0],
        image_grid_thw=rows[1].image_grid_thw[:0],
    )
    strategy = _strategy(model)
    loss_fn = sft_loss(StepCounts(16.0, 4.0))
    losses = [
        strategy.forward_backward(row, loss_fn)["loss/sft"]
        for row in rows[strategy.rank :: strategy.world_size]
    ]
    grads = {
        n: (p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad).numpy()
        for n, p in strategy.policy.model.named_parameters()
    }
    return losses, grads


@pytest.mark.parametrize("model_type", FAMILIES)
def test_ranks_with_and_without_an_image_make_the_step_of_one_rank(model_type, ranks):
    (losses, expected) = _page_and_text(model_type)
    found = ranks(_page_and_text, model_type)
    parts = [part for own, _ in found for part in own]
    assert sum(p.value() for p in parts) == pytest.approx(sum(p.value() for p in losses), rel=1e-5)
    for _, gradients in found:
        _same((0.0, gradients), (0.0, expected))


def _sft_pages():
    """Pages as SFT sees them: every group one page and its transcription."""
    return [make_group(i, (4, 4 + 2 * i), [4 + 3 * i]) for i in range(3)]


def _sft_batches(model, packed):
    groups = _sft_pages()
    if packed:
        return [pack(model, groups, page_once=False)]
    return [pack(model, [g], page_once=False) for g in groups]


def _sft_gradients(packed):
    """Loss and every gradient of one step over the pages, before the optimizer."""
    model = make_model()
    batches = _sft_batches(model, packed)
    strategy = _strategy(model)
    counts = StepCounts(float(sum(len(batch.targets) for batch in batches)), 3.0)
    parts = [strategy.forward_backward(batch, sft_loss(counts)) for batch in batches]
    grads = {n: p.grad.numpy() for n, p in strategy.policy.model.named_parameters()}
    return merge(*parts)["loss/sft"].value(), grads


def _dense_sft():
    """The same from transformers' forward, one page at a time: the mean over all tokens."""
    model = make_model()
    pages = [(group, group.completions[0]) for group in _sft_pages()]
    logps = [dense_logprobs(model, group, tokens, TEMPERATURE)[0] for group, tokens in pages]
    loss = -torch.cat(logps).mean()
    loss.backward()
    return loss.item(), {n: p.grad.numpy() for n, p in model.named_parameters()}


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "one by one"])
def test_sft_equals_dense_pages_in_loss_and_every_gradient(packed):
    _same(_sft_gradients(packed), _dense_sft())


def test_the_sft_learner_steps_by_those_gradients():
    model = make_model()
    _, grads = _dense_sft()
    strategy = _strategy(model, LearnerConfig(use_gpu=False, optimizer={"lr": 1e-3}))
    measured = SftLearner(strategy).step(_sft_batches(model, packed=True))
    norm = np.sqrt(sum(np.square(gradient, dtype=np.float64).sum() for gradient in grads.values()))
    assert measured["policy/grad_norm"].value() == pytest.approx(norm, rel=1e-4)
    start = dict(make_model().named_parameters())
    for name, weight in strategy.named_weights():
        if name in start:
            assert np.abs(weight.numpy() - start[name].detach().numpy()).max() > 1e-4, name


def test_a_batch_without_images_runs_and_trains_the_language_model():
    model = make_model()
    ids = np.asarray([9, 10, 11, 12], np.int64)
    batch = replace(
        _sft_batches(model, packed=True)[0],
        token_ids=ids,
        position_ids=np.tile(np.arange(4), (3, 1)),
        segment_ids=np.zeros(4, np.int32),
        prefix_ids=np.full(4, -1, np.int32),
        predict_at=np.arange(3),
        targets=ids[1:],
        sequence_ids=np.zeros(3, np.int32),
        weights=np.ones(3, np.float32),
        patches=np.zeros((0, 588), np.uint8),
        image_grid_thw=np.zeros((0, 3), np.int64),
    )
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(ids)[None]).logits[0, :-1] / TEMPERATURE
        logits[:, list(BANNED)] = -torch.inf
        expected = logits.log_softmax(-1).gather(-1, torch.from_numpy(ids[1:, None]))[:, 0]
    strategy = _strategy(model)
    np.testing.assert_allclose(strategy.logprobs(batch), expected, atol=1e-4)
    strategy.forward_backward(batch, sft_loss(StepCounts(3.0, 1.0)))
    assert model.model.language_model.layers[0].mlp.up_proj.weight.grad.abs().max() > 0


def test_a_batch_of_empty_completions_changes_no_gradient():
    model = make_model()
    batch = pack(model, [make_group(0, (4, 4), [0, 0])])
    strategy = _strategy(model)
    strategy.forward_backward(batch, sft_loss(StepCounts(1.0, 1.0)))
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in model.parameters())


def test_image_tokens_and_features_must_agree():
    model = make_model()
    batch = pack(model, [make_group(0, (4, 4), [3])])
    wrong = replace(batch, image_grid_thw=np.asarray([[1, 4, 6]]))
    with pytest.raises(ValueError, match=r"page0: 4 image tokens, but its images have 6 features"):
        prepare_inputs(wrong, model.config, "sdpa", "cpu")
