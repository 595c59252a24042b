"""Engines that get the policy's adapter alone, against transformers with the adapter merged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from engine_driver import DRAW, Driver, Reference, page, start_driver

from olmrl.config.schema import LoraConfig
from olmrl.learner.model import adapter_weights, add_adapters, plain_weights
from olmrl.models.registry import FAMILIES
from olmrl.synth.model import make_model
from olmrl.types import PolicyVersion, SamplingSpec
from olmrl.weight_sync import checksum
from olmrl.weight_sync.bucket import Publication
from olmrl.weight_sync.publication import pack

TEXTS = ["a page of words, a table and 1 2 3 numbers"] * 5


class Policy(Reference):
    """The learner's model with adapters; the reference of the base class is it, merged."""

    def __init__(self, path: Path, lora: LoraConfig) -> None:
        super().__init__(path)
        self.lora = lora
        self.adapted = Reference(path).model
        add_adapters(self.adapted, lora)
        self.family = FAMILIES[self.model.config.model_type]

    def train(self, seed: int) -> None:
        """Change the adapters, and the merged model with them."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.adapted.named_parameters():
            if "lora_" in name:
                parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
        self.model.load_state_dict(dict(plain_weights(self.adapted, materialise)))

    def publication(self, version: PolicyVersion) -> Publication:
        packed = pack(adapter_weights(self.adapted, materialise), 2000)
        return Publication(version, tuple(replace(b, data=ray.put(b.data)) for b in packed), 0)

    def checksums(self) -> checksum.Checksums:
        return checksum.checksums(adapter_weights(self.adapted, materialise), self.family)


def materialise(parameter: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return parameter.detach().to(dtype=dtype)


def lora_of(model_type: str, path: Path) -> LoraConfig:
    """Adapters on every layer of the language model whose name the vision tower does not have."""
    family = FAMILIES[model_type]
    shape = family.shape(json.loads((path / "config.json").read_text()))
    elsewhere = shape.vision.matrices | shape.merger.matrices
    targets = {name for stack in shape.stacks for name in stack.matrices if name not in elsewhere}
    return LoraConfig(rank=3, alpha=12, target_modules=tuple(sorted(targets)))


def check_parity(driver: Driver, policy: Policy) -> None:
    for completion in driver.generate(page(3), DRAW, (0, 1, 2)):
        assert completion.versions[0].version == driver.call("version")
        expected = policy.logprobs(page(3), completion.token_ids, DRAW.temperature)
        scored = driver.score(page(3), completion.token_ids, DRAW.temperature)
        for found in (completion.logprobs, scored):
            # as test_engine_families: a rare token's log-prob of -7 has a float32 error beyond 2e-5
            gap = np.abs(found - expected)
            assert gap.mean() <= 2e-5 and gap.max() <= 2e-4


FURTHER = [
    pytest.param((engine, name), marks=pytest.mark.slow, id=f"{engine}-{name}")
    for name in FAMILIES
    for engine in ("vllm", "hf")
    if name != "qwen2_5_vl"
]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("vllm", "qwen2_5_vl"), id="vllm"),
        pytest.param(("hf", "qwen2_5_vl"), id="hf"),
        *FURTHER,
    ],
)
def driver(
    request: pytest.FixtureRequest, engine_job: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    engine, model_type = request.param
    if engine == "vllm":
        pytest.importorskip("vllm", reason="the vllm engine is an extra")
    folder = tmp_path_factory.mktemp("adapters") / model_type
    path = make_model(TEXTS, folder, vocab_size=320, family=model_type)
    started = start_driver(engine, path, lora_of(model_type, path))
    yield started
    ray.kill(started.handle)


@pytest.fixture(scope="module")
def policy(driver: Driver) -> Policy:
    reference = Reference(driver.path)
    model_type = reference.model.config.model_type
    return Policy(driver.path, lora_of(model_type, driver.path))


def test_engines_with_adapters_agree_with_the_merged_model(driver: Driver, policy: Policy) -> None:
    check_parity(driver, policy)  # before any adapter has come
    for seed in (0, 1):
        policy.train(seed)
        driver.sync(policy)
        check_parity(driver, policy)
        found = driver.call("checksums")
        assert checksum.differences(policy.checksums(), found, policy.family) == []
    stale = driver.call("checksums")
    policy.train(2)
    assert len(checksum.differences(policy.checksums(), stale, policy.family)) == len(stale[0])


@pytest.mark.parametrize("in_flight", ["recompute", "keep_kv"])
def test_running_requests_follow_an_adapter_as_they_follow_whole_weights(
    driver: Driver, policy: Policy, in_flight: str
) -> None:
    policy = Policy(driver.path, policy.lora)
    policy.train(3)
    old_version = driver.sync(policy)
    old = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    steps = driver.call("stats").steps
    driver.submit(page(6), SamplingSpec(1.0, 1.0, 600), tuple(range(4)))
    while driver.call("stats").steps < steps + 12:
        pass
    policy.train(4)
    new_version = driver.sync(policy, in_flight)
    crossed = [c for c in driver.gather(4) if len(c.versions) == 2]
    assert crossed, "no completion was running during the update"
    under_new = [policy.logprobs(page(6), c.token_ids, 1.0) for c in crossed]
    new = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    policy.model.load_state_dict(old)
    under_old = [policy.logprobs(page(6), c.token_ids, 1.0) for c in crossed]
    policy.model.load_state_dict(new)
    for completion, before, after in zip(crossed, under_old, under_new, strict=True):
        first, last = completion.versions
        assert (first.version, last.version) == (old_version, new_version)
        cut = first.end
        assert np.abs(completion.logprobs[:cut] - before[:cut]).mean() < 2e-5
        gap = np.abs(completion.logprobs[cut + 1 :] - after[cut + 1 :])
        if in_flight == "keep_kv" and len(gap):
            assert gap.max() > 1e-3
        elif len(gap):
            assert gap.mean() < 2e-5
