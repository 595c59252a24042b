"""Engines that get the policy's adapter alone, against transformers with the adapter merged."""

from __future__ import annotations

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
from olmrl.types import PolicyVersion
from olmrl.weight_sync import checksum
from olmrl.weight_sync.publication import Publication, pack

LORA = LoraConfig(rank=3, alpha=12, target_modules=("q_proj", "v_proj", "o_proj"))
TEXTS = ["a page of words, a table and 1 2 3 numbers"] * 5


class Policy(Reference):
    """The learner's model with adapters; the reference of the base class is it, merged."""

    def __init__(self, path: Path, lora: LoraConfig) -> None:
        super().__init__(path)
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


def check_parity(driver: Driver, policy: Policy) -> None:
    for completion in driver.generate(page(3), DRAW, (0, 1, 2)):
        expected = policy.logprobs(page(3), completion.token_ids, DRAW.temperature)
        np.testing.assert_allclose(completion.logprobs, expected, atol=2e-5)
        scored = driver.score(page(3), completion.token_ids, DRAW.temperature)
        np.testing.assert_allclose(scored, expected, atol=2e-5)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(TEXTS, tmp_path_factory.mktemp("adapters") / "model", vocab_size=320)


@pytest.fixture(scope="module", params=["vllm", "hf"])
def driver(request: pytest.FixtureRequest, engine_job: None, model_path: Path) -> Iterator[Driver]:
    if request.param == "vllm":
        pytest.importorskip("vllm", reason="the vllm engine is an extra")
    started = start_driver(request.param, model_path, LORA)
    yield started
    ray.kill(started.handle)


def test_engines_with_adapters_agree_with_the_merged_model(
    driver: Driver, model_path: Path
) -> None:
    policy = Policy(model_path, LORA)
    check_parity(driver, policy)  # before any adapter has come
    for seed in (0, 1):
        policy.train(seed)
        driver.sync(policy)
        check_parity(driver, policy)
