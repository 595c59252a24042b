"""What vLLM is asked for, held against vLLM's own interfaces; no engine is started."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from family_models import make_family_config, make_family_model

from olmrl.config.schema import ENGINE_RANKS, LoraConfig, RolloutConfig
from olmrl.models.registry import FAMILIES

vllm = pytest.importorskip("vllm", reason="the vllm engine is an extra")


@pytest.fixture(params=sorted(FAMILIES))
def family(request):
    return FAMILIES[request.param]


def arguments(family, lora=None, **settings):
    from olmrl.rollout.engine_vllm import engine_arguments

    encoder = SimpleNamespace(model_path="model", family=family)
    return engine_arguments(encoder, RolloutConfig(**settings), "olmrl_store", 0, False, lora)


def test_vllm_rounds_the_layers_that_an_export_rounds_and_no_others(family):
    from vllm.config.quantization import resolve_quantization_config
    from vllm.model_executor.layers.linear import LinearBase
    from vllm.model_executor.layers.quantization.online.base import OnlineQuantizationConfig
    from vllm.model_executor.layers.quantization.online.fp8 import Fp8PtpcOnlineLinearMethod

    asked = arguments(family, quantization="fp8")
    online = OnlineQuantizationConfig(
        resolve_quantization_config(asked["quantization"], asked["quantization_config"])
    )
    model = make_family_model(family.model_type)
    architecture = vllm.ModelRegistry.models[type(model).__name__].load_model_cls()
    online.packed_modules_mapping = architecture.packed_modules_mapping
    rounded = 0
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear):
            continue
        layer = family.engine_name(f"{name}.weight").removesuffix(".weight")
        found = online.resolve_quant_method_cls(LinearBase, layer)
        assert (found is not None) == family.is_quantisable(f"{name}.weight"), (name, layer)
        if found is not None:
            assert found[-1] is Fp8PtpcOnlineLinearMethod
            rounded += module.weight.numel()
    shape = family.shape(make_family_config(family.model_type).to_dict())
    assert rounded == family.quantised_parameters(shape) > 0


def test_an_engine_that_is_not_quantised_asks_for_nothing(family):
    assert not {"quantization", "enable_lora"} & arguments(family).keys()


@pytest.mark.parametrize(("rank", "buffers"), [(1, 1), (3, 8), (64, 64), (300, 320), (512, 512)])
def test_vllm_has_buffers_for_the_adapter(rank, buffers):
    from vllm.config.lora import LoRAConfig

    asked = arguments(FAMILIES["qwen2_5_vl"], LoraConfig(rank=rank, target_modules=("q_proj",)))
    assert asked["max_lora_rank"] == buffers
    taken = LoRAConfig(
        max_loras=asked["max_loras"],
        max_lora_rank=asked["max_lora_rank"],
        target_modules=asked["lora_target_modules"],
    )
    assert taken.max_cpu_loras == 1, "an adapter takes the place of the one before it"
    with pytest.raises(ValueError, match="max_lora_rank"):
        LoRAConfig(max_lora_rank=ENGINE_RANKS[-1] + 1)


def test_arguments_are_ones_that_vllm_has(family):
    from vllm.engine.arg_utils import EngineArgs

    asked = arguments(family, LoraConfig(), quantization="fp8")
    assert asked.keys() <= EngineArgs.__dataclass_fields__.keys()


def test_of_rounded_layers_the_checksum_is_that_of_what_arrived(family):
    """The worker's part, on a module that vLLM's loading would have rounded."""
    from vllm.model_executor.layers.quantization.online.fp8 import Fp8PtpcOnlineLinearMethod

    from olmrl.rollout.vllm_worker import WorkerExtension
    from olmrl.weight_sync.checksum import checksums, differences, renamed

    learner = make_family_model(family.model_type)
    model = make_family_model(family.model_type, seed=1)
    model.load_weights = lambda weights: model.load_state_dict(dict(weights))
    worker = WorkerExtension()
    worker.model_runner = SimpleNamespace(
        model=model,
        get_model=lambda: model,
        model_config=SimpleNamespace(dtype=torch.float32),
    )
    worker.olmrl_watch_arrivals()
    model.load_weights(learner.state_dict().items())
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and family.is_quantisable(f"{name}.weight"):
            module.quant_method = object.__new__(Fp8PtpcOnlineLinearMethod)
            module.weight.data = module.weight.data.to(torch.float8_e4m3fn)
    held = worker.olmrl_checksums(family.float32)
    found = renamed(worker.olmrl_arrivals(), family) | renamed(held, family)
    expected = checksums(learner.state_dict().items(), family)
    assert differences(expected, [found], family) == []
    changed = dict(learner.state_dict())
    name = next(name for name in changed if family.is_quantisable(name))
    changed[name] = changed[name] + 1e-3
    assert differences(checksums(changed.items(), family), [found], family)


def test_vllm_looks_at_a_class_in_the_engines_process(family, monkeypatch, tmp_path):
    from vllm.model_executor.models import registry

    from olmrl.rollout.vllm_registry import inspect_here

    def another_process(*_):
        raise AssertionError("vLLM started a process")

    name = type(make_family_model(family.model_type)).__name__
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))  # nothing was found before
    monkeypatch.setattr(registry, "_run_in_subprocess", another_process)
    models = dict(vllm.ModelRegistry.models)
    monkeypatch.setattr(vllm.ModelRegistry, "models", models)
    with pytest.raises(AssertionError, match="started a process"):
        models[name].inspect_model_cls()
    inspect_here([name, "NoSuchModel"])
    assert models[name].inspect_model_cls().supports_multimodal
