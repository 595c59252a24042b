"""Qwen2-VL (arXiv 2409.12191): every vision block attends to the whole image, plain MLPs."""

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
    two_layer_vision_blocks,
)
from olmrl.models.shape import ModelShape

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def _published(hidden: int, layers: int, inner: int, heads: int, kv_heads: int) -> dict[str, Any]:
    """The sizes differ in these; only the smallest ties embedding and head."""
    small = hidden == 1536
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": 151936 if small else 152064,
        "tie_word_embeddings": small,
        "vision_config": {"embed_dim": 1280, "depth": 32, "mlp_ratio": 4, "hidden_size": hidden},
    }


class Qwen2VL(QwenVL):
    """`qwen2_vl`."""

    model_type = "qwen2_vl"
    title = "Qwen2-VL"
    published: ClassVar = {
        "Qwen/Qwen2-VL-2B-Instruct": _published(1536, 28, 8960, 12, 2),
        "Qwen/Qwen2-VL-7B-Instruct": _published(3584, 28, 18944, 28, 4),
        "Qwen/Qwen2-VL-72B-Instruct": _published(8192, 80, 29568, 64, 8),
    }
    fine_tunes: ClassVar = {"olmOCR-7B-0225": "Qwen/Qwen2-VL-7B-Instruct"}

    def shape(self, config: Mapping[str, Any]) -> ModelShape:
        """See `Family`."""
        text, vision = text_of(config), config["vision_config"]
        width, merge = vision["embed_dim"], vision.get("spatial_merge_size", 2)
        merger, merger_small = merger_layers(width, merge, text["hidden_size"])
        return ModelShape(
            vocabulary=text["vocab_size"],
            tied=is_tied(config),
            language=qwen2_blocks(text),
            vision=two_layer_vision_blocks(
                vision["depth"], width, int(width * vision.get("mlp_ratio", 4)), ("fc1", "fc2"), 3
            ),
            merger=merger,
            merger_small=merger_small + width,
            patch=vision.get("patch_size", self.image_settings.patch_size),
            frames=vision.get("temporal_patch_size", 2),
            merge=merge,
        )

    def model_class(self) -> type[PreTrainedModel]:
        """See `Family`."""
        from transformers import Qwen2VLForConditionalGeneration  # noqa: PLC0415

        return Qwen2VLForConditionalGeneration

    def norm_types(self) -> tuple[type[nn.Module], ...]:
        """See `Family`."""
        from torch import nn  # noqa: PLC0415
        from transformers.models.qwen2_vl import modeling_qwen2_vl  # noqa: PLC0415

        return (nn.LayerNorm, modeling_qwen2_vl.Qwen2VLRMSNorm)

    def vision_layout(self, config: Any, grid_thw: Sequence[Sequence[int]]) -> VisionLayout:
        """See `Family`."""
        import torch  # noqa: PLC0415
        from transformers import vision_utils  # noqa: PLC0415

        grid = torch.tensor(grid_thw)
        whole = torch.diff(vision_utils.get_vision_cu_seqlens(grid)).tolist()
        positions = vision_utils.get_vision_position_ids(grid, config.spatial_merge_size)
        return VisionLayout(
            {"position_ids": positions, "max_seqlen": max(whole)}, {"cu_seqlens": whole}
        )

    def _tiny_tower(self, size: TinySize) -> dict[str, Any]:
        """The width of the MLP is a whole multiple of the tower's here."""
        return {
            "embed_dim": size.vision_hidden,
            "mlp_ratio": max(1, round(size.vision_intermediate / size.vision_hidden)),
            "hidden_size": size.hidden,
        }

    def _processor_classes(self) -> tuple[Any, Any]:
        from transformers import Qwen2VLProcessor, Qwen2VLVideoProcessor  # noqa: PLC0415

        return Qwen2VLProcessor, Qwen2VLVideoProcessor
