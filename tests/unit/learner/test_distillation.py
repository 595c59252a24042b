"""On-policy distillation against slow forms: the KL, the reward, the gradients, whole steps."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from learner_tiny import BANNED, dense_logprobs, make_group, make_model, pack

from olmrl.config.schema import (
    AlgorithmConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
    TeacherConfig,
)
from olmrl.learner.core import GrpoLearner
from olmrl.learner.distillation import Distribution, reverse_kl
from olmrl.learner.logprobs import HeadSpec, token_logprobs
from olmrl.learner.loss import LossInputs, StepCounts, grpo_loss
from olmrl.learner.model import prepare_policy
from olmrl.learner.strategy import FrozenModel
from olmrl.learner.strategy_fsdp import FsdpStrategy

N, V = 23, 40
HEAD = HeadSpec(0.8, BANNED, chunk=8)


def _heads(seed=3):
    """Hidden states and head weights of a policy and of a wider teacher."""
    rng = torch.Generator().manual_seed(seed)
    sizes = ((N, 12), (V, 12), (N, 20), (V, 20))
    return [0.5 * torch.randn(*size, generator=rng) for size in sizes]


def _slow_kl(hidden, weight, other, other_weight, spec):
    kept = [v for v in range(V) if v not in spec.banned_ids]
    logp = (hidden @ weight.T / spec.temperature)[:, kept].log_softmax(-1)
    logq = (other @ other_weight.T / spec.temperature)[:, kept].log_softmax(-1)
    return (logp.exp() * (logp - logq)).sum(-1)


@pytest.mark.parametrize("chunk", [1, 7, 100])
@pytest.mark.parametrize(("temperature", "banned"), [(1.0, ()), (0.6, (0, 7, 39))])
def test_the_kl_and_its_gradients_equal_the_full_softmax(chunk, temperature, banned):
    spec = HeadSpec(temperature, banned, chunk)
    hidden, weight, other, other_weight = _heads()
    found_in = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    found = reverse_kl(*found_in, Distribution(other, other_weight), spec)
    exact_in = [x.double().requires_grad_() for x in (hidden, weight)]
    exact = _slow_kl(*exact_in, other.double(), other_weight.double(), spec)
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-5)
    by = torch.randn(N)
    (by * found).sum().backward()
    (by * exact).sum().backward()
    for x, y in zip(found_in, exact_in, strict=True):
        torch.testing.assert_close(x.grad.double(), y.grad, atol=2e-5, rtol=1e-4)


def test_rows_that_only_one_head_has_do_not_count():
    hidden, weight, other, other_weight = _heads()
    weight.requires_grad_()
    short = reverse_kl(hidden, weight, Distribution(other, other_weight[:30]), HeadSpec())
    cut = reverse_kl(hidden, weight[:30], Distribution(other, other_weight), HeadSpec())
    torch.testing.assert_close(short, cut)
    short.sum().backward()
    assert weight.grad[:30].abs().min() > 0 and weight.grad[30:].abs().max() == 0


def test_a_teacher_like_the_policy_teaches_nothing():
    hidden, weight, _, _ = _heads()
    hidden.requires_grad_()
    kl = reverse_kl(hidden, weight, Distribution(hidden.detach(), weight), HEAD)
    kl.sum().backward()
    assert kl.abs().max() < 1e-6
    assert hidden.grad.abs().max() < 1e-6


def _inputs(advantages, teacher=None, sequence=None):
    count = len(advantages)
    return LossInputs(
        sequence_N=torch.tensor(sequence or [0] * count),
        sequences=1 + max(sequence or [0]),
        weight_N=torch.ones(count),
        advantage_N=torch.tensor(advantages),
        behaviour_N=None,
        old_N=None,
        reference_N=None,
        teacher_N=None if teacher is None else torch.tensor(teacher),
    )


def _config(**teacher):
    return AlgorithmConfig(correction={"level": "none"}, teacher=TeacherConfig(path="t", **teacher))


def _loss(config, logprobs, inputs, tokens):
    inputs = replace(inputs, behaviour_N=logprobs.detach())
    counts = StepCounts(float(tokens), float(inputs.sequences))
    make = grpo_loss(config, counts, max_tokens=9, outlier_gap=1.0)
    return make(logprobs, torch.zeros_like(logprobs), inputs)


@pytest.mark.parametrize(
    ("options", "advantages"),
    [
        # log q - log p is (1.0, -0.5, -20)
        ({"weight": 0.5}, [2.0 + 0.5, -1.0 - 0.25, 0.0 - 5.0]),
        ({"weight": 0.5, "alone": True}, [0.5, -0.25, -5.0]),
        ({"weight": 0.5, "clip": 0.8}, [2.0 + 0.4, -1.0 - 0.25, 0.0 - 0.4]),
    ],
)
def test_the_log_ratio_joins_the_advantage_of_its_token(options, advantages):
    logprobs = torch.tensor([-2.0, -1.0, -0.5], requires_grad=True)
    inputs = _inputs([2.0, -1.0, 0.0], [-1.0, -1.5, -20.5])
    out = _loss(_config(**options), logprobs, inputs, 3)
    out.loss.backward()
    # on-policy the gradient of ratio x advantage is the advantage
    expected = -torch.tensor(advantages) / 3
    torch.testing.assert_close(logprobs.grad, expected)
    assert out.totals["teacher/kl"] == pytest.approx(-1.0 + 0.5 + 20.0)


def test_the_reward_has_the_gradient_of_the_kl_in_expectation():
    """Summed over every token that could be drawn, weighted by its probability."""
    torch.manual_seed(0)
    hidden, other = torch.randn(1, 6), torch.randn(1, 9)
    weight, other_weight = torch.randn(5, 6), torch.randn(5, 9)
    spec = HeadSpec(0.7)
    exact = hidden.clone().requires_grad_()
    (0.3 * reverse_kl(exact, weight, Distribution(other, other_weight), spec)).sum().backward()
    drawn = hidden.clone().requires_grad_()
    for token in range(5):
        target = torch.tensor([token])
        logp = token_logprobs(drawn, weight, target, spec).logprobs_N
        logq = token_logprobs(other, other_weight, target, spec).logprobs_N
        config = _config(weight=0.3, alone=True, clip=100.0)
        out = _loss(config, logp, _inputs([0.0], logq.tolist()), 1)
        (float(logp.detach().exp()) * out.loss).backward()
    torch.testing.assert_close(drawn.grad, exact.grad, atol=1e-6, rtol=1e-4)


def test_the_kl_as_a_loss_is_weighted_and_averaged_as_the_policy_loss_is():
    logprobs = torch.tensor([-2.0, -1.0, -0.5], requires_grad=True)
    kl = torch.tensor([0.3, 0.0, 0.9], requires_grad=True)
    inputs = replace(_inputs([0.0, 0.0, 0.0], sequence=[0, 1, 1]), teacher_kl_N=kl)
    config = _config(weight=2.0, use="loss").model_copy(update={"loss": "grpo"})
    out = _loss(config, logprobs, inputs, 3)
    out.loss.backward()
    # mean within each sequence, then over both
    torch.testing.assert_close(kl.grad, torch.tensor([1.0, 0.5, 0.5]))
    assert out.totals["teacher/kl"] == pytest.approx(1.2)


# -- whole steps


def _teacher_model():
    return make_model(seed=5, hidden=96, layers=3)


def _strategy(use="reward", dtype="float32", fp32_lm_head=False):
    config = ModelConfig(path="tiny", dtype=dtype)
    learner = LearnerConfig(
        use_gpu=False,
        fp32_lm_head=fp32_lm_head,
        optimizer=OptimizerConfig(lr=3e-3, schedule="constant"),
    )
    teacher = FrozenModel(lambda: prepare_policy(_teacher_model(), config), headless=use == "loss")
    model = prepare_policy(make_model(), config, activation_checkpointing=True)
    head = replace(HEAD, float32=fp32_lm_head)
    return FsdpStrategy(model, config, learner, head, total_steps=20, teacher=teacher)


def _groups():
    shapes = [((4, 6), [5, 3, 0, 8]), ((8, 4), [4, 6])]
    return [make_group(i, grid, lengths) for i, (grid, lengths) in enumerate(shapes)]


def _batches(strategy, cut=((0, 1),), page_once=True):
    model = make_model()
    batches = [pack(model, [_groups()[i] for i in part], page_once) for part in cut]
    return [replace(b, behaviour_logprobs=strategy.logprobs(b)) for b in batches]


def _weights(strategy):
    return {n: w.numpy().copy() for n, w in strategy.named_weights()}


def _gap(a, b):
    return max(np.abs(a[n] - b[n]).max() for n in a)


def test_the_teacher_scores_a_page_once_row_as_transformers_does_each_completion():
    strategy = _strategy()
    (batch,) = _batches(strategy)
    plain, expected = _teacher_model().double().eval(), []
    with torch.no_grad():
        for group in _groups():
            for tokens in group.completions:
                if len(tokens):
                    expected.append(dense_logprobs(plain, group, tokens, HEAD.temperature)[0])
    np.testing.assert_allclose(
        strategy.teacher_logprobs(batch), torch.cat(expected).numpy(), atol=2e-5
    )


def _step(use, cut=((0, 1),), page_once=True, steps=2):
    strategy = _strategy(use)
    batches = _batches(strategy, cut, page_once)[strategy.rank :: strategy.world_size]
    algorithm = AlgorithmConfig(teacher=TeacherConfig(path="t", use=use))
    learner = GrpoLearner(strategy, algorithm, max_tokens=9)
    for _ in range(steps):
        learner.step(batches)
    return _weights(strategy)


@pytest.mark.parametrize("use", ["reward", "loss"])
def test_a_step_is_the_same_however_it_is_packed_and_on_two_ranks(use, ranks):
    once = _step(use)
    assert _gap(once, _weights(_strategy())) > 1e-3
    assert _gap(once, _step(use, page_once=False)) < 2e-4
    assert _gap(once, _step(use, cut=((0,), (1,)))) < 2e-4
    first, second = ranks(_step, use, ((0,), (1,)))
    assert _gap(first, second) == 0
    assert _gap(once, first) < 2e-4


def _first_kl(use, dtype, fp32_lm_head):
    strategy = _strategy(use, dtype, fp32_lm_head)
    batches = _batches(strategy, ((0,), (1,)))[strategy.rank :: strategy.world_size]
    algorithm = AlgorithmConfig(teacher=TeacherConfig(path="t", use=use))
    return GrpoLearner(strategy, algorithm, max_tokens=9).step(batches)["teacher/kl"]


@pytest.mark.parametrize("fp32_lm_head", [False, True])
def test_a_sharded_teacher_in_bfloat16_judges_alike(fp32_lm_head, ranks):
    exact = _first_kl("loss", "float32", False).value()
    first, second = ranks(_first_kl, "loss", "bfloat16", fp32_lm_head)
    assert first.merge(second).value() == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(("use", "alone"), list(product(["reward", "loss"], [True, False])))
def test_the_policy_comes_nearer_to_its_teacher(use, alone):
    strategy = _strategy(use)
    batches = _batches(strategy)
    teacher = TeacherConfig(path="t", use=use, alone=alone)
    learner = GrpoLearner(strategy, AlgorithmConfig(teacher=teacher), max_tokens=9)
    kl = [learner.step(batches)["teacher/kl"].value() for _ in range(8)]
    assert kl[-1] < kl[0] - 0.2


def test_a_teacher_as_reward_needs_one_that_was_built():
    config = ModelConfig(path="tiny", dtype="float32")
    strategy = FsdpStrategy(
        prepare_policy(make_model(), config),
        config,
        LearnerConfig(use_gpu=False),
        HEAD,
        total_steps=2,
    )
    batches = _batches(strategy)
    algorithm = AlgorithmConfig(teacher=TeacherConfig(path="t"))
    with pytest.raises(ValueError, match=r"algorithm\.teacher"):
        GrpoLearner(strategy, algorithm, max_tokens=9).step(batches)
