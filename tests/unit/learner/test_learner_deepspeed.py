"""DeepSpeed against FSDP2: the same losses, weights and resumption."""

import shutil

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
import yaml
from family_models import make_family_model
from learner_tiny import BANNED, make_group, make_model, pack

from olmrl.checkpoint.state import CheckpointStore
from olmrl.config.schema import LearnerConfig, ModelConfig, OptimizerConfig
from olmrl.export import hf
from olmrl.learner.core import SftLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import prepare_policy
from olmrl.learner.optim import NonFiniteStep
from olmrl.learner.strategy import ensure_process_group
from olmrl.learner.strategy_deepspeed import DeepspeedStrategy, _refuse_non_finite
from olmrl.learner.strategy_fsdp import FsdpStrategy

compiled = pytest.mark.skipif(
    shutil.which("g++") is None, reason="DeepSpeed compiles its CPU collectives, which needs g++"
)


def _strategy(kind, stage=2, dtype="float32", seed=0, path=None, offload=False):
    config = ModelConfig(path="tiny", dtype=dtype)
    optimizer = OptimizerConfig(lr=1e-3, warmup_steps=3, weight_decay=0.1)
    learner = LearnerConfig(
        use_gpu=False, strategy=kind, zero_stage=stage, optimizer=optimizer, cpu_offload=offload
    )
    start = make_model(seed) if path is None else type(make_model()).from_pretrained(path)
    model = prepare_policy(start, config, activation_checkpointing=True)
    made = {"fsdp": FsdpStrategy, "deepspeed": DeepspeedStrategy}[kind]
    return made(model, config, learner, HeadSpec(1.0, BANNED, 8), total_steps=20)


def _weights(strategy):
    return {n: w.float().numpy().copy() for n, w in strategy.named_weights()}


def _learn(strategy, steps):
    model = make_model()
    batches = [pack(model, [make_group(i, (4, 6), [6, 3])]) for i in range(12)]
    learner = SftLearner(strategy)
    for step in steps:
        four = batches[4 * (step % 3) : 4 * (step % 3) + 4]
        row = learner.step(four[strategy.rank :: strategy.world_size])
    return row["policy/grad_norm"].value()


def _train(kind, stage=2, dtype="float32", offload=False):
    strategy = _strategy(kind, stage, dtype, offload=offload)
    norm = _learn(strategy, [0, 1, 2])
    return _weights(strategy), norm, strategy.optim.lr


def _distance(a, b):
    return np.sqrt(sum(((a[n] - b[n]) ** 2).sum() for n in a))


def _gap(a, b):
    assert a.keys() == b.keys()
    return max(np.abs(a[n] - b[n]).max() for n in a)


@compiled
@pytest.mark.parametrize(("stage", "offload"), [(2, False), (3, False), (2, True), (3, True)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.01), ("bfloat16", 0.1)])
def test_deepspeed_learns_what_fsdp_learns(ranks, stage, offload, dtype, tolerance):
    expected, norm, rate = ranks(_train, "fsdp", 2, dtype)[0]
    # A share of the way that three steps went: Adam moves a weight by the sign of its gradient,
    # so rounding turns single weights whose gradients are next to nothing the other way.
    way = _distance(expected, _weights(_strategy("fsdp")))
    for weights, found_norm, found_rate in ranks(_train, "deepspeed", stage, dtype, offload):
        assert _distance(weights, expected) < tolerance * way
        assert found_norm == pytest.approx(norm, rel=1e-3 if dtype == "float32" else 0.1)
        assert found_rate == pytest.approx(rate)


def _save(folder, stage):
    strategy = _strategy("deepspeed", stage)
    _learn(strategy, [0, 1])
    dcp.save(strategy.state_dict(), checkpoint_id=folder)
    at_save = _weights(strategy)
    _learn(strategy, [2, 3])
    return at_save, _weights(strategy)


def _restore(folder, stage):
    strategy = _strategy("deepspeed", stage, seed=5)
    state = strategy.state_dict()
    dcp.load(state, checkpoint_id=folder)
    strategy.load_state_dict(state)
    restored = _weights(strategy)
    _learn(strategy, [2, 3])
    return restored, _weights(strategy)


@compiled
@pytest.mark.parametrize("stage", [2, 3])
def test_a_restored_deepspeed_run_equals_the_unbroken_one(tmp_path, ranks, stage):
    at_save, unbroken = ranks(_save, str(tmp_path), stage)[0]
    for restored, resumed in ranks(_restore, str(tmp_path), stage):
        assert _gap(at_save, restored) == 0
        assert _gap(unbroken, resumed) < 1e-5
    assert _gap(at_save, unbroken) > 1e-4


def _save_a_run(run, kind):
    strategy = _strategy(kind)
    _learn(strategy, [0, 1])
    CheckpointStore(f"{run}/checkpoints").save(2, strategy.state_dict(), extra={})
    return _weights(strategy)


def _start_from(path, kind):
    strategy = _strategy(kind, 3, seed=9, path=path)
    found = _weights(strategy)
    _learn(strategy, [2])
    return found


@compiled
@pytest.mark.parametrize(("one", "other"), [("fsdp", "deepspeed"), ("deepspeed", "fsdp")])
def test_a_run_of_one_strategy_goes_on_under_the_other_through_the_hf_form(
    tmp_path, ranks, one, other
):
    saved = ranks(_save_a_run, str(tmp_path), one)[0]
    make_model().save_pretrained(tmp_path / "base")
    config = {"model": {"path": str(tmp_path / "base"), "dtype": "float32"}}
    config |= {"algorithm": {}, "data": {"prompt": "olmrl-v1", "longest_side": 64}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    hf.export(str(tmp_path), str(tmp_path / "model"))
    for found in ranks(_start_from, str(tmp_path / "model"), other):
        assert _gap(found, saved) == 0


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"optimizer": {"name": "muon"}}, "muon cannot update"),
        ({"fp32_lm_head": True}, r"learner\.fp32_lm_head"),
    ],
)
def test_settings_deepspeed_cannot_honour_are_refused(learner, message):
    config = ModelConfig(path="tiny", dtype="float32")
    keys = LearnerConfig(use_gpu=False, strategy="deepspeed", **learner)
    model = prepare_policy(make_model(), config)
    with pytest.raises(ValueError, match=message):
        DeepspeedStrategy(model, config, keys, HeadSpec(), total_steps=3)


def test_a_decay_that_bfloat16_would_round_is_refused():
    config = ModelConfig(path="tiny", dtype="bfloat16")
    keys = LearnerConfig(use_gpu=False, strategy="deepspeed")
    model = prepare_policy(make_family_model("qwen3_5"), config)
    with pytest.raises(ValueError, match=r"Qwen3\.5 needs .* in float32; set learner\.strategy"):
        DeepspeedStrategy(model, config, keys, HeadSpec(), total_steps=3)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_adamw_never_takes_gradients_that_are_not_finite(bad):
    ensure_process_group(torch.device("cpu"))
    weights = [torch.nn.Parameter(torch.ones(8, 3)) for _ in range(3)]
    optimizer = torch.optim.AdamW(weights, lr=0.1)
    optimizer.register_step_pre_hook(_refuse_non_finite)
    for weight in weights[:2]:  # the third has none
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert (weights[1] < 1).all()
    weights[1].grad[7, 2] = bad
    before = weights[0].detach().clone()
    with pytest.raises(NonFiniteStep, match="NaN or infinite"):
        optimizer.step()
    assert torch.equal(weights[0], before)
