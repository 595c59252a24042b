"""Parameter groups, schedules, clipping."""

import math
from typing import get_args

import pytest
import torch
from learner_tiny import make_model
from torch import nn
from transformers import SchedulerType

from olmrl.config.schema import OptimizerConfig, ScheduleName
from olmrl.learner.optim import (
    NonFiniteStep,
    all_finite,
    build_optim,
    clip_gradients,
    group_parameters,
)
from olmrl.models.registry import FAMILIES

FAMILY = FAMILIES["qwen2_5_vl"]


def _names(model, parameters):
    known = {id(p): n for n, p in model.named_parameters()}
    return {known[id(p)] for p in parameters}


def test_norms_and_biases_are_exempt_from_decay_by_type():
    model = make_model()
    groups = group_parameters(model, model.lm_head, FAMILY)
    exempt = _names(model, groups.exempt)
    expected = {
        n
        for n, p in model.named_parameters()
        if n.endswith(".bias") or "layernorm" in n or ".norm" in n or "ln_q" in n
    }
    assert exempt == expected and "model.visual.merger.ln_q.weight" in exempt
    assert all(p.ndim == 1 for p in groups.exempt)
    assert _names(model, groups.embeddings) == {
        "model.language_model.embed_tokens.weight",
        "model.visual.patch_embed.proj.weight",
    }
    assert groups.head == []  # it is the embedding
    everything = _names(model, groups.matrices) | exempt | _names(model, groups.embeddings)
    assert everything == {n for n, _ in model.named_parameters()}


def test_an_untied_head_is_no_hidden_matrix():
    model = make_model(tie=False)
    groups = group_parameters(model, model.lm_head, FAMILY)
    assert _names(model, groups.head) == {"lm_head.weight"}
    assert groups.head[0] not in set(groups.matrices)


def test_decay_reaches_matrices_and_spares_norms():
    model = make_model()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    config = OptimizerConfig(lr=0.1, weight_decay=0.5, schedule="constant")
    optim = build_optim(model, model.lm_head, FAMILY, config, 10)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optim.step()
    for name, parameter in model.named_parameters():
        factor = 1.0 if parameter.ndim == 1 else 1 - 0.1 * 0.5
        torch.testing.assert_close(parameter, before[name] * factor)


def test_muon_takes_the_matrices_and_adamw_the_rest():
    model = make_model()
    config = OptimizerConfig(name="muon", lr=1e-3, muon_lr=2e-3, schedule="constant")
    muon, adamw = build_optim(model, model.lm_head, FAMILY, config, 10).optimizers
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    assert {g["lr"] for g in muon.param_groups} == {2e-3}
    assert {g["lr"] for g in adamw.param_groups} == {1e-3}
    taken = {id(p) for g in muon.param_groups for p in g["params"]}
    assert taken == {id(p) for p in group_parameters(model, model.lm_head, FAMILY).matrices}
    assert id(model.model.language_model.embed_tokens.weight) not in taken


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_multipliers_scale_the_rates_of_what_is_no_matrix_over_the_whole_schedule(name):
    model = make_model(tie=False)
    factors = {"head": 11, "embedding": 30, "scalar": 2}
    config = OptimizerConfig(
        name=name, lr=1e-3, schedule="linear", warmup_steps=2, lr_multipliers=factors
    )
    optim = build_optim(model, model.lm_head, FAMILY, config, 10)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optim.step()
    rates = {
        name: group["lr"] / 1e-3
        for optimizer in optim.optimizers
        for group in optimizer.param_groups
        for name in _names(model, group["params"])
    }
    assert optim.lr == pytest.approx(0.5e-3)  # half way through the warm-up
    assert rates["lm_head.weight"] == pytest.approx(5.5)
    assert rates["model.language_model.embed_tokens.weight"] == pytest.approx(15.0)
    assert rates["model.visual.patch_embed.proj.weight"] == pytest.approx(15.0)
    assert rates["model.language_model.norm.weight"] == pytest.approx(1.0)
    assert rates["model.language_model.layers.0.mlp.up_proj.weight"] == pytest.approx(0.5)
    assert len(rates) == len(list(model.parameters()))


def _rates(config, total, steps):
    layer = nn.Linear(2, 2)
    optim = build_optim(layer, nn.Linear(1, 1), FAMILY, config, total)
    found = []
    for _ in range(steps):
        found.append(optim.lr)
        assert {g["lr"] for o in optim.optimizers for g in o.param_groups} == {optim.lr}
        for parameter in layer.parameters():
            parameter.grad = torch.ones_like(parameter)
        optim.step()
    return found


def test_linear_schedule_warms_up_and_falls_to_zero():
    config = OptimizerConfig(lr=1.0, schedule="linear", warmup_ratio=0.2)
    expected = [0.0, 0.5, *[(10 - step) / 8 for step in range(2, 10)]]
    assert _rates(config, 10, 10) == pytest.approx(expected)


def test_warmup_stable_decay_takes_its_options():
    config = OptimizerConfig(
        lr=1.0,
        schedule="warmup_stable_decay",
        warmup_steps=2,
        schedule_options={"num_decay_steps": 4, "decay_type": "linear"},
    )
    found = _rates(config, 10, 10)
    assert found[:2] == pytest.approx([0.0, 0.5]) and found[2:6] == pytest.approx([1.0] * 4)
    assert found[6:] == sorted(found[6:], reverse=True) and found[9] < 0.5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"schedule": "linaer"}, r"schedule\n  Input should be 'linear', 'cosine'"),
        ({"schedule": "reduce_lr_on_plateau"}, "Input should be"),
        ({"schedule": "constant", "warmup_steps": 3}, "constant has no warm-up.*warmup_steps=3"),
        ({"schedule": "constant", "warmup_ratio": 0.1}, "use constant_with_warmup"),
        ({"schedule": "linear", "schedule_options": {"foo": 1}}, "schedule_options: linear rej"),
    ],
)
def test_wrong_schedules_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        _rates(OptimizerConfig(**config), 10, 1)


def test_every_schedule_of_transformers_is_allowed_that_depends_on_the_step_alone():
    known = {each.value for each in SchedulerType}
    assert set(get_args(ScheduleName)) == known - {"reduce_lr_on_plateau", "greedy"}


def test_a_restored_schedule_goes_on_where_it_was():
    config = OptimizerConfig(lr=1.0, schedule="cosine", warmup_steps=3)
    expected = _rates(config, 12, 12)
    optim = build_optim(nn.Linear(2, 2), nn.Linear(1, 1), FAMILY, config, 12)
    optim.restore_schedule(7)
    assert optim.lr == pytest.approx(expected[7])
    optim.step()
    assert optim.lr == pytest.approx(expected[8]) and optim.steps == 8


def test_gradients_are_clipped_to_the_global_norm():
    layer = nn.Linear(3, 2)
    layer.weight.grad = torch.full((2, 3), 2.0)
    layer.bias.grad = torch.full((2,), 1.0)
    norm = math.sqrt(6 * 4 + 2)
    assert clip_gradients(layer, 1.0) == pytest.approx(norm)
    torch.testing.assert_close(layer.weight.grad, torch.full((2, 3), 2.0 / norm))
    assert clip_gradients(layer, 5.0) == pytest.approx(1.0, rel=1e-4)
    torch.testing.assert_close(layer.bias.grad, torch.full((2,), 1.0 / norm))


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_gradients_that_are_not_finite_are_left_alone(poison):
    layer = nn.Linear(3, 2)
    layer.weight.grad = torch.full((2, 3), 2.0)
    layer.bias.grad = torch.tensor([poison, 0.0])
    with pytest.raises(NonFiniteStep, match="gradient norm"):
        clip_gradients(layer, 1.0)
    assert (layer.weight.grad == 2.0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_number_that_is_not_finite_is_found_among_many(dtype):
    assert all_finite([]) and all_finite([torch.full((300, 70), -1e9, dtype=dtype)])
    for bad in (math.nan, math.inf, -math.inf):
        parts = [torch.ones(1000, dtype=dtype), torch.zeros(70, 30, dtype=dtype)]
        parts[1][69, 29] = bad
        assert not all_finite(parts) and not all_finite(parts[::-1])
