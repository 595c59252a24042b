"""Operations of a training step against PyTorch's own counter, whatever is trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from family_models import IDS, SIZE
from learner_tiny import IMAGE, make_config, make_group, make_model, pack
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.qwen3_5 import modeling_qwen3_5

from olmrl.config.schema import FreezeConfig, LoraConfig, ModelConfig
from olmrl.learner.flops import adapter_cost, backward_cost, step_flops
from olmrl.learner.model import add_adapters, freeze
from olmrl.models.cost import CostModel
from olmrl.models.registry import FAMILIES, family_of

GRID = np.array([[1, 16, 12]])
TEXT = 40
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
CASES = {
    "all": {},
    "tower frozen": {"freeze": FreezeConfig(vision=True)},
    "vision frozen": {"freeze": FreezeConfig(vision=True, projector=True)},
    "only the projector": {"freeze": FreezeConfig(vision=True, language=True)},
    "only the tower": {"freeze": FreezeConfig(projector=True, language=True)},
    "language frozen": {"freeze": FreezeConfig(language=True)},
    "adapters": {"lora": LoraConfig(rank=4, target_modules=ATTENTION)},
    "adapters late in a block": {"lora": LoraConfig(rank=4, target_modules=("down_proj",))},
    "adapters in the tower": {"lora": LoraConfig(rank=4, target_modules=("qkv", *ATTENTION))},
}


@pytest.fixture(autouse=True)
def no_recurrence(monkeypatch):
    """Leave the recurrence itself out: torch counts its padding, and not its triangular solves.

    The gate of a family counts its forward pass; the way back is taken as twice that.
    """

    def passing(query, key, value, g, beta, **_):
        return value + (query.sum() + key.sum() + g.sum() + beta.sum()), None

    monkeypatch.setattr(modeling_qwen3_5, "torch_chunk_gated_delta_rule", passing)
    monkeypatch.setattr(modeling_qwen3_5, "causal_conv1d_fn", lambda x, weight, *_, **__: x)


def shape_of(config):
    return family_of(config).shape(config.to_dict())


def counted(config, policy):
    """Operations of one forward and backward pass of transformers' own model."""
    torch.manual_seed(0)
    model = family_of(config).model_class()._from_config(config, attn_implementation="eager")
    freeze(model, policy.freeze)
    if policy.lora is not None:
        add_adapters(model, policy.lora)
    image = int(GRID.prod()) // 4
    ids = torch.tensor([[50] * 10 + [IMAGE] * image + [60] * (TEXT - 10)])
    with FlopCounterMode(display=False) as counter:
        out = model(
            input_ids=ids,
            pixel_values=torch.rand(int(GRID.prod()), shape_of(config).patch_width),
            image_grid_thw=torch.from_numpy(GRID),
            mm_token_type_ids=(ids == IMAGE).long(),
            use_cache=False,
        )
        out.logits.sum().backward()
    return counter.get_total_flops(), ids.shape[1]


@pytest.mark.parametrize("trained", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_is_frozen_is_not_counted(model_type, trained):
    config = FAMILIES[model_type].tiny_config(SIZE, IDS, 64, 0.2)
    assert_counted(config, ModelConfig(path="tiny", **trained))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_adapters_of_the_tower_may_be_in_its_merger_too(model_type):
    config = FAMILIES[model_type].tiny_config(SIZE, IDS, 64, 0.2)
    for stage in shape_of(config).vision.stages[2:]:
        lora = LoraConfig(rank=4, target_modules=tuple(stage))
        assert_counted(config, ModelConfig(path="tiny", lora=lora))


def assert_counted(config, policy):
    expected, tokens = counted(config, policy)
    parts = (
        CostModel.of(shape_of(config)),
        adapter_cost(shape_of(config), policy.lora),
        backward_cost(shape_of(config), policy),
    )
    # eager attention computes the masked half as well
    mine = sum(replace(part, scan=0.0).parts(tokens, tokens**2, tokens, GRID) for part in parts)
    assert mine == pytest.approx(expected, rel=0.01)


def test_a_step_counts_its_passes_and_kept_features_once():
    config = make_config()
    batch = pack(make_model(), [make_group(0, (8, 6), [5, 3, 4])])
    cost = CostModel.of(shape_of(config))
    forward = cost.batch(batch)
    everything = ModelConfig(path="tiny")
    full = step_flops([batch], shape_of(config), everything, trained_passes=2, observed_passes=1)
    # the patch embedding alone has no second gradient
    assert full == pytest.approx(7 * forward - 2 * cost.embed * 48, rel=1e-9)
    frozen = ModelConfig(path="tiny", freeze=FreezeConfig(vision=True, projector=True))
    seen = cost.parts(0, 0, 0, batch.image_grid_thw)
    kept = step_flops([batch], shape_of(config), frozen, trained_passes=2, observed_passes=1)
    assert kept == pytest.approx(7 * (forward - seen) + seen, rel=1e-9)
    other = step_flops([batch], shape_of(config), frozen, trained_passes=2, reference_passes=1)
    assert other == pytest.approx(kept + seen, rel=1e-9)  # a model of its own
    adapted = ModelConfig(path="tiny", lora=LoraConfig(rank=1, target_modules=("q_proj",)))
    alone, beside = (
        step_flops([batch], shape_of(config), adapted, trained_passes=1, reference_passes=passes)
        for passes in (0, 1)
    )
    assert beside - alone == pytest.approx(forward - seen, rel=1e-9)
