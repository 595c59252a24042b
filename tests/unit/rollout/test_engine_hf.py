"""The hf engine's parts that need no model."""

from __future__ import annotations

import pytest
import torch

from olmrl.config.schema import ModelConfig, RolloutConfig
from olmrl.data.encode import EncoderSpec
from olmrl.learner.model import load_policy, plain_weights
from olmrl.models.registry import FAMILIES
from olmrl.rollout.engine_hf import HfEngine, spans
from olmrl.synth.model import make_model
from olmrl.types import PolicyVersion, VersionSpan
from olmrl.weight_sync.checksum import cast_and_count, differences
from olmrl.weight_sync.publication import pack


def test_spans_are_runs_of_equal_versions() -> None:
    a, b = PolicyVersion(1, 3), PolicyVersion(1, 4)
    assert spans([a, a, b, b, b]) == (VersionSpan(a, 0, 2), VersionSpan(b, 2, 5))
    assert spans([a]) == (VersionSpan(a, 0, 1),)
    assert spans([]) == ()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_bfloat16_engine_holds_what_was_sent_to_the_last_bit(model_type, tmp_path) -> None:
    """What a family keeps in float32 included, which no bfloat16 number equals."""
    known = FAMILIES[model_type]
    path = make_model(["a page"] * 5, tmp_path / "m", vocab_size=320, family=model_type)
    policy = load_policy(ModelConfig(path=str(path), master_dtype="float32"))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.01 * torch.rand_like(parameter))
    config = RolloutConfig(engine="hf", dtype="bfloat16", max_model_len=256)
    engine = HfEngine(EncoderSpec(str(path)).build(), config, device="cpu")
    try:
        sums: dict[str, tuple[int, int]] = {}
        named = plain_weights(policy, lambda p, dtype: p.detach().to(dtype=dtype))
        engine.start_weight_update()
        for bucket in pack(cast_and_count(named, torch.bfloat16, sums, known), 10**6):
            engine.update_weights(bucket.info(bucket.data))
        engine.finish_weight_update(PolicyVersion(1, 1), "recompute")
        assert differences(sums, engine.checksums(), known) == []
    finally:
        engine.close()
