"""Sizes of the Qwen2.5-VL family that memory and operations depend on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that memory depends on."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    vision_intermediate: int
    patch_width: int
    """Numbers in one patch (channels x frames x height x width)."""
    merge: int
    """Patches per merged vision token along one side."""
    tied: bool

    @property
    def block_parameters(self) -> int:
        """Parameters of one language block."""
        kv = self.hidden // self.heads * self.kv_heads
        attention = self.hidden * (2 * self.hidden + 2 * kv) + self.hidden + 2 * kv
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def vision_parameters(self) -> int:
        """Parameters of vision tower and merger."""
        v, inner = self.vision_hidden, self.vision_intermediate
        block = 4 * v * v + 4 * v + 3 * v * inner + 2 * inner + v + 2 * v
        merged = v * self.merge**2
        merger = v + merged * merged + merged + merged * self.hidden + self.hidden
        return self.patch_width * v + self.vision_layers * block + merger

    @property
    def parameters(self) -> int:
        """All parameters."""
        heads = 1 if self.tied else 2
        language = heads * self.vocabulary * self.hidden + self.layers * self.block_parameters
        return language + self.hidden + self.vision_parameters

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ModelShape:
        """Read the shape out of a Qwen2.5-VL config.json."""
        text = config.get("text_config") or config
        vision = config["vision_config"]
        return cls(
            hidden=text["hidden_size"],
            layers=text["num_hidden_layers"],
            intermediate=text["intermediate_size"],
            heads=text["num_attention_heads"],
            kv_heads=text["num_key_value_heads"],
            vocabulary=text["vocab_size"],
            vision_hidden=vision["hidden_size"],
            vision_layers=vision["depth"],
            vision_intermediate=vision["intermediate_size"],
            patch_width=3 * vision.get("temporal_patch_size", 2) * vision["patch_size"] ** 2,
            merge=vision.get("spatial_merge_size", 2),
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        )


def _published(
    hidden: int, layers: int, inner: int, heads: int, kv: int, v_inner: int, tied: bool
) -> ModelShape:
    return ModelShape(
        hidden,
        layers,
        inner,
        heads,
        kv,
        151936 if tied else 152064,
        1280,
        32,
        v_inner,
        1176,
        2,
        tied,
    )


PUBLISHED_SHAPES = {
    "Qwen/Qwen2.5-VL-3B-Instruct": _published(2048, 36, 11008, 16, 2, 3420, True),
    "Qwen/Qwen2.5-VL-7B-Instruct": _published(3584, 28, 18944, 28, 4, 3420, False),
    "Qwen/Qwen2.5-VL-32B-Instruct": _published(5120, 64, 27648, 40, 8, 3456, False),
    "Qwen/Qwen2.5-VL-72B-Instruct": _published(8192, 80, 29568, 64, 8, 3456, False),
}
"""Shapes from the published config.json files, so that a plan needs no download."""


def model_shape(path: str) -> ModelShape | None:
    """Shape of a local folder or a published model; None where it cannot be known offline."""
    config = Path(path) / "config.json"
    if config.is_file():
        return ModelShape.from_config(json.loads(config.read_text("utf-8")))
    if "olmOCR-2-7B" in path:
        return PUBLISHED_SHAPES["Qwen/Qwen2.5-VL-7B-Instruct"]
    return PUBLISHED_SHAPES.get(path)
