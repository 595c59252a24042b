"""The gate of a family: a new one passes by being registered.

The reference is the model of transformers as it stands, in float32, one completion at a time.
"""

import json

import numpy as np
import pytest
import torch
from family_models import IDS, SIZE, make_family_config, make_family_model
from learner_tiny import BANNED, dense_logprobs, make_group, pack
from safetensors import safe_open
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from olmrl.cluster.shape import model_shape
from olmrl.config.schema import FreezeConfig, LearnerConfig, LoraConfig, ModelConfig
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.loss import LossOutput
from olmrl.learner.model import add_adapters, freeze, load_policy, prepare_policy
from olmrl.learner.optim import group_parameters
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.cost import CostModel
from olmrl.models.family import UnknownPart
from olmrl.models.registry import FAMILIES, described, family
from olmrl.synth.model import make_model

TEMPERATURE = 0.8
GROUPS = [((4, 6), [5, 1, 9, 0]), ((12, 8), [4, 2])]
"""Image grids and completion lengths: unequal, one empty, two sizes of image."""


@pytest.fixture(params=FAMILIES)
def known(request):
    """Each family."""
    return FAMILIES[request.param]


def strategy_of(model, **keys):
    config = ModelConfig(path="tiny", dtype="float32", **keys)
    learner = LearnerConfig(use_gpu=False)
    prepare_policy(model, config, activation_checkpointing=learner.activation_checkpointing)
    return FsdpStrategy(model, config, learner, HeadSpec(TEMPERATURE, BANNED, 3), total_steps=1)


def negative_sum(logprobs, entropy, inputs):
    """A loss in which every target counts differently."""
    weights = torch.arange(1, len(logprobs) + 1) / len(logprobs)
    loss = -(logprobs * weights).sum()
    return LossOutput(loss, {"loss/test": loss.detach()}, {"loss/test": 1.0})


def dense(model_type):
    """Log-probs of every target and gradients, from the model as transformers runs it."""
    model = make_family_model(model_type)
    groups = [make_group(i, grid, lengths) for i, (grid, lengths) in enumerate(GROUPS)]
    logprobs = torch.cat(
        [
            dense_logprobs(model, group, tokens, TEMPERATURE)[0]
            for group in groups
            for tokens in group.completions
            if len(tokens)
        ]
    )
    negative_sum(logprobs, None, None).loss.backward()
    return logprobs.detach().numpy(), {n: p.grad.numpy() for n, p in model.named_parameters()}


@pytest.mark.parametrize("page_once", [True, False], ids=["page-once", "dense"])
def test_packed_rows_equal_transformers_in_every_gradient(known, page_once):
    expected, gradients = dense(known.model_type)
    model = make_family_model(known.model_type)
    groups = [make_group(i, grid, lengths) for i, (grid, lengths) in enumerate(GROUPS)]
    batch = pack(model, groups, page_once)
    strategy = strategy_of(model)
    assert strategy.logprobs(batch) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    strategy.forward_backward(batch, negative_sum)
    for name, parameter in strategy.policy.model.named_parameters():
        scale = np.abs(gradients[name]).max()
        assert scale > 0, f"{name} is not trained, the test would show nothing"
        assert np.abs(parameter.grad.numpy() - gradients[name]).max() <= 2e-4 * scale + 1e-6, name


def test_features_of_a_frozen_tower_are_kept_and_give_the_same(known):
    model = make_family_model(known.model_type)
    batch = pack(model, [make_group(0, (4, 6), [5, 3])])
    strategy = strategy_of(model, freeze=FreezeConfig(vision=True, projector=True))
    calls = []
    known.tower(model).register_forward_hook(lambda *_: calls.append(1))
    first, again = strategy.logprobs(batch), strategy.logprobs(batch)
    assert np.array_equal(first, again) and len(calls) == 1


def test_every_parameter_has_a_part_and_a_treatment(known):
    model = make_family_model(known.model_type)
    known.check(model)
    parts = {known.part_of(name) for name, _ in model.named_parameters(remove_duplicate=False)}
    assert parts == {"tower", "projector", "language", "head"}
    groups = group_parameters(model, model.lm_head, known)
    decayed = {id(p) for p in [*groups.matrices, *groups.head, *groups.embeddings]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim > 1), name


def test_what_a_family_does_not_know_is_an_error_that_names_it(known):
    model = make_family_model(known.model_type)
    known.language(model).extra = nn.PReLU()
    with pytest.raises(UnknownPart, match=r"PReLU\.weight"):
        known.check(model)
    model = make_family_model(known.model_type)
    model.audio = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"audio\.weight belongs to no part"):
        prepare_policy(model, ModelConfig(path="tiny", dtype="float32"))


def test_shapes_count_every_parameter(known):
    config = make_family_config(known.model_type)
    shape = known.shape(json.loads(config.to_json_string(use_diff=False)))
    model = make_family_model(known.model_type)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    by_part = {"vision": "tower", "projector": "projector", "language": "language"}
    for key in by_part:
        parts = FreezeConfig(**{key: True})
        model = make_family_model(known.model_type)
        freeze(model, parts)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert shape.trained(ModelConfig(path="x", freeze=parts)) == trained
    targets = (*shape.language.stages[0], *shape.vision.stages[-1])
    lora = LoraConfig(rank=4, target_modules=targets)
    model = make_family_model(known.model_type)
    add_adapters(model, lora)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert shape.trained(ModelConfig(path="x", lora=lora)) == trained


def test_operations_are_those_that_torch_counts(known):
    config = known.tiny_config(SIZE, IDS, 64, 0.2)  # no windows: torch would count what is masked
    model = known.model_class()._from_config(config, attn_implementation="eager")
    grid = np.array([[1, 16, 12]])
    ids = torch.tensor([[50] * 10 + [config.image_token_id] * 48 + [60] * 30])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(
            input_ids=ids,
            pixel_values=torch.rand(192, known.shape(config.to_dict()).patch_width),
            image_grid_thw=torch.from_numpy(grid),
            mm_token_type_ids=(ids == config.image_token_id).long(),
            use_cache=False,
        )
    tokens = ids.shape[1]
    cost = CostModel.of(known.shape(config.to_dict())).parts(tokens, tokens**2, tokens, grid)
    assert cost == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_names_lead_from_modules_to_files_and_back(known, tmp_path):
    folder = make_model(["a page of words"] * 9, tmp_path / "m", family=known.model_type)
    with safe_open(folder / "model.safetensors", "pt") as file:
        written = set(file.keys())
    model = load_policy(ModelConfig(path=str(folder), master_dtype="float32"))
    names = {name for name, _ in model.named_parameters()}
    assert {known.module_name(name) for name in written} == names
    published = {known.published_name(name) for name in names}
    assert {known.module_name(name) for name in published} == names
    assert len(published) == len(names)
    assert model_shape(str(folder)).parameters == sum(p.numel() for p in model.parameters())
    quantisable = {n.split(".")[-2] for n in names if known.is_quantisable(n)}
    assert quantisable == set(known.shape(model.config.to_dict()).language.matrices)


@pytest.mark.parametrize(
    ("name", "billions"),
    [  # stated on the model cards' safetensors index
        ("Qwen/Qwen2.5-VL-3B-Instruct", 3.755),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 8.292),
        ("Qwen/Qwen2-VL-2B-Instruct", 2.209),
        ("Qwen/Qwen2-VL-7B-Instruct", 8.291),
    ],
)
def test_model_shapes_have_the_published_parameter_counts(name, billions):
    assert model_shape(name).parameters == pytest.approx(billions * 1e9, rel=2e-3)


def test_fine_tunes_have_the_shape_of_their_base():
    assert described("allenai/olmOCR-2-7B-1025")[0].model_type == "qwen2_5_vl"
    assert described("nobody/knows-this") is None


def test_an_unknown_model_type_is_refused_with_the_supported_ones():
    with pytest.raises(ValueError, match=r"'llama', which olmrl cannot train; it trains Qwen2"):
        family("llama", "model.path: x")


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3.5-9B", "llava-hf/llava-1.5-7b-hf"]
)
def test_the_name_of_another_family_is_refused_unseen(name):
    with pytest.raises(ValueError, match=r"cannot train; it trains Qwen2\.5-VL"):
        described(name)
