"""8-bit copies: what is quantised, what the report says, and what is refused."""

import json

import numpy as np
import pytest
import torch
from compressed_tensors.quantization import QuantizationConfig
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

from olmrl.checkpoint.manifest import CheckpointError
from olmrl.export import fp8
from olmrl.export.emulate import ProbedModel, TokenScores
from olmrl.export.fp8 import quantise
from olmrl.export.parity import judge
from olmrl.export.recipes import RECIPES
from olmrl.export.rounding import FP8, Codes, decode
from olmrl.export.samples import CalibrationPages, load_samples
from olmrl.export.weights import ModelFolder
from olmrl.models.registry import FAMILIES
from olmrl.synth.pages import write_bench
from olmrl.types import Completion, PolicyVersion, VersionSpan


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    write_bench(folder, "train", 2, seed=3, difficulty=1)
    return str(folder / "train")


@pytest.fixture(scope="session")
def squares(tmp_path_factory, tiny):
    """The tiny model with all language widths multiples of 128."""
    config = AutoConfig.from_pretrained(tiny)
    config.text_config.num_key_value_heads = 4
    config.text_config.intermediate_size = 256
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("squares")
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("recipe", ["w8a8_dynamic", "w8a16", "int8_dynamic"])
def test_only_language_linears_are_quantised(tmp_path, tiny, recipe):
    report = quantise(tiny, str(tmp_path / "q"), recipe, dtype="float32")
    before, after = ModelFolder(tiny), ModelFolder(tmp_path / "q")
    number = torch.int8 if recipe.startswith("int8") else FP8
    linears = {f"model.layers.{i}.{m}_proj.weight" for i in (0, 1) for m in LINEARS}
    assert {n for n, e in after.entries.items() if e.dtype == number} == linears
    assert set(after.entries) - set(before.entries) == {f"{n}_scale" for n in linears}
    for name in before.entries:
        if name in linears:
            codes = Codes(after.read(name), after.read(f"{name}_scale"))
            exact = before.read(name)
            error = (decode(codes) - exact).norm() / exact.norm()
            assert report.errors[name] == pytest.approx(error.item())
            assert error < 0.05
        else:
            assert torch.equal(after.read(name), before.read(name))
    assert report.bytes_after == after.num_bytes < report.bytes_before == before.num_bytes
    assert (tmp_path / "q" / "tokenizer.json").exists()


LINEARS = [*(f"self_attn.{p}" for p in "qkvo"), "mlp.gate", "mlp.up", "mlp.down"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_config_is_valid_compressed_tensors(recipe):
    described = fp8.quantization_config(RECIPES[recipe], FAMILIES["qwen2_5_vl"])
    read = QuantizationConfig.model_validate(json.loads(json.dumps(described)))
    group = read.config_groups["group_0"]
    assert read.ignore == ["lm_head", "re:.*visual.*"]
    assert group.weights.num_bits == 8 and not group.weights.dynamic
    assert (group.input_activations is None) == (recipe == "w8a16")
    assert (read.kv_cache_scheme is not None) == (recipe == "kv8")


def test_block_scales(tmp_path, squares, tiny):
    quantise(squares, str(tmp_path / "q"), "w8a8_block")
    after = ModelFolder(tmp_path / "q")
    assert after.entries["model.layers.0.mlp.up_proj.weight_scale"].shape == (2, 1)
    assert after.entries["model.embed_tokens.weight"].dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match=r"down_proj.weight has shape \[128, 320\].*w8a8_dyn"):
        quantise(tiny, str(tmp_path / "r"), "w8a8_block")


@pytest.mark.parametrize("recipe", ["kv8", "int8"])
def test_static_scales_come_from_pages(tmp_path, tiny, bench, recipe):
    pages = CalibrationPages(bench, limit=2, longest_side=200, max_tokens=64)
    report = quantise(tiny, str(tmp_path / "q"), recipe, pages=pages, dtype="float32")
    folder = ModelFolder(tmp_path / "q")
    samples = load_samples(pages, tiny)
    seen = largest_inputs(tiny, samples)
    if recipe == "int8":
        for name, largest in seen.items():
            scale = folder.read(name.replace(".weight", ".input_scale")).item()
            assert scale == pytest.approx(largest / 127, rel=1e-4)
    else:
        scale = folder.read("model.layers.1.self_attn.v_scale").item()
        assert scale == pytest.approx(largest_value(tiny, samples) / 448, rel=1e-4)
        assert folder.read("model.layers.0.self_attn.k_scale").item() > 0
    assert report.gap.tokens == sum(len(s.response_ids) for s in samples)
    assert 0 < report.gap.mean < 1
    assert report.gap.mean <= report.gap.largest


def largest_inputs(tiny, samples):
    """Largest input of each layer, seen by plain hooks on a plain model."""
    probe, seen = ProbedModel(tiny, torch.float32), {}
    for name, module in probe.model.model.language_model.layers.named_modules():
        if isinstance(module, torch.nn.Linear):

            def note(_, arguments, name=f"model.layers.{name}.weight"):
                seen[name] = max(seen.get(name, 0), arguments[0].abs().max().item())

            module.register_forward_pre_hook(note)
    for sample in samples:
        probe.score(sample)
    return seen


def largest_value(tiny, samples):
    probe, seen = ProbedModel(tiny, torch.float32), []
    layer = probe.model.model.language_model.layers[1].self_attn.v_proj
    layer.register_forward_hook(lambda *a: seen.append(a[2].abs().max().item()))
    for sample in samples:
        probe.score(sample)
    return max(seen)


def test_the_gap_grows_with_the_rounding(tmp_path, tiny, bench):
    pages = CalibrationPages(bench, limit=2, longest_side=200, max_tokens=64)
    gaps = {
        recipe: quantise(tiny, str(tmp_path / recipe), recipe, pages=pages, dtype="float32").gap
        for recipe in ("int8_dynamic", "w8a8_dynamic", "kv8")
    }
    assert gaps["int8_dynamic"].mean < gaps["w8a8_dynamic"].mean != gaps["kv8"].mean
    assert gaps["int8_dynamic"].same_top >= gaps["w8a8_dynamic"].same_top


def test_refusals(tmp_path, tiny, bench):
    with pytest.raises(CheckpointError, match="unknown; allowed: w8a8_dynamic"):
        quantise(tiny, str(tmp_path / "q"), "fp4")
    with pytest.raises(CheckpointError, match="static scales; give it --pages"):
        quantise(tiny, str(tmp_path / "q"), "int8")
    with pytest.raises(CheckpointError, match="not a model folder"):
        quantise(bench, str(tmp_path / "q"))
    quantise(tiny, str(tmp_path / "q"))
    with pytest.raises(CheckpointError, match="is quantised already"):
        quantise(str(tmp_path / "q"), str(tmp_path / "r"))
    with pytest.raises(CheckpointError, match="already holds a model"):
        quantise(tiny, str(tmp_path / "q"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    (other / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match=r"type is 'bert', which olmrl cannot"):
        quantise(str(other), str(tmp_path / "s"))


def test_which_tensors_are_targets():
    is_target = FAMILIES["qwen2_5_vl"].is_quantisable
    assert is_target("model.language_model.layers.3.mlp.down_proj.weight")
    assert is_target("model.layers.3.mlp.down_proj.weight")
    assert not is_target("visual.blocks.0.mlp.down_proj.weight")
    assert not is_target("model.visual.blocks.0.mlp.down_proj.weight")
    assert not is_target("model.layers.3.self_attn.q_proj.bias")
    assert not is_target("lm_head.weight")


def completion(ids, logprobs):
    return Completion(
        group_id="g",
        index=0,
        token_ids=np.array(ids, np.int32),
        logprobs=np.array(logprobs, np.float32),
        versions=(VersionSpan(PolicyVersion(0, 0), 0, len(ids)),),
        finish_reason="stop",
        text="",
        prompt_token_ids=np.zeros(1, np.int32),
    )


def scored(logprobs, is_top, top_ids):
    return TokenScores(
        np.array(logprobs, np.float32), np.array(is_top, bool), np.array(top_ids, np.int64)
    )


def test_parity_counts_and_ranks_disagreement():
    views = [scored([-0.1, -0.5, -2.0], [1, 1, 0], [5, 6, 9]), scored([-0.3], [1], [8])]
    completions = [completion([5, 6, 7], [-0.1, -0.4, -0.5]), completion([8], [-0.3])]
    found = judge(["a", "b"], completions, views, lambda ids: f"<{ids[0]}>", worst=2)
    assert found.match_rate == 0.75
    assert found.mean_gap == pytest.approx(1.6 / 4)
    assert found.largest_gap == pytest.approx(1.5)
    assert found.outliers == 0.25
    assert [page.first_mismatch for page in found.pages] == [2, None]
    worst = found.worst[0]
    assert (worst.page_id, worst.position, worst.token, worst.preferred) == ("a", 2, "<7>", "<9>")
    assert len(found.worst) == 2
    with pytest.raises(ValueError, match="no token"):
        judge(["a"], [completion([], [])], [scored([], [], [])], str)
