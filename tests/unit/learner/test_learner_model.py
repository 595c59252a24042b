"""Loading, freezing and adapting the policy."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_tiny import make_group, make_model, pixels

from olmrl.config.schema import FreezeConfig, LoraConfig, ModelConfig
from olmrl.learner.model import (
    adapter_weights,
    load_policy,
    plain_weights,
    prepare_policy,
    vision_is_frozen,
)
from olmrl.models.patches import PUBLISHED
from olmrl.models.registry import FAMILIES
from olmrl.models.vision import MatmulPatchEmbed


def whole(parameter, dtype):
    """A parameter that is not sharded."""
    return parameter.detach().to(dtype=dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    make_model().save_pretrained(path)
    (path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3]}')
    return str(path)


def test_a_saved_model_loads_with_its_master_precision(folder):
    model = load_policy(ModelConfig(path=folder, dtype="bfloat16"))
    expected = dict(make_model().named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32 and parameter.requires_grad
        torch.testing.assert_close(parameter, expected[name])
    low = load_policy(ModelConfig(path=folder, master_dtype="bfloat16"))
    assert {p.dtype for p in low.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"model\.path: .*: no model can be loaded from there \(no config\.json"),
        (
            {"model_type": "bert"},
            r"type is 'bert', which olmrl cannot train; it trains .*qwen2_5_vl",
        ),
        (
            {"model_type": "qwen2_5_vl", "vision_config": {"depth": 1}},
            "the weights of .* cannot be read",
        ),
    ],
    ids=["empty folder", "another family", "no weights"],
)
def test_a_path_without_a_usable_model_is_one_clear_error(tmp_path, config, message):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as caught:
        load_policy(ModelConfig(path=str(tmp_path)))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_patch_embedding_as_a_product_gives_the_convolutions_numbers():
    embed = make_model().model.visual.patch_embed.double()  # apart from the order of its sums
    group = make_group(0, (4, 6), [])
    product = MatmulPatchEmbed(embed.proj, PUBLISHED)(torch.from_numpy(group.patches))
    torch.testing.assert_close(product, embed(pixels(group).double()))


def test_the_policy_normalises_as_its_image_processor_says(folder):
    model = load_policy(ModelConfig(path=folder))
    told = replace(PUBLISHED, mean=(0.1, 0.2, 0.3))
    patches = torch.from_numpy(make_group(0, (4, 6), []).patches)
    embed = model.model.visual.patch_embed
    assert torch.equal(embed(patches), MatmulPatchEmbed(embed.proj, told)(patches))
    with pytest.raises(ValueError, match=r"patches are torch\.float32"):
        embed(patches.float())


@pytest.mark.parametrize(
    ("frozen", "trained"),
    [
        ("vision", {"merger", "language_model"}),
        ("projector", {"vision", "language_model"}),
        ("language", {"vision", "merger"}),
    ],
)
def test_freeze_flags_stop_exactly_their_part(frozen, trained):
    config = ModelConfig(path="x", freeze=FreezeConfig(**{frozen: True}))
    model = prepare_policy(make_model(), config)

    def part(name):
        if ".merger." in name:
            return "merger"
        return "vision" if ".visual." in name else "language_model"

    found = {part(n) for n, p in model.named_parameters() if p.requires_grad}
    assert found == trained
    sent = dict(plain_weights(model, whole, changing_only=True))
    assert {part(n) for n in sent} == trained
    assert not vision_is_frozen(model) or frozen == "language"


def test_freezing_everything_is_an_error():
    freeze = FreezeConfig(vision=True, projector=True, language=True)
    with pytest.raises(ValueError, match=r"model\.freeze: .* all frozen"):
        prepare_policy(make_model(), ModelConfig(path="x", freeze=freeze))


def test_adapters_train_alone_and_merge_into_plain_names():
    model = prepare_policy(make_model(), ModelConfig(path="x", lora=LoraConfig(rank=2)))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained and all(".lora_" in n for n in trained)
    assert vision_is_frozen(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.3)
    merged = dict(plain_weights(model, whole))
    expected = make_model().state_dict()
    assert merged.keys() == expected.keys()
    plain = make_model()
    plain.load_state_dict(merged)
    ids = torch.arange(10, 20)[None]
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            plain(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-4, rtol=1e-4
        )
    changed = [n for n in merged if not torch.equal(merged[n], expected[n])]
    assert all("_proj.weight" in n and ".self_attn." in n for n in changed)
    assert len(changed) == 2 * 4
    sent = dict(plain_weights(model, whole, changing_only=True))
    assert sorted(sent) == sorted(changed)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("up_proj", "down_proj")])
def test_adapters_alone_are_sent_ready_to_be_added_in_far_fewer_bytes(targets):
    lora = LoraConfig(rank=2, alpha=7, target_modules=targets)
    model = prepare_policy(make_model(), ModelConfig(path="x", lora=lora))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.3)
    sent = dict(adapter_weights(model, whole))
    merged, base = dict(plain_weights(model, whole)), make_model().state_dict()
    changed = {n.removesuffix(".weight") for n in merged if not torch.equal(merged[n], base[n])}
    assert {name.rsplit(".lora_", 1)[0] for name in sent} == changed and changed
    for layer in changed:
        difference = sent[f"{layer}.lora_B.weight"] @ sent[f"{layer}.lora_A.weight"]
        found = merged[f"{layer}.weight"] - base[f"{layer}.weight"]
        torch.testing.assert_close(difference, found, atol=1e-6, rtol=1e-5)
    merged_bytes = size(plain_weights(model, whole, changing_only=True))
    shape = FAMILIES["qwen2_5_vl"].shape(model.config.to_dict())
    parts = (*shape.stacks, shape.vision, shape.merger)
    assert size(sent.items()) == 4 * sum(p.count * p.adapters(2, targets) for p in parts)
    assert size(sent.items()) < merged_bytes / 4


def size(named):
    return sum(tensor.numel() * tensor.element_size() for _, tensor in named)


def test_what_engines_fuse_is_sent_whole_where_an_adapter_changes_a_part_of_it():
    lora = LoraConfig(rank=2, target_modules=("q_proj", "up_proj"))
    model = prepare_policy(make_model(), ModelConfig(path="x", lora=lora))
    sent = [name for name, _ in plain_weights(model, whole, changing_only=True)]
    first = [n.split("layers.0.")[1] for n in sent if "language_model.layers.0." in n]
    assert sorted(first) == [
        "mlp.gate_proj.weight", "mlp.up_proj.weight",
        "self_attn.k_proj.weight", "self_attn.q_proj.weight", "self_attn.v_proj.weight",
    ]  # fmt: skip
    in_tower = [n for n in sent if ".visual." in n]  # its blocks have an up_proj too
    assert len(sent) == 2 * len(first) + 2 * 2 == 10 + len(in_tower)


def test_adapter_targets_that_do_not_exist_are_named():
    lora = LoraConfig(target_modules=("nothing_proj",))
    with pytest.raises(ValueError, match=r"model\.lora\.target_modules: .*nothing_proj"):
        prepare_policy(make_model(), ModelConfig(path="x", lora=lora))


@pytest.mark.parametrize("tie", [True, False])
def test_weights_stream_under_transformers_names_with_the_head(tie):
    model = prepare_policy(make_model(tie=tie), ModelConfig(path="x"))
    found = {n: w.numpy() for n, w in plain_weights(model, whole)}
    expected = make_model(tie=tie).state_dict()
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        np.testing.assert_array_equal(weight, expected[name].numpy())


def test_a_prepared_model_still_generates():
    plain = make_model().eval()
    model = prepare_policy(make_model(), ModelConfig(path="x")).eval()
    ids = torch.arange(10, 20)[None]
    found, expected = (
        m.generate(input_ids=ids, max_new_tokens=8, do_sample=False, eos_token_id=None)
        for m in (model, plain)
    )
    assert torch.equal(found, expected)
