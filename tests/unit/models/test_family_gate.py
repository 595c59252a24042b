"""The gate of a family: a new one passes by being registered.

The reference is the model of transformers as it stands, in float32, one completion at a time.
"""

import json
import zlib
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from family_models import IDS, SIZE, make_family_config, make_family_model, make_page
from learner_tiny import BANNED, IMAGE, dense_logprobs, pack
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
from olmrl.models import adapters
from olmrl.models.cost import CostModel
from olmrl.models.family import UnknownPart
from olmrl.models.files import model_config
from olmrl.models.registry import FAMILIES, described, family
from olmrl.synth.model import make_model

TEMPERATURE = 0.8
GROUPS = [((4, 6), [5, 1, 9, 0]), ((12, 8), [4, 2])]
"""Image grids and completion lengths: unequal, one empty, two sizes of image."""


@pytest.fixture(params=FAMILIES)
def known(request):
    """Each family."""
    return FAMILIES[request.param]


def strategy_of(model, checkpointing=True, **keys):
    config = ModelConfig(path="tiny", dtype="float32", **keys)
    learner = LearnerConfig(use_gpu=False, activation_checkpointing=checkpointing)
    prepare_policy(model, config, activation_checkpointing=checkpointing)
    return FsdpStrategy(model, config, learner, HeadSpec(TEMPERATURE, BANNED, 3), total_steps=1)


def negative_sum(logprobs, entropy, inputs):
    """A loss in which every target counts differently."""
    weights = torch.arange(1, len(logprobs) + 1) / len(logprobs)
    loss = -(logprobs * weights).sum()
    return LossOutput(loss, {"loss/test": loss.detach()}, {"loss/test": 1.0})


def pages(model_type):
    return [make_page(model_type, i, grid, lengths) for i, (grid, lengths) in enumerate(GROUPS)]


def gradients_of(model):
    """By transformers' names."""
    return {
        adapters.plain_name(n): p.grad.numpy()
        for n, p in model.named_parameters()
        if p.requires_grad
    }


def dense(model):
    """Log-probs of every target and gradients, from a model as transformers runs it."""
    known = family(model.config.model_type, "test")
    logprobs = torch.cat(
        [
            dense_logprobs(
                model, page, tokens, TEMPERATURE, norm=known.image_settings.normalisation
            )[0]
            for page in pages(known.model_type)
            for tokens in page.completions
            if len(tokens)
        ]
    )
    negative_sum(logprobs, None, None).loss.backward()
    return logprobs.detach().numpy(), gradients_of(model)


@lru_cache
def dense_of(model_type):
    return dense(make_family_model(model_type))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = np.abs(gradient).max()
        assert scale > 0, f"{name} is not trained, the test would show nothing"
        assert np.abs(found[name] - gradient).max() <= 2e-4 * scale + 1e-6, name


@pytest.mark.parametrize(
    ("page_once", "checkpointing"),
    [(True, True), (True, False), (False, True)],
    ids=["page-once", "all activations kept", "dense"],
)
def test_packed_rows_equal_transformers_in_every_gradient(known, page_once, checkpointing):
    expected, gradients = dense_of(known.model_type)
    model = make_family_model(known.model_type)
    batch = pack(model, pages(known.model_type), page_once)
    strategy = strategy_of(model, checkpointing)
    assert strategy.logprobs(batch) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    strategy.forward_backward(batch, negative_sum)
    assert_same(gradients_of(strategy.policy.model), gradients)


def off_zero(model):
    """Adapters start with an up-projection of zeros, which would hide the down-projection."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if adapters.is_adapter(name):
                generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_adapters_in_both_stacks_get_transformers_own_gradients(known):
    shape = known.shape(make_family_config(known.model_type).to_dict())
    targets = {layer for stack in (*shape.stacks, shape.vision) for layer in stack.matrices}
    lora = LoraConfig(rank=2, alpha=2.0, dropout=0.0, target_modules=targets)
    plain = make_family_model(known.model_type)
    add_adapters(plain, lora)
    off_zero(plain)
    expected, gradients = dense(plain)
    model = make_family_model(known.model_type)
    batch = pack(model, pages(known.model_type))
    strategy = strategy_of(model, lora=lora)
    off_zero(model)
    assert strategy.logprobs(batch) == pytest.approx(expected, rel=2e-5, abs=1e-5)
    strategy.forward_backward(batch, negative_sum)
    assert_same(gradients_of(strategy.policy.model), gradients)


@pytest.mark.parametrize(
    "target",
    [
        "lm_head",
        "embed_tokens",
        "patch_embed.proj",
        "norm",
        "all-linear",
        "self_attn",
        "visual",
        "",
    ],
)
def test_targets_of_adapters_that_nothing_would_train_are_refused(known, target):
    model = make_family_model(known.model_type)
    lora = LoraConfig(target_modules=("q_proj", target))
    with pytest.raises(ValueError, match=r"^model\.lora\.target_modules: .*allowed: .*q_proj"):
        add_adapters(model, lora)


def test_every_adapted_layer_is_trained_sent_and_merged(known):
    model = make_family_model(known.model_type)
    with pytest.raises(ValueError, match="allowed: ") as caught:
        add_adapters(model, LoraConfig(target_modules=()))
    targets = tuple(str(caught.value).rpartition("allowed: ")[2].split(", "))
    strategy = strategy_of(model, lora=LoraConfig(rank=2, dropout=0.0, target_modules=targets))
    off_zero(model)
    strategy.forward_backward(pack(model, pages(known.model_type)), negative_sum)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trained.values())
    layers = {adapters.plain_name(adapters.adapter_part(n)[0]) + ".weight" for n in trained}
    sent = dict(strategy.named_weights(changing_only=True))
    assert layers <= sent.keys()
    before = make_family_model(known.model_type).state_dict()
    assert all(not torch.equal(sent[name], before[name]) for name in layers)


def test_a_row_of_two_pages_equals_the_pages_alone(known):
    model = make_family_model(known.model_type)
    together = pack(model, pages(known.model_type))
    alone = [pack(model, [page]) for page in pages(known.model_type)]
    strategy = strategy_of(model)
    apart = np.concatenate([strategy.logprobs(batch) for batch in alone])
    assert strategy.logprobs(together) == pytest.approx(apart, rel=1e-5, abs=1e-5)


def without_images(batch):
    """The row with words in place of its images."""
    return replace(
        batch,
        token_ids=np.where(batch.token_ids == IMAGE, 9, batch.token_ids),
        patches=batch.patches[:0],
        image_grid_thw=batch.image_grid_thw[:0],
    )


def test_a_row_without_images_gives_the_tower_gradients_of_zero(known):
    """Every parameter of a rank takes part in the collective calls of a step."""
    model = make_family_model(known.model_type)
    batch = without_images(pack(model, [make_page(known.model_type, 0, (4, 6), [3])]))
    positions = torch.from_numpy(batch.position_ids)[:, None]
    with torch.no_grad():
        plain = model(input_ids=torch.from_numpy(batch.token_ids)[None], position_ids=positions)
    logits = plain.logits[0, batch.predict_at] / TEMPERATURE
    logits[:, list(BANNED)] = -torch.inf
    expected = logits.log_softmax(-1)[range(3), batch.targets].numpy()
    strategy = strategy_of(model)
    assert strategy.logprobs(batch) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    strategy.forward_backward(batch, negative_sum)
    for name, gradient in gradients_of(strategy.policy.model).items():
        reached = known.part_of(name) in ("language", "head")
        assert (np.abs(gradient).max() > 0) == reached, name


def test_features_of_a_frozen_tower_are_kept_and_give_the_same(known):
    model = make_family_model(known.model_type)
    batch = pack(model, [make_page(known.model_type, 0, (4, 6), [5, 3])])
    strategy = strategy_of(model, freeze=FreezeConfig(vision=True, projector=True))
    calls = []
    known.tower(model).register_forward_hook(lambda *_: calls.append(1))
    first, again = strategy.logprobs(batch), strategy.logprobs(batch)
    assert np.array_equal(first, again) and len(calls) == 1


def test_a_restored_learner_goes_on_as_the_unbroken_one(known, tmp_path):
    def steps(strategy, number):
        for _ in range(number):
            strategy.forward_backward(batch, negative_sum)
            strategy.optim_step()

    batch = pack(make_family_model(known.model_type), pages(known.model_type))
    unbroken = strategy_of(make_family_model(known.model_type))
    steps(unbroken, 2)
    dcp.save(unbroken.state_dict(), checkpoint_id=tmp_path)
    steps(unbroken, 2)
    restored = strategy_of(make_family_model(known.model_type, seed=1))
    state = restored.state_dict()
    dcp.load(state, checkpoint_id=tmp_path)
    restored.load_state_dict(state)
    steps(restored, 2)
    for (name, a), (_, b) in zip(restored.named_weights(), unbroken.named_weights(), strict=True):
        assert torch.equal(a, b), name


def test_every_parameter_has_a_part_and_a_treatment(known):
    model = make_family_model(known.model_type)
    known.check(model)
    parts = {known.part_of(name) for name, _ in model.named_parameters(remove_duplicate=False)}
    assert parts == {"tower", "projector", "language", "head"}
    groups = group_parameters(model, model.lm_head, known)
    decayed = {id(p) for p in [*groups.matrices, *groups.head, *groups.embeddings]}
    for name, parameter in model.named_parameters():
        # a short convolution is a filter per channel, no matrix
        assert (id(parameter) in decayed) == (parameter.ndim > 1 and "conv1d" not in name), name


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
    # whole chunks of 64 tokens: torch also counts the padding of a recurrence
    ids = torch.tensor([[50] * 10 + [config.image_token_id] * 48 + [60] * 70])
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
    names = {adapters.plain_name(name) for name, _ in model.named_parameters()}
    assert {known.module_name(name) for name in written} == names
    published = {known.published_name(name) for name in names}
    assert {known.module_name(name) for name in published} == names
    assert len(published) == len(names)
    assert model_shape(str(folder)).parameters == sum(p.numel() for p in model.parameters())
    quantisable = {n.split(".")[-2] for n in names if known.is_quantisable(n)}
    stacks = known.shape(model.config.to_dict()).stacks
    # the gates of a recurrence have one output a head: too few to gain by, and they compound
    gates = {"in_proj_a", "in_proj_b"}
    assert quantisable == {layer for stack in stacks for layer in stack.matrices} - gates


@pytest.mark.parametrize(
    ("name", "published"),
    [  # totals that the Hub counts in the files
        ("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656),
        ("Qwen/Qwen2.5-VL-32B-Instruct", 33_452_718_336),
        ("Qwen/Qwen2-VL-2B-Instruct", 2_208_985_600),
        ("Qwen/Qwen2-VL-7B-Instruct", 8_291_375_616),
        ("Qwen/Qwen2-VL-72B-Instruct", 73_405_560_320),
        ("Qwen/Qwen3-VL-2B-Instruct", 2_127_532_032),
        ("Qwen/Qwen3-VL-4B-Instruct", 4_437_815_808),
        ("Qwen/Qwen3-VL-8B-Instruct", 8_767_123_696),
        ("Qwen/Qwen3.5-0.8B", 873_438_784),
        ("Qwen/Qwen3.5-2B", 2_274_069_824),
        ("Qwen/Qwen3.5-4B", 4_659_865_088),
        ("Qwen/Qwen3.5-9B", 9_653_104_368),
    ],
)
def test_model_shapes_have_the_published_parameter_counts(name, published):
    shape = model_shape(name)
    if "Qwen3.5" in name:
        # files also hold `mtp.*`: a projection of two states, three norms, an attending block
        published -= 2 * shape.hidden**2 + 3 * shape.hidden + shape.language.parameters
    assert shape.parameters == published


def test_the_tower_of_qwen3_5_2b_is_as_large_as_the_published_one():
    """By the headers of its file; `mtp.*` has the rest of the total above."""
    shape = model_shape("Qwen/Qwen3.5-2B")
    assert shape.tower_parameters + shape.merger_parameters == 331_416_576
    assert shape.language_parameters == 1_881_825_088


def test_fine_tunes_have_the_shape_of_their_base():
    assert described("allenai/olmOCR-2-7B-1025")[0].model_type == "qwen2_5_vl"
    assert described("nobody/knows-this") is None


def test_an_unknown_model_type_is_refused_with_the_supported_ones():
    with pytest.raises(ValueError, match=r"'llama', which olmrl cannot train; it trains Qwen2"):
        family("llama", "model.path: x")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "qwen3_vl_moe"}, r"'qwen3_vl_moe', a mixture of experts, which olmrl"),
        ({"model_type": "qwen3_vl_text"}, r"a language model without vision, which olmrl cannot"),
        ({"model_type": "qwen3_vl", "text_config": {}}, "no vision_config, and olmrl trains"),
    ],
)
def test_a_folder_of_an_untrainable_variant_is_refused(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    for read in (described, model_config):
        with pytest.raises(ValueError, match=message):
            read(str(tmp_path))


def test_a_mixture_of_experts_is_refused_by_its_name():
    with pytest.raises(ValueError, match="a mixture of experts that olmrl cannot train"):
        described("Qwen/Qwen3-VL-30B-A3B-Instruct")


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3.6-27B", "OpenGVLab/InternVL3-8B", "llava-hf/llava-1.5-7b-hf"]
)
def test_the_name_of_another_family_is_refused_unseen(name):
    with pytest.raises(ValueError, match=r"cannot train; it trains Qwen2\.5-VL"):
        described(name)
