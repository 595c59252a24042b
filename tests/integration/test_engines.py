"""Both engines against plain transformers: log-probs, weight updates, caches, seeds, banned ids.

The reference is the family's own processor and model, with nothing of olmrl in between.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_driver import (
    DRAW,
    MAX_MODEL_LEN,
    Driver,
    check_tokens_around_an_update,
    page,
)

from olmrl.data.payload import pack_block, unpack_block
from olmrl.models.registry import FAMILIES
from olmrl.rollout.requests import GenerationFailure
from olmrl.synth.model import make_model
from olmrl.types import SamplingSpec
from olmrl.weight_sync import checksum
from olmrl.weight_sync.publication import pack

FAMILY = FAMILIES["qwen2_5_vl"]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["a page of words, a table and 1 2 3 numbers"] * 5
    return make_model(texts, tmp_path_factory.mktemp("engines") / "model", vocab_size=320)


@pytest.fixture(scope="module")
def drawn() -> list[Any]:
    """What each engine drew in a test of its own."""
    return []


@pytest.mark.parametrize(
    "sampling",
    [
        DRAW,
        SamplingSpec(temperature=1.3, top_p=0.6, max_tokens=24),
        SamplingSpec(temperature=0.7, top_p=1.0, max_tokens=24, greedy=True),
    ],
    ids=["tempered", "nucleus", "greedy"],
)
def test_logprobs_are_transformers_own_before_and_after_a_sync(
    driver: Driver, sampling: SamplingSpec
) -> None:
    reference = driver.fresh()
    temperature = 1.0 if sampling.greedy else sampling.temperature
    for seed in (0, 1):
        for completion in driver.generate(page(3), sampling):
            expected = reference.logprobs(page(3), completion.token_ids, temperature)
            np.testing.assert_allclose(completion.logprobs, expected, atol=1e-4)
            assert completion.prompt_token_ids.tolist() == reference.prompt_ids(page(3))[0]
            scored = driver.score(page(3), completion.token_ids, temperature)
            np.testing.assert_allclose(scored, expected, atol=1e-4)
        reference.perturb(seed)
        driver.sync(reference)


def test_greedy_text_follows_the_new_weights(driver: Driver) -> None:
    reference = driver.fresh()
    greedy = SamplingSpec(1.0, 1.0, 16, greedy=True)
    (before,) = driver.generate(page(4), greedy, (0,))
    reference.perturb(7, scale=0.1)
    version = driver.sync(reference)
    (after,) = driver.generate(page(4), greedy, (0,))
    assert before.token_ids.tolist() != after.token_ids.tolist()
    assert [span.version for span in after.versions] == [version]
    # Each greedy token is the reference's argmax given the tokens before it.
    for length in range(len(after.token_ids)):
        every = [
            reference.logprobs(page(4), np.append(after.token_ids[:length], token), 1.0)[-1]
            for token in (after.token_ids[length], *np.random.default_rng(0).integers(0, 200, 3))
        ]
        assert every[0] >= max(every) - 1e-4


def test_no_vision_feature_or_prefix_of_old_weights_survives_a_sync(driver: Driver) -> None:
    reference = driver.fresh()
    first = driver.generate(page(5), DRAW)[0]
    reference.perturb(3, only="visual", scale=0.2)
    expected = reference.logprobs(page(5), first.token_ids, 0.7)
    # A faulty update: new weights under the old version's name, caches left alone.
    driver.call("start_weight_update")
    for bucket in pack(reference.model.state_dict().items(), 10**6):
        driver.call("update_weights", bucket.info(bucket.data))
    driver.call("finish_weight_update", driver.call("version"), "keep_kv")
    faulty = driver.score(page(5), first.token_ids, 0.7)
    if driver.caches_features:
        assert np.abs(faulty - expected).max() > 1e-2, "this test would not see a stale feature"
    driver.sync(reference)
    clean = driver.score(page(5), first.token_ids, 0.7)
    np.testing.assert_allclose(clean, expected, atol=1e-4)
    for completion in driver.generate(page(5), DRAW):
        under_new = reference.logprobs(page(5), completion.token_ids, 0.7)
        np.testing.assert_allclose(completion.logprobs, under_new, atol=1e-4)


@pytest.mark.parametrize("in_flight", ["recompute", "keep_kv"])
def test_tokens_around_an_update_in_flight_belong_to_their_versions(
    driver: Driver, in_flight: str
) -> None:
    check_tokens_around_an_update(driver, page(6), in_flight)


def test_a_seed_draws_the_same_tokens_whatever_else_runs(driver: Driver) -> None:
    driver.fresh()
    alone = driver.generate(page(8), DRAW, (100, 101, 102, 103))
    for other in range(3):
        driver.submit(page(20 + other), DRAW, (7, 8))
    group_id = driver.submit(page(8), DRAW, (100, 101, 102, 103))
    crowd = [c for c in driver.gather(10) if c.group_id == group_id]
    driver.submit(page(8), DRAW, (100, 101, 102, 103), wanted=(2,))
    (reissued,) = driver.gather(1)
    assert [c.token_ids.tolist() for c in crowd] == [c.token_ids.tolist() for c in alone]
    assert reissued.index == 2
    assert reissued.token_ids.tolist() == alone[2].token_ids.tolist()
    assert len({tuple(c.token_ids.tolist()) for c in alone}) == 4


def test_vision_placeholders_are_never_sampled(driver: Driver) -> None:
    reference = driver.fresh()
    hot = SamplingSpec(temperature=2.0, top_p=1.0, max_tokens=200)
    tokens = np.concatenate([c.token_ids for c in driver.generate(page(9), hot)])
    # Hot over 320 ids: without the ban about one token in 64 would be one of these five.
    assert len(tokens) > 600 and len(np.unique(tokens)) > 150
    assert not np.isin(tokens, reference.banned).any()


def test_a_completion_comes_back_when_it_is_done_not_when_its_group_is(driver: Driver) -> None:
    driver.fresh()
    short = driver.submit(page(10), SamplingSpec(0.7, 1.0, 4), (0, 1))
    long = driver.submit(page(11), SamplingSpec(0.7, 1.0, 800), (0, 1))
    early = driver.call("poll", 30.0).outputs
    assert {c.group_id for c in early} == {short}
    driver.call("abort", [long])
    rest = 2 - len(early)
    assert {c.group_id for c in driver.gather(rest)} <= {short}
    assert driver.call("stats").unfinished == 0
    assert driver.call("poll", 0.3).outputs == []


def test_siblings_share_one_prefill(driver: Driver) -> None:
    driver.fresh()
    completions = driver.generate(page(12, 300, 400), DRAW)
    cached = sorted(c.cached_tokens for c in completions)
    prompt = len(completions[0].prompt_token_ids)
    assert cached[0] == 0
    assert all(prompt - 64 <= count <= prompt for count in cached[1:])


def test_a_page_that_does_not_fit_is_reported_not_lost(driver: Driver) -> None:
    group_id = driver.submit(page(13, 1200, 1200), DRAW, (0, 1))
    (failure,) = driver.call("poll", 30.0).outputs
    assert isinstance(failure, GenerationFailure)
    assert failure.group_id == group_id
    assert "page-13::1" in failure.reason and str(MAX_MODEL_LEN) in failure.reason


def test_completions_stop_at_the_window(driver: Driver) -> None:
    driver.fresh()
    big = page(14, 700, 1000)
    (completion,) = driver.generate(big, SamplingSpec(0.7, 1.0, 5000), (0,))
    total = len(completion.prompt_token_ids) + len(completion.token_ids)
    assert total == MAX_MODEL_LEN or completion.finish_reason == "stop"


def test_checksums_prove_equality_and_name_what_differs(driver: Driver) -> None:
    reference = driver.fresh()
    expected = checksum.checksums(reference.model.state_dict().items(), FAMILY)
    assert checksum.differences(expected, driver.call("checksums"), FAMILY) == []
    state = reference.model.state_dict()
    name = "model.language_model.layers.0.self_attn.k_proj.weight"
    state[name][0, 0] += 1e-3
    changed = checksum.checksums(state.items(), FAMILY)
    assert checksum.differences(changed, driver.call("checksums"), FAMILY) == [
        "language_model.model.layers.0.self_attn.qkv_proj.weight"
    ]
    vision = "model.visual.blocks.0.mlp.up_proj.bias"
    state[name][0, 0] -= 1e-3
    state[vision][0] += 1
    changed = checksum.checksums(state.items(), FAMILY)
    assert "visual.blocks.0.mlp.gate_up_proj.bias" in checksum.differences(
        changed, driver.call("checksums"), FAMILY
    )


def test_a_request_that_cannot_be_is_refused_and_the_engine_lives_on(driver: Driver) -> None:
    driver.fresh()
    twice = driver.submit(page(15), SamplingSpec(0.7, 1.0, 300), (0,))
    with pytest.raises(ValueError, match=twice):
        driver.call("submit", twice, driver.block(page(15)), DRAW, (0,), None)
    wordless = replace(unpack_block(driver.block(page(15))), prompt_ids=np.arange(60, 70))
    with pytest.raises(ValueError, match="image"):
        driver.call("submit", "no-image", pack_block(wordless), DRAW, (0,), None)
    driver.gather(1)
    assert len(driver.generate(page(15), DRAW)) == 6


def test_both_engines_draw_the_same_tokens(driver: Driver, drawn: list[Any]) -> None:
    """A seed and a position name a draw, whatever generates; up to ties of the last digit."""
    driver.fresh()
    tokens = [c.token_ids.tolist() for c in driver.generate(page(3), DRAW, tuple(range(100, 112)))]
    drawn.append(tokens)
    for other in drawn:
        assert sum(a == b for a, b in zip(tokens, other, strict=True)) >= 11
