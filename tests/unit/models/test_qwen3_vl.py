"""What is Qwen3-VL's own: patch bias, interpolated positions, deepstack; untied heads."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from family_models import IDS, SIZE, make_family_config, make_family_model, make_page
from learner_tiny import BANNED, pack, pixels
from transformers import Qwen3VLForConditionalGeneration

from olmrl.cluster.shape import model_shape
from olmrl.config.schema import FreezeConfig, LearnerConfig, ModelConfig
from olmrl.data.encode import EncoderSpec
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.loss import LossOutput
from olmrl.learner.model import load_policy, prepare_policy
from olmrl.learner.packed import hidden_states, prepare_inputs
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.files import image_settings
from olmrl.models.registry import FAMILIES
from olmrl.synth.model import make_model

FAMILY = FAMILIES["qwen3_vl"]
HALVES = FAMILY.image_settings.normalisation
GRIDS = [(2, 2), (2, 6), (6, 10), (14, 22), (34, 2), (16, 16), (18, 26)]
"""Patches; merged, most sides are odd."""


def layout(config, *grids):
    return FAMILY.vision_layout(config, [(1, *grid) for grid in grids]).arguments


def test_the_bias_of_the_patch_embedding_is_kept():
    page = make_page("qwen3_vl", 0, (6, 10), [])
    model = make_family_model("qwen3_vl")
    patches = torch.from_numpy(page.patches)
    expected = model.model.visual.patch_embed(pixels(page, HALVES))
    embed = prepare_policy(model, ModelConfig(path="tiny")).model.visual.patch_embed
    with torch.no_grad():
        found = embed(patches)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert embed.proj.bias.abs().min() > 0
        shift = embed.proj.bias.clone()
        embed.proj.bias.zero_()
        torch.testing.assert_close(found - embed(patches), shift.expand_as(found))


@pytest.mark.parametrize("grid", GRIDS)
def test_positions_are_interpolated_as_a_picture_is(grid):
    """By torch's own bilinear resampling of the table, in the order of merged patches."""
    model = make_family_model("qwen3_vl")
    table = model.model.visual.pos_embed.weight.detach()
    side = int(len(table) ** 0.5)
    picture = table.T.reshape(1, -1, side, side)
    resized = F.interpolate(picture, grid, mode="bilinear", align_corners=True)[0]
    rows, columns = grid[0] // 2, grid[1] // 2
    blocks = resized.reshape(-1, rows, 2, columns, 2).permute(1, 3, 2, 4, 0)
    found = layout(model.model.visual.config, grid)
    weighted = table[found["interp_indices"]] * found["interp_weights"][..., None]
    torch.testing.assert_close(
        weighted.sum(1), blocks.reshape(-1, table.shape[1]), rtol=1e-5, atol=1e-6
    )


def test_the_tower_computes_with_our_layout_what_it_computes_with_its_own():
    tower = make_family_model("qwen3_vl").model.visual.eval()
    images = [make_page("qwen3_vl", i, grid, []) for i, grid in enumerate(GRIDS)]
    patches = torch.cat([pixels(image, HALVES) for image in images])
    grid = torch.tensor([[1, *image.grid] for image in images])
    with torch.no_grad():
        alone = tower(patches, grid_thw=grid)
        given = tower(patches, grid_thw=grid, **layout(tower.config, *GRIDS))
    assert torch.equal(alone.pooler_output, given.pooler_output)
    assert len(given.deepstack_features) == 2
    for own, ours in zip(alone.deepstack_features, given.deepstack_features, strict=True):
        assert torch.equal(own, ours)


def negative_sum(logprobs, entropy, inputs):
    loss = -logprobs.sum()
    return LossOutput(loss, {"loss/test": loss.detach()}, {"loss/test": 1.0})


@pytest.mark.parametrize("checkpointing", [True, False])
def test_kept_deepstack_features_give_the_same_gradients(checkpointing):
    model = make_family_model("qwen3_vl")
    config = ModelConfig(
        path="tiny", dtype="float32", freeze=FreezeConfig(vision=True, projector=True)
    )
    prepare_policy(model, config, activation_checkpointing=checkpointing)
    learner = LearnerConfig(use_gpu=False, activation_checkpointing=checkpointing)
    strategy = FsdpStrategy(model, config, learner, HeadSpec(1.0, BANNED, 8), total_steps=1)
    batch = pack(model, [make_page("qwen3_vl", 0, (6, 10), [5, 3])])
    calls, gradients = [], []
    model.model.visual.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        strategy.forward_backward(batch, negative_sum)
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
        strategy.discard_gradients()
    assert len(calls) == 1
    assert gradients[0].keys() == gradients[1].keys() and gradients[0]
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_deepstack_features_reach_images_only_and_each_its_own_layer():
    model = prepare_policy(make_family_model("qwen3_vl"), ModelConfig(path="tiny"))
    batch = pack(model, [make_page("qwen3_vl", 0, (4, 6), [3])])
    inputs = prepare_inputs(batch, model.config, "sdpa", "cpu")
    made, read = [], []
    for layer in model.model.language_model.layers:
        layer.register_forward_pre_hook(lambda _m, args: read.append(args[0][0]))
        layer.register_forward_hook(lambda _m, _a, out: made.append(out[0]))
    with torch.no_grad():
        _, features = hidden_states(model, inputs)
    assert len(features.side) == 2 and len(made) == 3
    for place, side in enumerate(features.side):
        added = torch.zeros_like(made[place])
        added[inputs.image_at_F] = side
        torch.testing.assert_close(read[place + 1], made[place] + added)


@pytest.mark.parametrize("tied", [True, False])
def test_heads_are_tied_as_the_checkpoint_says(tmp_path, tied):
    config = make_family_config("qwen3_vl")
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = tied
    torch.manual_seed(0)
    saved = Qwen3VLForConditionalGeneration(config)
    saved.save_pretrained(tmp_path)
    shape = model_shape(str(tmp_path))
    assert shape.tied == tied
    assert shape.parameters == sum(p.numel() for p in saved.parameters())
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen3_vl"


def test_a_made_model_says_what_its_images_are(tmp_path):
    folder = make_model(["a page of words"] * 9, tmp_path / "m", family="qwen3_vl")
    settings = image_settings(str(folder))
    assert (settings.patch_size, settings.merge_size) == (16, 2)
    assert settings.normalisation.mean == (1.0,) * 3
    encoder = EncoderSpec(str(folder)).build()
    encoder.check_chat()
    page = encoder.encode_prompt("p", encoder.chat("read"), [np.zeros((100, 130, 3), np.uint8)])
    assert page.image_grid_thw.tolist() == [[1, 6, 8]]
    assert page.patches.shape == (48, 768)
    names = {name for name, _ in load_policy(ModelConfig(path=str(folder))).named_parameters()}
    assert {FAMILY.published_name(name) for name in names} == names


def test_a_tiny_tower_has_deepstack_before_its_last_block():
    config = FAMILY.tiny_config(SIZE, IDS, 64, 0.1)
    assert config.vision_config.deepstack_visual_indexes == [0]
