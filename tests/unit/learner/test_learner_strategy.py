"""Sharding: precision, saving and restoring over other numbers of ranks, full weights."""

import functools

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from family_models import make_family_model, make_page
from learner_tiny import BANNED, make_group, make_model, pack
from torch.distributed.tensor import DTensor

from olmrl.config.schema import LearnerConfig, LoraConfig, ModelConfig, OptimizerConfig
from olmrl.learner.build import build_strategy, head_spec
from olmrl.learner.core import SftLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import prepare_policy
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.registry import FAMILIES


def _strategy(optimizer="adamw", learner_keys=None, seed=0, tie=True, **model_keys):
    config = ModelConfig(path="tiny", **({"dtype": "float32"} | model_keys))
    keys = {"use_gpu": False, "activation_checkpointing": False} | (learner_keys or {})
    learner = LearnerConfig(
        optimizer=OptimizerConfig(name=optimizer, lr=1e-3, warmup_steps=3), **keys
    )
    model = prepare_policy(make_model(seed, tie=tie), config)
    head = HeadSpec(1.0, BANNED, 8, learner.fp32_lm_head)
    return FsdpStrategy(model, config, learner, head, total_steps=20)


def _batches(model):
    return [pack(model, [make_group(i, (4, 6), [6, 3])]) for i in range(6)]


def _learn(strategy, steps):
    batches = _batches(make_model())
    learner = SftLearner(strategy)
    for step in steps:
        pair = batches[2 * (step % 3) : 2 * (step % 3) + 2]
        learner.step(pair[strategy.rank :: strategy.world_size])


def _weights(strategy):
    return {n: w.float().numpy().copy() for n, w in strategy.named_weights()}


def _gap(a, b):
    assert a.keys() == b.keys()
    return max(np.abs(a[n] - b[n]).max() for n in a)


def _save_after_two(folder, optimizer, model_keys):
    strategy = _strategy(optimizer, **model_keys)
    _learn(strategy, [0, 1])
    dcp.save(strategy.state_dict(), checkpoint_id=folder)
    at_save = _weights(strategy)
    _learn(strategy, [2, 3])
    return at_save, _weights(strategy)


def _restore_and_go_on(folder, optimizer, model_keys):
    strategy = _strategy(optimizer, seed=5, **model_keys)
    state = strategy.state_dict()
    dcp.load(state, checkpoint_id=folder)
    strategy.load_state_dict(state)
    restored = _weights(strategy)
    assert strategy.optim.steps == 2
    _learn(strategy, [2, 3])
    return restored, _weights(strategy)


@pytest.mark.parametrize(
    ("optimizer", "model_keys"),
    [
        ("adamw", {}),
        ("muon", {}),
        ("adamw", {"lora": LoraConfig(rank=2, dropout=0.0)}),
        ("adamw", {"dtype": "bfloat16", "master_dtype": "bfloat16"}),
        ("muon", {"dtype": "bfloat16", "master_dtype": "bfloat16"}),
    ],
    ids=["adamw", "muon", "lora", "bfloat16", "bfloat16 muon"],
)
def test_a_restored_run_equals_the_unbroken_one(tmp_path, optimizer, model_keys):
    at_save, unbroken = _save_after_two(str(tmp_path), optimizer, model_keys)
    if "lora" in model_keys:  # the frozen base is part of what is restored
        assert _gap(at_save, _weights(_strategy())) > 0
    restored, resumed = _restore_and_go_on(str(tmp_path), optimizer, model_keys)
    assert _gap(at_save, restored) == 0
    assert _gap(unbroken, resumed) == 0
    assert _gap(at_save, unbroken) > 1e-4


def test_a_run_saved_alone_goes_on_on_two_ranks(tmp_path, ranks):
    at_save, unbroken = _save_after_two(str(tmp_path), "adamw", {})
    for restored, resumed in ranks(_restore_and_go_on, str(tmp_path), "adamw", {}):
        assert _gap(at_save, restored) == 0
        assert _gap(unbroken, resumed) < 1e-4


def test_a_run_saved_on_two_ranks_goes_on_alone(tmp_path, ranks):
    (at_save, unbroken), _ = ranks(_save_after_two, str(tmp_path), "adamw", {})
    restored, resumed = _restore_and_go_on(str(tmp_path), "adamw", {})
    assert _gap(at_save, restored) == 0
    assert _gap(unbroken, resumed) < 1e-4


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_bfloat16_masters_saved_on_two_ranks_go_on_there_to_the_same_bits(
    tmp_path, ranks, optimizer
):
    rough = {"dtype": "bfloat16", "master_dtype": "bfloat16"}
    (at_save, unbroken), _ = ranks(_save_after_two, str(tmp_path), optimizer, rough)
    for restored, resumed in ranks(_restore_and_go_on, str(tmp_path), optimizer, rough):
        assert _gap(at_save, restored) == 0
        assert _gap(unbroken, resumed) == 0
    assert _gap(at_save, unbroken) > 1e-4


def _observe(learner_keys, model_keys):
    strategy = _strategy(learner_keys=learner_keys, **model_keys)
    batch = _batches(make_model())[0]
    found = strategy.logprobs(batch)
    _learn(strategy, [0])
    return found, _weights(strategy), {str(p.dtype) for p in strategy.policy.parameters()}


@pytest.mark.parametrize("wrap", ["block", "root"])
@pytest.mark.parametrize("tie", [True, False])
def test_bfloat16_computes_near_float32_masters(ranks, wrap, tie):
    exact, exact_weights, _ = _observe({}, {"tie": tie})
    rough = {"dtype": "bfloat16", "tie": tie}
    for found, weights, dtypes in ranks(_observe, {"wrap": wrap}, rough):
        assert dtypes == {"torch.float32"}
        assert 1e-4 < np.abs(found - exact).mean() < 0.3
        assert _gap(weights, exact_weights) < 5e-3
    headed = ranks(_observe, {"wrap": wrap, "fp32_lm_head": True}, rough)
    assert np.abs(headed[0][0] - exact).mean() < np.abs(found - exact).mean() * 1.2


def _weights_after_a_look(model_type):
    """Of a policy that computes in bfloat16: as it began, and after a pass without gradients."""
    model = make_family_model(model_type)
    before = {n: w.detach().numpy().copy() for n, w in model.named_parameters()}
    config = ModelConfig(path="tiny")
    model = prepare_policy(model, config)
    batch = pack(model, [make_page(model_type, 0, (4, 6), [6, 3])])
    learner = LearnerConfig(use_gpu=False)
    strategy = FsdpStrategy(model, config, learner, HeadSpec(1.0, BANNED, 8, True), total_steps=1)
    strategy.logprobs(batch)
    rounded = dict(strategy.named_weights(dtype=torch.bfloat16))
    kept = {name for name, tensor in rounded.items() if tensor.dtype == torch.float32}
    whole = {name: torch.from_numpy(values) for name, values in before.items()}
    same = all(torch.equal(rounded[n], w.to(rounded[n].dtype)) for n, w in whole.items())
    return _gap(before, {n: w for n, w in _weights(strategy).items() if n in before}), kept, same


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_5"])
def test_a_look_without_gradients_leaves_the_master_weights_to_read(ranks, model_type):
    for gap, kept, same in ranks(_weights_after_a_look, model_type):
        assert gap == 0 and same
        recurrent = FAMILIES[model_type].is_recurrent
        assert all(name.endswith("A_log") for name in kept) and bool(kept) == recurrent


def _head_logits_are_exact():
    """With fp32_lm_head the head multiplies by float32 weights that bfloat16 cannot hold."""
    strategy = _strategy(
        learner_keys={"fp32_lm_head": True, "wrap": "root"}, dtype="bfloat16", tie=False
    )
    seen = {}
    head = strategy.policy.model.lm_head
    head.register_forward_pre_hook(
        lambda module, args: seen.update(
            weight=module.weight.detach().clone(), hidden=args[0].detach().clone()
        )
    )
    strategy.logprobs(_batches(make_model())[0])
    expected = make_model(tie=False).lm_head.weight
    return str(seen["hidden"].dtype), torch.equal(seen["weight"], expected)


def test_the_float32_head_uses_the_master_weights(ranks):
    assert ranks(_head_logits_are_exact) == [("torch.bfloat16", True)] * 2


def test_a_strategy_is_built_from_configuration(tmp_path):
    make_model().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    model = ModelConfig(path=str(tmp_path), dtype="float32")
    learner = LearnerConfig(use_gpu=False, logprob_chunk=5)
    head = head_spec(learner, 0.8, BANNED)
    strategy = build_strategy(model, learner, head, total_steps=3, with_reference=True)
    batch = _batches(make_model())[0]
    np.testing.assert_allclose(
        strategy.logprobs(batch), strategy.reference_logprobs(batch), atol=1e-6
    )
    assert _gap(_weights(strategy), _weights(_strategy())) == 0


@pytest.mark.slow  # the compiler takes 20 s
@pytest.mark.parametrize("model_type", FAMILIES)
def test_compiled_blocks_compute_the_same(model_type):
    config = ModelConfig(path="tiny", dtype="float32")
    learner = LearnerConfig(use_gpu=False)
    found = []
    for compiled in (True, False):
        model = prepare_policy(make_family_model(model_type), config, compile_blocks=compiled)
        batch = pack(model, [make_page(model_type, 0, (4, 6), [6, 3])])
        strategy = FsdpStrategy(model, config, learner, HeadSpec(1.0, BANNED, 8), total_steps=20)
        found.append(strategy.logprobs(batch))
    np.testing.assert_allclose(*found, atol=1e-4)


def _graphs():
    """What the compiler is given in a learner step, as inputs' shapes, and the weights after it.

    A compiler that runs the graphs as they are; the real one takes 20 s.
    """
    shapes = []

    def backend(graph, inputs):
        shapes.append(tuple(sorted(tuple(map(int, x.shape)) for x in inputs if torch.is_tensor(x))))
        assert not any(isinstance(x, DTensor) for x in inputs), "sharded weights were compiled"
        return graph

    config = ModelConfig(path="tiny", dtype="float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
        model = prepare_policy(
            make_model(), config, activation_checkpointing=True, compile_blocks=True
        )
    learner = LearnerConfig(
        use_gpu=False, compile=True, optimizer=OptimizerConfig(lr=1e-3, warmup_steps=3)
    )
    strategy = FsdpStrategy(model, config, learner, HeadSpec(1.0, BANNED, 8), total_steps=20)
    _learn(strategy, [0])
    return shapes, _weights(strategy)


def test_fsdp_gives_whole_blocks_to_the_compiler_and_adds_next_to_nothing(ranks):
    alone, weights = _graphs()
    plain = _strategy()
    _learn(plain, [0])
    assert _gap(weights, _weights(plain)) < 1e-4
    for shapes, found in ranks(_graphs):
        assert set(shapes) == set(alone)
        assert len(alone) <= len(shapes) <= 1.3 * len(alone)
        assert _gap(found, weights) < 1e-4
