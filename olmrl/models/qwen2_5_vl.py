"""Qwen2.5-VL (arXiv 2502.13923), and olmOCR, which is fine-tuned from its 7B.

Most vision blocks attend inside windows of 112 pixels, four of them to the whole image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from olmrl.models.family import TinySize, VisionLayout
from olmrl.models.qwen_vl import (
    QwenVL,
    is_tied,
    merger_layers,
    qwen2_blocks,
    text_of,
)
from olmrl.models.shape import Blocks, ModelShape

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_WINDOW = 112
_FULL_BLOCKS = 4


def _published(hidden: int, layers: int, inner: int, heads: int, kv_heads: int) -> dict[str, Any]:
    """The sizes differ in these; only the smallest ties embedding and head."""
    small = hidden == 2048
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": 151936 if small else 152064,
        "tie_word_embeddings": small,
        "vision_config": {
            "hidden_size": 1280,
            "depth": 32,
            "intermediate_size": 3420 if hidden < 5120 else 3456,
            "out_hidden_size": hidden,
            "patch_size": 14,
        },
    }


class Qwen25VL(QwenVL):
    """`qwen2_5_vl`."""

    model_type = "qwen2_5_vl"
    title = "Qwen2.5-VL"
    published: ClassVar = {
        "Qwen/Qwen2.5-VL-3B-Instruct": _published(2048, 36, 11008, 16, 2),
        "Qwen/Qwen2.5-VL-7B-Instruct": _published(3584, 28, 18944, 28, 4),
        "Qwen/Qwen2.5-VL-32B-Instruct": _published(5120, 64, 27648, 40, 8),
        "Qwen/Qwen2.5-VL-72B-Instruct": _published(8192, 80, 29568, 64, 8),
    }
    fine_tunes: ClassVar = {"olmOCR-2-7B": "Qwen/Qwen2.5-VL-7B-Instruct"}

    def shape(self, config: Mapping[str, Any]) -> ModelShape:
        """See `Family`."""
        text, vision = text_of(config), config["vision_config"]
        width, patch = vision["hidden_size"], vision["patch_size"]
        merge = vision.get("spatial_merge_size", 2)
        full = len(vision.get("fullatt_block_indexes", range(_FULL_BLOCKS)))
        merger, merger_small = merger_layers(width, merge, text["hidden_size"])
        return ModelShape(
            vocabulary=text["vocab_size"],
            tied=is_tied(config),
            language=qwen2_blocks(text),
            vision=_vision_blocks(vision["depth"], width, vision["intermediate_size"]),
            merger=merger,
            merger_small=merger_small,
            patch=patch,
            frames=vision.get("temporal_patch_size", 2),
            merge=merge,
            windowed=vision["depth"] - full,
            window_patches=(vision.get("window_size", _WINDOW) / patch) ** 2,
        )

    def model_class(self) -> type[PreTrainedModel]:
        """See `Family`."""
        from transformers import Qwen2_5_VLForConditionalGeneration  # noqa: PLC0415

        return Qwen2_5_VLForConditionalGeneration

    def norm_types(self) -> tuple[type[nn.Module], ...]:
        """See `Family`."""
        from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl  # noqa: PLC0415

        return (modeling_qwen2_5_vl.Qwen2_5_VLRMSNorm,)

    def vision_layout(self, config: Any, grid_thw: Sequence[Sequence[int]]) -> VisionLayout:
        """See `Family`; windows are laid out by transformers."""
        import torch  # noqa: PLC0415
        from transformers import vision_utils  # noqa: PLC0415

        grid, merge = torch.tensor(grid_thw), config.spatial_merge_size
        window_index, cu_windows = vision_utils.get_vision_window_index(
            grid, merge, config.window_size, config.patch_size
        )
        cu_whole = vision_utils.get_vision_cu_seqlens(grid)
        whole, windows = torch.diff(cu_whole).tolist(), torch.diff(cu_windows).tolist()
        return VisionLayout(
            {
                "position_ids": vision_utils.get_vision_position_ids(grid, merge),
                "window_index": window_index,
                "max_seqlen": max(whole),
                "max_window_seqlen": max(windows),
            },
            {"cu_seqlens": whole, "cu_window_seqlens": windows},
        )

    def _tiny_tower(self, size: TinySize) -> dict[str, Any]:
        """Every block sees the whole page: windows would only cut its words."""
        settings = self.image_settings
        return {
            "hidden_size": size.vision_hidden,
            "intermediate_size": size.vision_intermediate,
            "out_hidden_size": size.hidden,
            "window_size": 8 * settings.patch_size * settings.merge_size,
            "fullatt_block_indexes": list(range(size.vision_depth)),
        }

    def _processor_classes(self) -> tuple[Any, Any]:
        from transformers import Qwen2_5_VLProcessor, Qwen2VLVideoProcessor  # noqa: PLC0415

        return Qwen2_5_VLProcessor, Qwen2VLVideoProcessor


def _vision_blocks(depth: int, width: int, inner: int) -> Blocks:
    """RMS norms, attention with biases, gated MLP with biases."""
    return Blocks(
        count=depth,
        width=width,
        inner=inner,
        queries=width,
        keys=width,
        stages=(
            {"qkv": (width, 3 * width)},
            {"proj": (width, width)},
            {"gate_proj": (width, inner), "up_proj": (width, inner)},
            {"down_proj": (inner, width)},
        ),
        small=7 * width + 2 * inner,
        saved={4: 40.0 * width + 16 * inner, 2: 28.0 * width + 8 * inner},
    )
