"""Greedy transcriptions by the policy itself, through transformers' generation.

A sharded policy would gather its weights for every token. So each rank takes a whole copy, in the
compute dtype and with adapters merged, and reads its pages with that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers.initialization import no_init_weights

from olmrl.config.schema import ModelConfig
from olmrl.data.encode import Encoder
from olmrl.learner.model import TORCH_DTYPES
from olmrl.learner.packed import to_device
from olmrl.learner.strategy import Strategy
from olmrl.models.loading import described_network
from olmrl.models.pixels import normalise
from olmrl.models.registry import family_of
from olmrl.types import EncodedPage, Int32Array


@torch.no_grad()
def whole_copy(strategy: Strategy, config: ModelConfig) -> Any:
    """The policy as a plain model on this rank's device; every rank calls it."""
    described = described_network(
        config.path, "model.path", trust_remote_code=config.trust_remote_code
    )
    with no_init_weights(), strategy.device:
        model = (
            family_of(described)
            .model_class()
            ._from_config(described, dtype=TORCH_DTYPES[config.dtype], attn_implementation="sdpa")
        )
    for name, parameter in model.named_parameters():
        if re.fullmatch(family_of(described).float32, name):
            parameter.data = parameter.data.float()
    state = model.state_dict()
    for name, tensor in strategy.named_weights(dtype=model.dtype):
        state[name].copy_(tensor)
    return model.eval()


@torch.inference_mode()
def generate_greedily(
    model: Any,
    pages: Sequence[EncodedPage],
    encoder: Encoder,
    *,
    max_tokens: int,
    batch_pages: int,
) -> Iterator[Int32Array]:
    """Read pages greedily, special tokens banned as in the engines.

    Args:
        model: From `whole_copy`.
        pages: Encoded prompts.
        encoder: Names the end token and the banned ids.
        max_tokens: Most tokens of a transcription.
        batch_pages: Pages per batch.

    Yields:
        [R] ids of each page in order, the end token last unless it was cut.
    """
    for start in range(0, len(pages), batch_pages):
        batch = pages[start : start + batch_pages]
        longest = max(len(page.prompt_ids) for page in batch)
        ids = np.full((len(batch), longest), encoder.end_id, np.int64)
        seen = np.zeros_like(ids)
        for row, page in enumerate(batch):  # padded on the left: generation starts at one column
            ids[row, longest - len(page.prompt_ids) :] = page.prompt_ids
            seen[row, longest - len(page.prompt_ids) :] = 1
        out = model.generate(
            input_ids=to_device(ids, model.device),
            attention_mask=to_device(seen, model.device),
            mm_token_type_ids=to_device(
                (ids == encoder.vision.image_token_id).astype(np.int64), model.device
            ),
            pixel_values=normalise(
                to_device(np.concatenate([p.patches for p in batch]), model.device),
                encoder.normalisation,
                model.dtype,
            ),
            image_grid_thw=to_device(
                np.concatenate([p.image_grid_thw for p in batch]), model.device
            ),
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=encoder.end_id,
            pad_token_id=encoder.end_id,
            suppress_tokens=list(encoder.banned_ids) or None,
        )
        for row in out[:, longest:].cpu().numpy().astype(np.int32):
            ends = np.flatnonzero(row == encoder.end_id)
            yield row[: ends[0] + 1] if len(ends) else row
