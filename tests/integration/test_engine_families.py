"""Engines of each further family against transformers: log-probs and checksums, over weight syncs.

What all families share is tested on one of them in `test_engines.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_driver import DRAW, Driver, Reference, page
from safetensors.torch import load_file, save_file

from olmrl.models.registry import FAMILIES
from olmrl.synth.model import make_model
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
    for step, changed in enumerate((None, "visual", "")):
        if changed is not None:
            reference.perturb(step, only=changed)
            driver.sync(reference)
        expected = checksum.checksums(reference.model.state_dict().items(), family)
        assert checksum.differences(expected, driver.call("checksums"), family) == []
        found = gaps(driver, reference)
        assert found.mean() <= 2e-5 and found.max() <= 2e-4
