"""Folders as they lie on the Hub: names old and new, shards, settings that must not count."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.learner.build import build_strategy, head_spec
from olmrl.learner.generation import generate_greedily, whole_copy
from olmrl.learner.model import load_policy
from olmrl.models.adapters import plain_name
from olmrl.models.registry import FAMILIES

WEIGHTS = "model.safetensors"


def weights(path):
    model = load_policy(ModelConfig(path=str(path), master_dtype="float32"))
    return {plain_name(name): tensor for name, tensor in model.named_parameters()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_names_of_transformers_4_and_5_load_alike(published, folder):
    known = FAMILIES[published.name]
    tensors = load_file(folder / WEIGHTS)
    expected = weights(published)
    for rename in (known.module_name, lambda name: known.published_name(known.module_name(name))):
        save_file({rename(n): t for n, t in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
        assert_same(weights(folder), expected)


def test_a_tied_head_may_be_left_out_or_written(published, folder):
    tensors = load_file(folder / WEIGHTS)
    assert "lm_head.weight" not in tensors
    (embedding,) = (t for name, t in tensors.items() if name.endswith("embed_tokens.weight"))
    save_file(tensors | {"lm_head.weight": embedding.clone()}, folder / WEIGHTS, {"format": "pt"})
    assert_same(weights(folder), weights(published))


def test_shards_load_by_their_index_and_are_refused_without(published, folder):
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    placed = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
        placed |= dict.fromkeys(part, file)
    with pytest.raises(ValueError, match=r"model\.path: the weights of .* cannot be read"):
        weights(folder)
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert_same(weights(folder), weights(published))


def test_layers_that_predict_several_tokens_are_left_out(folder):
    if folder.name != "qwen3_5":
        pytest.skip("only Qwen3.5 is published with them")
    expected = weights(folder)
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {"mtp.fc.weight": torch.ones(2, 2)}, folder / WEIGHTS, {"format": "pt"})
    assert_same(weights(folder), expected)


def read(path):
    """One page, greedily."""
    config = ModelConfig(path=str(path), dtype="float32")
    learner = LearnerConfig(use_gpu=False, activation_checkpointing=False)
    strategy = build_strategy(config, learner, head_spec(learner), total_steps=1)
    encoder = Encoder(EncoderSpec(str(path)))
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8)
    page = encoder.encode_prompt("page", encoder.chat("read"), [image])
    model = whole_copy(strategy, config)
    (ids,) = generate_greedily(model, [page], encoder, max_tokens=12, batch_pages=1)
    return ids.tolist()


def test_generation_settings_of_the_folder_do_not_change_a_reading(published, folder):
    expected = read(published)
    assert len(set(expected)) < len(expected), "without a repetition the test would show nothing"
    file = folder / "generation_config.json"
    settings = json.loads(file.read_text())
    settings |= {"repetition_penalty": 5.0, "do_sample": True, "temperature": 3.0, "top_k": 1}
    file.write_text(json.dumps(settings))
    assert read(folder) == expected


def test_what_a_family_keeps_in_float32_is_read_as_it_is_stored(published):
    pattern = FAMILIES[published.name].float32
    stored = {n: t for n, t in load_file(published / WEIGHTS).items() if re.fullmatch(pattern, n)}
    assert bool(stored) == FAMILIES[published.name].is_recurrent
    config = ModelConfig(path=str(published), master_dtype="bfloat16")
    held = {plain_name(name): tensor for name, tensor in load_policy(config).named_parameters()}
    learner = LearnerConfig(use_gpu=False, activation_checkpointing=False)
    exact = ModelConfig(path=str(published))
    strategy = build_strategy(exact, learner, head_spec(learner), total_steps=1)
    copied = dict(whole_copy(strategy, exact).named_parameters())
    for name, tensor in stored.items():
        assert torch.equal(held[name], tensor) and torch.equal(copied[name], tensor)
