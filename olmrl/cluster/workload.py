"""What one page needs from a run: patches, prompt tokens, completion lengths.

Everything here is an estimate from the configuration, made before any page is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from olmrl.config.schema import GrpoConfig, SftConfig
from olmrl.models.shape import ModelShape

_LETTER = 8.5 / 11
"""Width over height of the typical page."""
_TEXT_TOKENS = 170
"""Prompt tokens besides the image, with the olmOCR v4 prompt and the chat template."""
_TINY_TEXT_TOKENS = 20
"""Likewise with a prompt from a file, as in the tiny configurations."""
_MEAN_SHARE = 1 / 3
"""Mean completion length over `max_tokens`: 33 of 96 in the quick start; 1,000 of 3,000 assumed."""
_MEAN_SHARE_SFT = 1 / 6
"""Mean transcription over the room that `data.max_tokens` leaves: 1,000 of 6,400 assumed."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One page, on average."""

    patches: int
    """Image patches."""
    prompt: int
    """Prompt tokens, the image's included."""
    completion: float
    """Mean completion (or, in SFT, transcription) tokens."""
    limit: int
    """Maximum completion tokens."""
    image_bytes: int
    """Bytes of its pixels, as the object store holds them."""

    def pages_in(self, tokens: int, completions: int) -> int:
        """Pages that fit in a packed row of `tokens` tokens, at least one."""
        return max(1, int(tokens // (self.prompt + completions * self.completion)))


def page_patches(longest_side: int, shape: ModelShape) -> tuple[int, int]:
    """Patches of a letter page after the image processor's rounding, and its rendered bytes."""
    unit = shape.patch * shape.merge
    height = max(1, round(longest_side / unit))
    width = max(1, round(longest_side * _LETTER / unit))
    pixels = longest_side * math.ceil(longest_side * _LETTER)
    return height * width * shape.merge**2, 3 * pixels


def grpo_workload(config: GrpoConfig, shape: ModelShape) -> Workload:
    """A page of a GRPO run."""
    patches, image_bytes = page_patches(config.data.longest_side, shape)
    own_prompt = config.data.prompt.startswith("file:")
    text = _TINY_TEXT_TOKENS if own_prompt else _TEXT_TOKENS
    limit = config.rollout.sampling.max_tokens
    return Workload(
        patches,
        patches // shape.merge**2 + text + config.data.anchor_text_len // 3,
        limit * _MEAN_SHARE,
        limit,
        image_bytes,
    )


def sft_workload(config: SftConfig, shape: ModelShape) -> Workload:
    """A page of an SFT run; its size follows from its rendering step."""
    own = [source.pipeline or () for source in config.data.train]
    steps = [step for pipeline in (config.data.pipeline, *own) for step in pipeline]
    sides = [s["target_longest_image_dim"] for s in steps if "target_longest_image_dim" in s]
    patches, image_bytes = page_patches(max(sides, default=1288), shape)
    prompt = patches // shape.merge**2 + _TEXT_TOKENS
    limit = max(1, config.data.max_tokens - prompt)
    return Workload(patches, prompt, limit * _MEAN_SHARE_SFT, limit, image_bytes)
