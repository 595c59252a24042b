"""The policy's own transcriptions against one full forward pass per token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.learner.build import build_strategy, head_spec
from olmrl.learner.generation import generate_greedily, whole_copy
from olmrl.models.pixels import normalise
from olmrl.models.registry import FAMILIES
from olmrl.synth.model import make_model

SIZES = [(84, 56), (112, 140), (56, 56)]
MAX_TOKENS = 10


@pytest.fixture(scope="module", params=FAMILIES)
def tiny_model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reads") / request.param
    return make_model(["a page of words to read"] * 5, folder, vocab_size=320, family=request.param)


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return Encoder(EncoderSpec(str(tiny_model)))


@pytest.fixture(scope="module")
def pages(encoder):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*size, 3)).astype(np.uint8) for size in SIZES]
    texts = [encoder.chat("read " * (k + 1)) for k in range(len(SIZES))]
    pairs = zip(texts, images, strict=True)
    return [encoder.encode_prompt(f"page {k}", text, [i]) for k, (text, i) in enumerate(pairs)]


@pytest.fixture(scope="module")
def expected(tiny_model, encoder, pages):
    """Greedy ids by transformers, each token from a pass over everything before it."""
    model = AutoModelForImageTextToText.from_pretrained(tiny_model, dtype=torch.float32)
    found = []
    for page in pages:
        ids = page.prompt_ids.tolist()
        while len(ids) < len(page.prompt_ids) + MAX_TOKENS:
            row = torch.tensor([ids])
            with torch.no_grad():
                logits = model(
                    input_ids=row,
                    mm_token_type_ids=(row == encoder.vision.image_token_id).int(),
                    pixel_values=normalise(
                        torch.from_numpy(page.patches), encoder.normalisation, torch.float32
                    ),
                    image_grid_thw=torch.from_numpy(page.image_grid_thw),
                ).logits[0, -1]
            logits[list(encoder.banned_ids)] = -torch.inf
            ids.append(int(logits.argmax()))
        found.append(ids[len(page.prompt_ids) :])
    return found


def _read(path, pages, batch_pages):
    model = ModelConfig(path=path, dtype="float32")
    learner = LearnerConfig(use_gpu=False, activation_checkpointing=False)
    strategy = build_strategy(model, learner, head_spec(learner), total_steps=1)
    mine = pages[strategy.rank :: strategy.world_size]
    copy = whole_copy(strategy, model)
    options = {"max_tokens": MAX_TOKENS, "batch_pages": batch_pages}
    return [
        ids.tolist() for ids in generate_greedily(copy, mine, Encoder(EncoderSpec(path)), **options)
    ]


@pytest.mark.parametrize("batch_pages", [1, 3])
def test_pages_are_read_as_one_by_one_without_a_cache(tiny_model, pages, expected, batch_pages):
    assert _read(str(tiny_model), pages, batch_pages) == expected


def test_ranks_of_a_sharded_policy_read_different_numbers_of_pages(
    ranks, tiny_model, pages, expected
):
    first, second = ranks(_read, str(tiny_model), pages, 2)
    assert (first, second) == (expected[::2], expected[1::2])


def test_a_transcription_stops_behind_its_end(tiny_model, pages, expected):
    encoder = Encoder(EncoderSpec(str(tiny_model)))
    encoder.end_id = expected[1][4]
    model = AutoModelForImageTextToText.from_pretrained(tiny_model, dtype=torch.float32)
    read = list(generate_greedily(model, pages, encoder, max_tokens=MAX_TOKENS, batch_pages=3))
    for ids, whole in zip(read, expected, strict=True):
        stop = whole.index(encoder.end_id) + 1 if encoder.end_id in whole else MAX_TOKENS
        assert ids.tolist() == whole[:stop]
