"""What a learner says at its start: which code computes, and which weights were left out."""

import json
import sys
import types

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations import hub_kernels

from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.learner.attention import describe_kernels
from olmrl.learner.build import build_strategy, head_spec
from olmrl.learner.describe import describe
from olmrl.models import delta_net
from olmrl.models.files import left_out
from olmrl.models.registry import FAMILIES
from olmrl.synth.model import make_model

INSTALL = "pip install flash-linear-attention causal-conv1d"


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    return make_model(["a page of words"] * 5, tmp_path / request.param, family=request.param)


def said(folder):
    learner = LearnerConfig(use_gpu=False)
    config = ModelConfig(path=str(folder))
    return describe(build_strategy(config, learner, head_spec(learner), total_steps=1))


def test_a_learner_on_a_cpu_names_its_attention_and_its_recurrence(folder):
    expected = ["attention: sdpa; in the vision tower: sdpa"]
    if FAMILIES[folder.name].is_recurrent:
        expected.append("recurrence: torch; short convolution: torch")
    assert said(folder) == expected


def test_weights_that_were_left_out_are_counted(folder):
    if folder.name != "qwen3_5":
        pytest.skip("only Qwen3.5 is published with such weights")
    extra = {"mtp.fc.weight": torch.ones(500, 400), "mtp.norm.weight": torch.ones(10).bfloat16()}
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    save_file(tensors | extra, weights, {"format": "pt"})
    assert left_out(str(folder)) == (2, 500 * 400 * 4 + 10 * 2)
    assert "left out: 2 tensors" in said(folder)[-1] and "(0.8 MB)" in said(folder)[-1]
    # the same in shards, of which one has none of them
    weights.unlink()
    placed = {}
    for number, part in enumerate((tensors, extra), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file(part, folder / file, {"format": "pt"})
        placed |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert left_out(str(folder)) == (2, 500 * 400 * 4 + 10 * 2)


def test_a_gpu_without_the_kernels_is_told_how_to_get_them():
    state, warning = delta_net.remarks(on_gpu=True)
    assert state == delta_net.remarks(on_gpu=False)[0]
    assert warning.startswith("warning: ") and warning.endswith(INSTALL)


def answer(*_, **__):
    return "by the kernel"


@pytest.fixture
def install(monkeypatch):
    """Puts a kernel where transformers looks for it."""

    def put(part):
        _, module, name = delta_net.KERNELS[part]
        package, *inner = module.split(".")
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
        for count in range(1, len(inner) + 1):
            path = ".".join((package, *inner[:count]))
            monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
        setattr(sys.modules[module], name, answer)

    return put


@pytest.mark.parametrize("part", delta_net.KERNELS)
def test_kernels_are_said_to_run_where_transformers_runs_them(install, part):
    package, module, name = delta_net.KERNELS[part]
    function = hub_kernels.use_kernel_func_from_hub_with_fallback(name, module.split(".")[0])
    assert function(lambda: "in torch")() == "in torch"
    assert f"{part}: torch" in delta_net.remarks(on_gpu=True)[0]
    install(part)
    assert function(lambda: "in torch")() == "by the kernel"
    state, warning = delta_net.remarks(on_gpu=True)
    assert f"{part}: {package}" in state
    assert package not in warning


def test_with_both_kernels_there_is_nothing_to_warn_of(install):
    for part in delta_net.KERNELS:
        install(part)
    assert delta_net.remarks(on_gpu=True) == [
        "recurrence: flash-linear-attention; short convolution: causal-conv1d"
    ]
    assert delta_net.remarks(on_gpu=False) == ["recurrence: torch; short convolution: torch"]


def test_a_package_that_fails_to_load_is_as_good_as_none(tmp_path, monkeypatch):
    (tmp_path / "causal_conv1d.py").write_text("raise RuntimeError('built for another torch')")
    monkeypatch.syspath_prepend(tmp_path)
    assert delta_net.remarks(on_gpu=True)[1].endswith(INSTALL)


@pytest.mark.parametrize(
    ("wanted", "dtype", "expected"),
    [
        ("auto", "bfloat16", "flex (flash-attn is not installed: pip install 'olmrl[flash-attn]')"),
        ("auto", "float32", "flex (flash computes in half precision)"),
        ("flex", "bfloat16", "flex"),
    ],
)
def test_a_gpu_is_told_why_attention_is_not_flash(wanted, dtype, expected):
    line = describe_kernels("flex", wanted, "cuda", dtype)
    assert line == f"attention: {expected}; in the vision tower: sdpa"
