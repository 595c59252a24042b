"""What the Qwen-VL families have in common: tokens, names, and the Qwen2 language model.

Sizes and names are those of the published checkpoints (Qwen2-VL, arXiv 2409.12191; Qwen2.5-VL,
arXiv 2502.13923; Qwen3-VL, arXiv 2511.21631) and of their classes in transformers and vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from olmrl.models.family import Family, TinySize
from olmrl.models.shape import Blocks, Layers

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class QwenVL(Family):
    """Base of the Qwen-VL families."""

    image_token = "<|image_pad|>"
    end_token = "<|im_end|>"
    banned_tokens: ClassVar[tuple[str, ...]] = (
        "<|image_pad|>",
        "<|video_pad|>",
        "<|vision_pad|>",
        "<|vision_start|>",
        "<|vision_end|>",
    )
    parts: ClassVar = {
        "model.visual.": "tower",
        "model.visual.merger.": "projector",
        "model.language_model.": "language",
        "lm_head.": "head",
    }
    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        ("model.language_model.", "model."),
        ("model.visual.", "visual."),
    )
    engine_names: ClassVar[tuple[tuple[str, str], ...]] = (
        ("model.language_model.", "language_model.model."),
        ("model.visual.", "visual."),
        ("lm_head.", "language_model.lm_head."),
        ("model.", "language_model.model."),
    )
    engine_fused: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"\.(q|k|v)_proj\.", ".qkv_proj."),
        (r"\.(gate|up)_proj\.", ".gate_up_proj."),
    )
    engine_head = "language_model.lm_head.weight"
    quantisable = r"model\.language_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight"
    unquantised: ClassVar[tuple[str, ...]] = ("lm_head", "re:.*visual.*")

    def tiny_config(
        self, size: TinySize, ids: Mapping[str, int], vocabulary: int, init_std: float
    ) -> PreTrainedConfig:
        """See `Family`."""
        settings = self.image_settings
        vision = {
            "depth": size.vision_depth,
            "num_heads": size.vision_heads,
            "patch_size": settings.patch_size,
            "spatial_merge_size": settings.merge_size,
            "temporal_patch_size": settings.normalisation.frames,
            "initializer_range": init_std,
            **self._tiny_tower(size),
        }
        config: PreTrainedConfig = self.config_class()(
            text_config=self._tiny_text(size)
            | {
                "hidden_size": size.hidden,
                "intermediate_size": size.intermediate,
                "num_hidden_layers": size.layers,
                "num_attention_heads": size.heads,
                "num_key_value_heads": size.kv_heads,
                "vocab_size": vocabulary,
                "max_position_embeddings": 32768,
                "bos_token_id": None,
                "eos_token_id": ids[self.end_token],
                "pad_token_id": ids["<|endoftext|>"],
                "tie_word_embeddings": True,
                "initializer_range": init_std,
            },
            vision_config=vision,
            tie_word_embeddings=True,
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )
        return config

    def _tiny_text(self, size: TinySize) -> dict[str, Any]:
        """What the text configuration of a tiny model has of the family's own."""
        half = size.hidden // size.heads // 2
        quarter = half // 4
        rest = (half - quarter) // 2
        return {
            "rope_scaling": {"type": "mrope", "mrope_section": [quarter, rest, rest]},
            "rope_theta": 1e4,
            "use_sliding_window": False,
        }

    def _tiny_tower(self, size: TinySize) -> dict[str, Any]:
        """What the vision configuration of a tiny model has of the family's own."""
        raise NotImplementedError

    def processor(self, tokenizer: Any, chat_template: str, **images: Any) -> Any:
        """See `Family`."""
        from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl  # noqa: PLC0415

        image_processor = image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil(
            patch_size=self.image_settings.patch_size,
            merge_size=self.image_settings.merge_size,
            **images,
        )
        processor_class, video_class = self._processor_classes()
        return processor_class(
            image_processor=image_processor,
            tokenizer=tokenizer,
            video_processor=video_class(),
            chat_template=chat_template,
        )

    def _processor_classes(self) -> tuple[Any, Any]:
        """Classes of the processor and of its video processor."""
        raise NotImplementedError


def text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Sizes of the language model, which older config.json files hold at their top."""
    text: Mapping[str, Any] = config.get("text_config") or config
    return text


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether embedding and output head are one matrix."""
    inner = text_of(config).get("tie_word_embeddings", False)
    return bool(config.get("tie_word_embeddings", inner))


def qwen2_blocks(text: Mapping[str, Any]) -> Blocks:
    """The Qwen2 language model: grouped queries with biases, gated MLP, RMS norms."""
    hidden, inner = text["hidden_size"], text["intermediate_size"]
    heads = text["num_attention_heads"]
    head = text.get("head_dim") or hidden // heads
    queries, keys = heads * head, text["num_key_value_heads"] * head
    return Blocks(
        count=text["num_hidden_layers"],
        width=hidden,
        inner=inner,
        queries=queries,
        keys=keys,
        stages=(
            {"q_proj": (hidden, queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys)},
            {"o_proj": (queries, hidden)},
            {"gate_proj": (hidden, inner), "up_proj": (hidden, inner)},
            {"down_proj": (inner, hidden)},
        ),
        small=queries + 2 * keys + 2 * hidden,
        # Norms keep their float32 input where the compute dtype is narrower; the MLP keeps gate,
        # its activation, up, and their product.
        saved={4: 32.0 * hidden + 16 * inner, 2: 24.0 * hidden + 8 * inner},
    )


def two_layer_vision_blocks(
    depth: int, width: int, inner: int, mlp: tuple[str, str], kept: int
) -> Blocks:
    """Vision blocks of layer norms, attention and a two-layer MLP, all with biases.

    Args:
        depth: blocks.
        width: of the residual stream.
        inner: of the MLP.
        mlp: names of its layers.
        kept: tensors of the inner width that its backward pass reads.
    """
    return Blocks(
        count=depth,
        width=width,
        inner=inner,
        queries=width,
        keys=width,
        stages=(
            {"qkv": (width, 3 * width)},
            {"proj": (width, width)},
            {mlp[0]: (width, inner)},
            {mlp[1]: (inner, width)},
        ),
        small=9 * width + inner,
        saved={4: 32.0 * width + 4 * kept * inner, 2: 16.0 * width + 2 * kept * inner},
    )


def merger_layers(width: int, merge: int, hidden: int) -> tuple[Layers, int]:
    """The patch merger of Qwen2 and Qwen2.5: its linear layers, and its norm and biases."""
    merged = width * merge**2
    stages = ({"mlp.0": (merged, merged)}, {"mlp.2": (merged, hidden)})
    return Layers(1, stages), width + merged + hidden
