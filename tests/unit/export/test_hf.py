"""A run's checkpoint becomes a model folder that transformers loads, adapters merged."""

import json
import os

import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor

from olmrl.checkpoint.manifest import CheckpointError
from olmrl.checkpoint.state import CheckpointStore
from olmrl.config import SftConfig, dump
from olmrl.config.schema import ModelConfig
from olmrl.export import hf
from olmrl.export.weights import ModelFolder
from olmrl.learner.model import load_policy
from olmrl.models import adapters
from olmrl.models.registry import FAMILIES
from olmrl.synth.model import make_model


def make_run(run, tiny, lora=None, steps=(3,)):
    """A run directory as the driver leaves it, with weights that differ from the base."""
    model = {"path": tiny, "dtype": "float32", "lora": lora}
    policy = load_policy(ModelConfig(**model))
    run.mkdir(exist_ok=True)
    store = CheckpointStore(run / "checkpoints", keep_last=9)
    for step in steps:
        torch.manual_seed(step)
        with torch.no_grad():
            for parameter in policy.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter), alpha=0.01)
        store.save(step, {"model": policy.state_dict()}, extra={})
        store.record_score(step, -step)
    config = {"model": model, "algorithm": {}, "data": {"prompt": "olmrl-v1", "longest_side": 64}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"step": s, "reward/mean": s / 10, "time/x": 1.0} for s in range(1, 6)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return policy


def logits(model):
    ids = torch.arange(20, 60)[None]
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 16.0, "dropout": 0.0}])
def test_exported_model_computes_what_the_policy_did(tmp_path, tiny, lora):
    policy = make_run(tmp_path, tiny, lora)
    out = tmp_path / "out"
    assert hf.export(str(tmp_path), str(out), shard_bytes=300_000) == 3
    assert len([f for f in os.listdir(out) if f.startswith("model-0000")]) > 2
    model = AutoModelForImageTextToText.from_pretrained(out, dtype=torch.float32)
    base = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)
    # The policy's own forward is the learner's packed one: compare through transformers alone.
    plain = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)
    if lora:
        from peft import LoraConfig

        plain.add_adapter(
            LoraConfig(
                r=4, lora_alpha=16.0, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]
            )
        )
    plain.load_state_dict(policy.state_dict())
    torch.testing.assert_close(logits(model), logits(plain), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(model), logits(base), atol=1e-2)
    visual = "model.visual.patch_embed.proj.weight"
    assert torch.equal(model.state_dict()[visual], policy.state_dict()[visual])
    processor = AutoProcessor.from_pretrained(out)
    assert processor.chat_template == AutoProcessor.from_pretrained(tiny).chat_template
    card = (out / "README.md").read_text()
    assert "| reward/mean | 0.1 | 0.3 |" in card
    assert yaml.safe_load(card.split("---")[1])["base_model"] == tiny


def test_names_and_dtype_are_those_of_a_published_model(tmp_path, tiny):
    make_run(tmp_path, tiny)
    out = tmp_path / "out"
    hf.export(str(tmp_path), str(out), dtype="bfloat16")
    base, exported = ModelFolder(tiny), ModelFolder(out)
    assert set(exported.entries) == set(base.entries)
    assert {entry.dtype for entry in exported.entries.values()} == {torch.bfloat16}
    assert exported.config["dtype"] == "bfloat16"


def test_choice_of_the_checkpoint(tmp_path, tiny):
    make_run(tmp_path, tiny, steps=(1, 2))
    assert hf.choose(str(tmp_path)).step == 2
    assert hf.choose(str(tmp_path), best=True).step == 1
    assert hf.choose(str(tmp_path), step=1).step == 1
    with pytest.raises(CheckpointError, match="no checkpoint of step 7; complete: 1, 2"):
        hf.choose(str(tmp_path), step=7)


@pytest.mark.parametrize(
    ("evaluation", "best"),
    [
        ({"best_metric": "eval/edit_similarity"}, 3),
        ({"best_metric": "eval/edit_similarity", "best_mode": "min"}, 1),
        ({"best_metric": "eval/loss"}, 1),
        ({"best_metric": "eval/loss", "best_mode": "max"}, 3),
    ],
)
def test_the_best_checkpoint_of_an_sft_run_goes_by_its_resolved_config(tmp_path, evaluation, best):
    data = {"train": [{"root": "a"}], "evaluation": [{"root": "b"}]}
    values = {"model": {"path": "x"}, "data": data, "evaluation": {"generate": {}, **evaluation}}
    (tmp_path / "config.yaml").write_text(dump(SftConfig.model_validate(values)))
    store = CheckpointStore(tmp_path / "checkpoints", keep_last=9)
    for step in (1, 2, 3):
        store.save(step, {"model": {"w": torch.zeros(1)}}, extra={})
        store.record_score(step, step / 10)
    assert hf.choose(str(tmp_path), best=True).step == best


def test_a_resumed_run_replaces_its_export(tmp_path, tiny):
    make_run(tmp_path, tiny, steps=(1, 2))
    out = tmp_path / "model"
    hf.export(str(tmp_path), str(out), step=1)
    before = ModelFolder(out).read("model.norm.weight")
    with pytest.raises(CheckpointError, match="no checkpoint of step 9"):
        hf.export(str(tmp_path), str(out), step=9, replace=True)
    assert torch.equal(ModelFolder(out).read("model.norm.weight"), before)
    assert hf.export(str(tmp_path), str(out), replace=True) == 2
    assert not torch.equal(ModelFolder(out).read("model.norm.weight"), before)
    assert "# model\n" in (out / "README.md").read_text()
    assert not list(tmp_path.glob(".model*"))


def test_clear_errors(tmp_path, tiny):
    with pytest.raises(CheckpointError, match=r"not a run directory \(no config.yaml\)"):
        hf.export(str(tmp_path / "nowhere"), str(tmp_path / "out"))
    make_run(tmp_path, tiny)
    with pytest.raises(CheckpointError, match="already holds a model"):
        hf.export(str(tmp_path), tiny)
    small = make_model(["x"], tmp_path / "small", size="small")
    with pytest.raises(CheckpointError, match=r"another base model\?"):
        hf.export(str(tmp_path), str(tmp_path / "out"), base=str(small))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_family_is_exported_under_its_published_names(tmp_path, model_type):
    base = make_model(["a page of words"] * 9, tmp_path / "base", family=model_type)
    policy = make_run(tmp_path / "run", str(base))
    out = tmp_path / "out"
    hf.export(str(tmp_path / "run"), str(out))
    with safe_open(base / "model.safetensors", "pt") as before:
        names = set(before.keys())
    with safe_open(out / "model.safetensors", "pt") as file:
        assert set(file.keys()) == names
    model = AutoModelForImageTextToText.from_pretrained(out, dtype=torch.float32)
    trained = {adapters.plain_name(n): p for n, p in policy.named_parameters()}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, trained[name]), name
