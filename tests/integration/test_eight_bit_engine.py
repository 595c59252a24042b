"""vLLM with 8-bit weights, in its CPU build: what syncs bring it, and how far it strays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from engine_driver import DRAW, Driver, Reference, page, start_driver

from olmrl.models.registry import FAMILIES
from olmrl.synth.model import make_model
from olmrl.types import PolicyVersion
from olmrl.weight_sync import checksum
from olmrl.weight_sync.bucket import Publication
from olmrl.weight_sync.publication import pack

FURTHER = [name for name in FAMILIES if name != "qwen2_5_vl"]


class Policy(Reference):
    """A learner that sends bfloat16."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.family = FAMILIES[self.model.config.model_type]

    def sent(self) -> dict[str, torch.Tensor]:
        return {
            name: tensor if re.fullmatch(self.family.float32, name) else tensor.bfloat16()
            for name, tensor in self.model.state_dict().items()
        }

    def publication(self, version: PolicyVersion) -> Publication:
        packed = pack(self.sent().items(), 300_000)
        return Publication(version, tuple(replace(b, data=ray.put(b.data)) for b in packed), 0)


@pytest.fixture(
    scope="module",
    params=["qwen2_5_vl", *(pytest.param(name, marks=pytest.mark.slow) for name in FURTHER)],
)
def driver(
    request: pytest.FixtureRequest, engine_job: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    pytest.importorskip("vllm", reason="the vllm engine is an extra")
    texts = ["a page of words, a table and 1 2 3 numbers"] * 5
    folder = tmp_path_factory.mktemp("eight") / request.param
    path = make_model(texts, folder, vocab_size=320, family=request.param)
    started = start_driver("vllm", path, dtype="bfloat16", quantization="fp8")
    yield started
    ray.kill(started.handle)


def test_weights_arrive_whole_and_are_rounded_again_at_every_sync(driver: Driver) -> None:
    policy = Policy(driver.path)
    for step in (1, 2):
        before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
        policy.perturb(step, scale=0.1)
        driver.sync(policy)
        found, sent = driver.call("checksums"), policy.sent()
        expected = checksum.checksums(sent.items(), policy.family)
        assert checksum.differences(expected, found, policy.family) == []
        name = next(name for name in sent if policy.family.is_quantisable(name))
        changed = checksum.checksums((sent | {name: sent[name] * 1.01}).items(), policy.family)
        assert checksum.differences(changed, found, policy.family) == [
            policy.family.engine_name(name)
        ]
        completions = driver.generate(page(3), DRAW)
        new = gap(policy, completions)
        now = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
        policy.model.load_state_dict(before)
        assert new < 0.5 * gap(policy, completions), "the engine samples from the new weights"
        policy.model.load_state_dict(now)


def gap(policy: Policy, completions) -> float:
    return float(
        np.concatenate(
            [
                np.abs(c.logprobs - policy.logprobs(page(3), c.token_ids, DRAW.temperature))
                for c in completions
            ]
        ).mean()
    )
