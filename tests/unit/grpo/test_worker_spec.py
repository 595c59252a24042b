"""What engines are told of a run's configuration."""

import pytest

from olmrl.config import GrpoConfig, load
from olmrl.data.encode import EncoderSpec
from olmrl.grpo.training import worker_spec


def told(*overrides):
    config = load(GrpoConfig, None, ["model.path=m", "data.train=d", *overrides])
    return worker_spec(config, EncoderSpec("m"))


def test_engines_of_adapters_are_told_of_them():
    lora = "model.lora={rank: 4}"
    assert told(lora).lora is None and told(lora).transport == "nccl"
    alone = told(lora, "weight_sync.lora=adapter", "weight_sync.checksum=true")
    assert (alone.lora.rank, alone.transport, alone.checksum) == (4, "object_store", True)
    with pytest.raises(ValueError, match="sharded_rdt sends whole weights only"):
        told(lora, "weight_sync.lora=adapter", "weight_sync.transport=sharded_rdt")


@pytest.mark.parametrize("transport", ["auto", "object_store", "nccl_m2n"])
def test_weights_of_8_bit_engines_can_be_checked_over(transport):
    assert told(
        "rollout.quantization=fp8",
        "algorithm.correction.level=token",
        "weight_sync.checksum=true",
        f"weight_sync.transport={transport}",
    ).checksum


def test_a_transport_that_hides_weights_cannot_be_checked():
    hidden = ["rollout.quantization=fp8", "weight_sync.transport=sharded_rdt"]
    hidden.append("algorithm.correction.level=token")
    assert told(*hidden).config.quantization == "fp8"
    with pytest.raises(ValueError, match=r"weight_sync\.checksum: cannot compare .* over sharded_"):
        told(*hidden, "weight_sync.checksum=true")
