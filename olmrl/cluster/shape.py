"""Sizes of the Qwen2.5-VL family that memory and operations depend on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from olmrl.cluster.resources import PlanError
from olmrl.config.schema import MODEL_TYPES, ModelConfig
from olmrl.models.cost import CostModel, language_matrices, vision_matrices
from olmrl.models.files import model_config


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of one model."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    vision_intermediate: int
    tied: bool
    """Embedding and output head are one matrix."""
    patch: int = 14
    """Pixels along a patch."""
    frames: int = 2
    """Frames in a patch."""
    merge: int = 2
    """Patches per merged vision token along one side."""
    window: int = 112
    """Pixels along an attention window."""
    full_blocks: int = 4
    """Vision blocks that attend to the whole image."""

    @property
    def keys(self) -> int:
        """Width of all keys (and of all values) of one token in one layer."""
        return self.hidden // self.heads * self.kv_heads

    @property
    def patch_width(self) -> int:
        """Numbers in one patch (channels x frames x height x width)."""
        return 3 * self.frames * self.patch**2

    @property
    def block_parameters(self) -> int:
        """Parameters of one language block."""
        attention = self.hidden * (2 * self.hidden + 2 * self.keys) + self.hidden + 2 * self.keys
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def vision_block_parameters(self) -> int:
        """Parameters of one vision block."""
        v, inner = self.vision_hidden, self.vision_intermediate
        return 4 * v * v + 4 * v + 3 * v * inner + 2 * inner + v + 2 * v

    @property
    def tower_parameters(self) -> int:
        """Parameters of the vision tower without the merger."""
        return (
            self.patch_width * self.vision_hidden
            + self.vision_layers * self.vision_block_parameters
        )

    @property
    def merger_parameters(self) -> int:
        """Parameters between vision tower and language model."""
        merged = self.vision_hidden * self.merge**2
        return self.vision_hidden + merged * merged + merged + merged * self.hidden + self.hidden

    @property
    def language_parameters(self) -> int:
        """Parameters of the language model, embedding and output head."""
        heads = 1 if self.tied else 2
        blocks = self.layers * self.block_parameters
        return heads * self.vocabulary * self.hidden + blocks + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.language_parameters + self.tower_parameters + self.merger_parameters

    def trained(self, model: ModelConfig) -> int:
        """Parameters that get gradients and optimizer state."""
        if model.lora is not None:
            return self._adapters(model.lora.rank, model.lora.target_modules)
        frozen = model.freeze
        return (
            (0 if frozen.language else self.language_parameters)
            + (0 if frozen.vision else self.tower_parameters)
            + (0 if frozen.projector else self.merger_parameters)
        )

    def _adapters(self, rank: int, targets: tuple[str, ...]) -> int:
        """Numbers in low-rank adapters on layers of these names, in language and vision blocks."""
        config = self._config()
        language = language_matrices(config.text_config)
        vision = vision_matrices(config.vision_config)
        per_layer = sum(sum(language[name]) for name in targets if name in language)
        per_vision_layer = sum(sum(vision[name]) for name in targets if name in vision)
        return rank * (self.layers * per_layer + self.vision_layers * per_vision_layer)

    def cost(self) -> CostModel:
        """Operations of this model, by the learner's own account."""
        return CostModel.from_config(self._config())

    def _config(self) -> SimpleNamespace:
        """The sizes under transformers' names."""
        text = SimpleNamespace(
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.intermediate,
            vocab_size=self.vocabulary,
        )
        vision = SimpleNamespace(
            hidden_size=self.vision_hidden,
            depth=self.vision_layers,
            intermediate_size=self.vision_intermediate,
            window_size=self.window,
            patch_size=self.patch,
            temporal_patch_size=self.frames,
            spatial_merge_size=self.merge,
            fullatt_block_indexes=range(self.full_blocks),
            out_hidden_size=self.hidden,
        )
        return SimpleNamespace(text_config=text, vision_config=vision)

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
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            patch=vision["patch_size"],
            frames=vision.get("temporal_patch_size", 2),
            merge=vision.get("spatial_merge_size", 2),
            window=vision.get("window_size", 112),
            full_blocks=len(vision.get("fullatt_block_indexes", range(4))),
        )


def _published(hidden: int, layers: int, inner: int, heads: int, kv_heads: int) -> ModelShape:
    """The family's sizes differ in these; only the smallest ties embedding and head."""
    small = hidden == 2048
    return ModelShape(
        hidden,
        layers,
        inner,
        heads,
        kv_heads,
        vocabulary=151936 if small else 152064,
        vision_hidden=1280,
        vision_layers=32,
        vision_intermediate=3420 if hidden < 5120 else 3456,
        tied=small,
    )


PUBLISHED_SHAPES = {
    "Qwen/Qwen2.5-VL-3B-Instruct": _published(2048, 36, 11008, 16, 2),
    "Qwen/Qwen2.5-VL-7B-Instruct": _published(3584, 28, 18944, 28, 4),
    "Qwen/Qwen2.5-VL-32B-Instruct": _published(5120, 64, 27648, 40, 8),
    "Qwen/Qwen2.5-VL-72B-Instruct": _published(8192, 80, 29568, 64, 8),
}
"""Shapes from the published config.json files, so that a plan needs no download."""


def operations(path: str) -> CostModel:
    """Operations of a model that is there, or can be fetched; see `model_config` for errors."""
    return ModelShape.from_config(model_config(path)).cost()


def model_shape(path: str) -> ModelShape | None:
    """Shape of a local folder or a published model; None where it cannot be known offline.

    Raises:
        PlanError: a folder of another kind of model.
    """
    config = Path(path) / "config.json"
    if config.is_file():
        values = json.loads(config.read_text("utf-8"))
        kind = values.get("model_type")
        if kind not in MODEL_TYPES:
            raise PlanError(f"{path}: model_type is {kind!r}, not a Qwen2.5-VL-class model")
        return ModelShape.from_config(values)
    if "olmOCR-2-7B" in path:
        return PUBLISHED_SHAPES["Qwen/Qwen2.5-VL-7B-Instruct"]
    return PUBLISHED_SHAPES.get(path)
