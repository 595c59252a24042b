"""Engines of each further family against transformers: log-probs and checksums, over weight syncs.

What all families share is tested on one of them in `test_engines.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from engine_driver import (
    DRAW,
    Driver,
    Reference,
    check_tokens_around_an_update,
    page,
    start_driver,
)
from safetensors.torch import load_file, save_file

from olmrl.learner.parity import DEFAULT_MEAN_GAP
from olmrl.models.registry import FAMILIES
from olmrl.synth.model import make_model
from olmrl.types import SamplingSpec
from olmrl.weight_sync import checksum

FURTHER = [name for name in FAMILIES if name != "qwen2_5_vl"]
WRAPPED = "qwen2_vl"
"""The family whose names carry the prefix of a wrapper."""
PAGES = (page(3), page(4, 300, 170))


@pytest.fixture(scope="module", params=FURTHER)
def model_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["a page of words, a table and 1 2 3 numbers"] * 5
    folder = tmp_path_factory.mktemp("families") / request.param
    made = make_model(texts, folder, vocab_size=320, family=request.param)
    if request.param == WRAPPED:
        weights = made / "model.safetensors"
        wrapped = {f"module.{name}": tensor for name, tensor in load_file(weights).items()}
        save_file(wrapped, weights, {"format": "pt"})
    return made


def gaps(driver: Driver, reference: Reference) -> np.ndarray:
    """Of every sampled token, as it was drawn and as it is scored."""
    found = []
    for one in PAGES:
        for completion in driver.generate(one, DRAW):
            ids = completion.token_ids
            expected = reference.logprobs(one, ids, DRAW.temperature)
            assert completion.prompt_token_ids.tolist() == reference.prompt_ids(one)[0]
            found += [completion.logprobs - expected]
            found += [driver.score(one, ids, DRAW.temperature) - expected]
    return np.abs(np.concatenate(found))


def test_logprobs_and_checksums_are_transformers_own_over_weight_syncs(driver: Driver) -> None:
    reference = Reference(driver.path)
    family = FAMILIES[reference.model.config.model_type]
    for step, changed in enumerate((None, "visual", "", "visual")):
        if changed is not None:
            reference.perturb(step, only=changed)
            driver.sync(reference)
        expected = checksum.checksums(reference.model.state_dict().items(), family)
        assert checksum.differences(expected, driver.call("checksums"), family) == []
        found = gaps(driver, reference)
        assert found.mean() <= 2e-5 and found.max() <= 2e-4


@pytest.mark.parametrize("in_flight", ["recompute", "keep_kv"])
def test_tokens_around_an_update_in_flight_belong_to_their_versions(
    driver: Driver, in_flight: str
) -> None:
    check_tokens_around_an_update(driver, page(6), in_flight)


def test_no_prefix_or_state_of_old_weights_survives_a_sync(driver: Driver) -> None:
    """A page longer than a block of any family's cache, so that its siblings do share it."""
    big = page(7, 700, 900)
    reference = driver.fresh()
    for step in range(2):
        if step:
            reference.perturb(step, only="language_model.layers.", scale=0.1)
            driver.sync(reference)
        completions = driver.generate(big, DRAW, (0, 1, 2))
        cached = sorted(completion.cached_tokens for completion in completions)
        prompt = len(completions[0].prompt_token_ids)
        assert cached[0] == 0 and all(prompt - 96 <= count <= prompt for count in cached[1:])
        for completion in completions:
            expected = reference.logprobs(big, completion.token_ids, DRAW.temperature)
            np.testing.assert_allclose(completion.logprobs, expected, atol=1e-4)


def test_an_engine_that_slept_goes_on_under_the_weights_it_is_sent(driver: Driver) -> None:
    if driver.caches_features:
        pytest.skip("vLLM sleeps on CUDA only")
    driver.fresh()
    driver.submit(page(8), SamplingSpec(1.0, 1.0, 300), (0, 1))
    driver.call("sleep")
    driver.call("wake")
    reference = Reference(driver.path)
    reference.perturb(5)
    version = driver.sync(reference)
    for completion in driver.gather(2):
        assert [span.version for span in completion.versions] == [version]
        expected = reference.logprobs(page(8), completion.token_ids, 1.0)
        np.testing.assert_allclose(completion.logprobs, expected, atol=1e-4)


def test_vllms_own_bfloat16_kernels_compute_the_recurrence(
    engine_job: None, tmp_path: Path
) -> None:
    """In float32 olmrl's layer stands in their place; in bfloat16 they run, on a CPU too."""
    pytest.importorskip("vllm", reason="the vllm engine is an extra")
    family = FAMILIES["qwen3_5"]
    texts = ["a page of words, a table and 1 2 3 numbers"] * 5
    path = make_model(texts, tmp_path / "model", vocab_size=320, family=family.model_type)
    started = start_driver("vllm", path, dtype="bfloat16")
    reference = Reference(path)
    for step in range(2):
        reference.perturb(step)
        reference.round(torch.bfloat16, family.float32)
        started.sync(reference)
        sums: checksum.Checksums = {}
        named = reference.model.state_dict().items()
        list(checksum.cast_and_count(named, torch.bfloat16, sums, family))
        assert checksum.differences(sums, started.call("checksums"), family) == []
        # what stops a run; the reference computes in float32
        assert gaps(started, reference).mean() <= DEFAULT_MEAN_GAP["bfloat16"]
    ray.kill(started.handle)
