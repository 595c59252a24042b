"""Qwen3-VL, its dense sizes (arXiv 2511.21631).

Every vision block sees the whole image; learned positions are interpolated to its grid. Features of
some vision blocks are added to the image's tokens after the first language layers (deepstack, arXiv
2406.04334). Queries and keys are normalised, and published tensors have transformers' own names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from olmrl.models.family import ImageFeatures, TinySize, VisionLayout
from olmrl.models.patches import ImageSettings, Normalisation
from olmrl.models.qwen_vl import QwenVL, is_tied, qwen2_blocks, text_of, two_layer_vision_blocks
from olmrl.models.shape import Blocks, Layers, ModelShape

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

_HEAD = 128
"""Width of a head where config.json does not say, as in transformers."""
_POSITIONS = 8
"""Learned positions along a side of a tiny model."""


def _published(hidden: int, layers: int, inner: int, heads: int) -> dict[str, Any]:
    """The largest has a larger tower, and an output head of its own."""
    large = hidden == 4096
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": _HEAD,
        "vocab_size": 151936,
        "tie_word_embeddings": not large,
        "vision_config": {
            "hidden_size": 1152 if large else 1024,
            "depth": 27 if large else 24,
            "intermediate_size": 4304 if large else 4096,
            "out_hidden_size": hidden,
            "patch_size": 16,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24] if large else [5, 11, 17],
        },
    }


class Qwen3(QwenVL):
    """The vision half of Qwen3-VL and Qwen3.5, and how their files name tensors."""

    image_settings = ImageSettings(
        patch_size=16,
        min_pixels=2**16,
        max_pixels=2**24,
        normalisation=Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3),
    )
    published_names = ()

    def shape(self, config: Mapping[str, Any]) -> ModelShape:
        """See `Family`."""
        text, vision = text_of(config), config["vision_config"]
        width, merge = vision["hidden_size"], vision.get("spatial_merge_size", 2)
        hidden, merged = text["hidden_size"], vision["hidden_size"] * merge**2
        taps = self._taps(vision)
        stages = ({"linear_fc1": (merged, merged)}, {"linear_fc2": (merged, hidden)})
        # the last merger normalises patches, those of deepstack merged ones
        norms = 2 * width + taps * 2 * merged
        return ModelShape(
            vocabulary=text["vocab_size"],
            tied=is_tied(config),
            language=_language_blocks(text),
            vision=two_layer_vision_blocks(
                vision["depth"], width, vision["intermediate_size"], ("linear_fc1", "linear_fc2"), 2
            ),
            merger=Layers(1 + taps, stages),
            merger_small=(1 + taps) * (merged + hidden) + norms,
            patch=vision["patch_size"],
            frames=vision.get("temporal_patch_size", 2),
            merge=merge,
            tower_small=(1 + vision["num_position_embeddings"]) * width,
        )

    def _taps(self, vision: Mapping[str, Any]) -> int:
        """Vision blocks whose features language layers take."""
        return 0

    def vision_layout(self, config: Any, grid_thw: Sequence[Sequence[int]]) -> VisionLayout:
        """See `Family`; positions are interpolated by transformers."""
        import torch  # noqa: PLC0415
        from transformers import vision_utils  # noqa: PLC0415

        grid, merge = torch.tensor(grid_thw), config.spatial_merge_size
        whole = torch.diff(vision_utils.get_vision_cu_seqlens(grid)).tolist()
        indices, weights = vision_utils.get_vision_interpolation_indices_and_weights(
            grid,
            num_grid_per_side=math.isqrt(config.num_position_embeddings),
            mode="bilinear",
            align_corners=True,
            spatial_merge_size=merge,
        )
        return VisionLayout(
            {
                "position_ids": vision_utils.get_vision_position_ids(grid, merge),
                "interp_indices": indices,
                "interp_weights": weights,
                "max_seqlen": max(whole),
            },
            {"cu_seqlens": whole},
        )

    def _tiny_tower(self, size: TinySize) -> dict[str, Any]:
        return {
            "hidden_size": size.vision_hidden,
            "intermediate_size": size.vision_intermediate,
            "out_hidden_size": size.hidden,
            "num_position_embeddings": _POSITIONS**2,
        }

    def _processor_classes(self) -> tuple[Any, Any]:
        from transformers import Qwen3VLProcessor, Qwen3VLVideoProcessor  # noqa: PLC0415

        return Qwen3VLProcessor, Qwen3VLVideoProcessor


class Qwen3VL(Qwen3):
    """`qwen3_vl`."""

    model_type = "qwen3_vl"
    title = "Qwen3-VL"
    parts: ClassVar = {**QwenVL.parts, "model.visual.deepstack_merger_list.": "projector"}
    published: ClassVar = {
        "Qwen/Qwen3-VL-2B-Instruct": _published(2048, 28, 6144, 16),
        "Qwen/Qwen3-VL-4B-Instruct": _published(2560, 36, 9728, 32),
        "Qwen/Qwen3-VL-8B-Instruct": _published(4096, 36, 12288, 32),
    }

    def model_class(self) -> type[PreTrainedModel]:
        """See `Family`."""
        from transformers import Qwen3VLForConditionalGeneration  # noqa: PLC0415

        return Qwen3VLForConditionalGeneration

    def norm_types(self) -> tuple[type[nn.Module], ...]:
        """See `Family`."""
        from torch import nn  # noqa: PLC0415
        from transformers.models.qwen3_vl import modeling_qwen3_vl  # noqa: PLC0415

        return (nn.LayerNorm, modeling_qwen3_vl.Qwen3VLTextRMSNorm)

    def quicken(self, model: Any, normalisation: Normalisation) -> None:
        """See `Family`; deepstack features are added by position, not through a mask."""
        from olmrl.models.vision import add_features  # noqa: PLC0415

        super().quicken(model, normalisation)
        self.language(model)._deepstack_process = add_features

    def encode_images(
        self, tower: nn.Module, patches_VK: Tensor, grid: Tensor, arguments: Mapping[str, Any]
    ) -> ImageFeatures:
        """See `Family`."""
        out = tower(patches_VK, grid_thw=grid, **arguments)
        return ImageFeatures(out.pooler_output, tuple(out.deepstack_features))

    def language_arguments(self, features: ImageFeatures, image_at_F: Tensor) -> dict[str, Any]:
        """See `Family`; the mask is left to the attention plan, which makes none."""
        return {
            "attention_mask": None,
            "visual_pos_masks": image_at_F,  # positions, as `add_features` takes them
            "deepstack_visual_embeds": list(features.side),
        }

    def _tiny_text(self, size: TinySize) -> dict[str, Any]:
        head = size.hidden // size.heads
        third = head // 2 // 3
        return {
            "head_dim": head,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_interleaved": True,
                "mrope_section": [head // 2 - 2 * third, third, third],
            },
        }

    def _taps(self, vision: Mapping[str, Any]) -> int:
        return len(vision["deepstack_visual_indexes"])

    def _tiny_tower(self, size: TinySize) -> dict[str, Any]:
        """As in published towers, deepstack ends before the last block."""
        taps = min(3, size.vision_depth - 1, size.layers)
        return super()._tiny_tower(size) | {"deepstack_visual_indexes": list(range(taps))}


def _language_blocks(text: Mapping[str, Any]) -> Blocks:
    """Qwen2's blocks with norms of queries and keys in place of biases."""
    hidden, head = text["hidden_size"], text.get("head_dim", _HEAD)
    blocks = qwen2_blocks({**text, "head_dim": head})
    queries, keys, inner = blocks.queries, blocks.keys, blocks.inner
    biases = queries + 2 * keys + hidden if text.get("attention_bias", False) else 0
    return replace(
        blocks,
        small=2 * hidden + 2 * head + biases,
        saved={
            4: 24.0 * hidden + 16 * queries + 8 * keys + 16 * inner,
            2: 20.0 * hidden + 10 * queries + 6 * keys + 8 * inner,
        },
    )
