"""Qwen3.5, its dense sizes, and what shares their architecture.

Three of four language layers are Gated DeltaNets, which carry a state along the text (`delta_net`);
the fourth attends, with a gate on its output, normalised queries and keys, and rotary positions on
a quarter of each head. Towers are those of Qwen3-VL without deepstack.

Layers that predict several tokens ahead (`mtp.*` in published files) are neither loaded nor
exported: training the others changes the states that they work on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from olmrl.models.family import ImageFeatures, TinySize, Treatment
from olmrl.models.qwen3_vl import Qwen3
from olmrl.models.qwen_vl import QwenVL, text_of
from olmrl.models.shape import Blocks, ModelShape
from olmrl.models.spans import Span

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from olmrl.models.delta_net import RecurrencePlan
    from olmrl.models.patches import Normalisation

_CHUNK = 64
"""Tokens of a chunk of the recurrence, in transformers and in flash-linear-attention."""
_DEFAULTS = {
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "full_attention_interval": 4,
}
"""Of transformers, where config.json is silent."""
_TINY_HEAD = 64
"""The smallest head that vLLM's CPU kernels take."""


def _published(
    hidden: int,
    layers: int,
    inner: int,
    heads: tuple[int, int],
    values: int,
    tower: tuple[int, ...],
) -> dict[str, Any]:
    """Heads: of queries and of keys; values: heads of a recurrence's values."""
    depth, width, vision_inner = tower
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "linear_num_value_heads": values,
        "vocab_size": 248320,
        "tie_word_embeddings": hidden < 4096,
        "vision_config": {
            "hidden_size": width,
            "depth": depth,
            "intermediate_size": vision_inner,
            "out_hidden_size": hidden,
            "patch_size": 16,
            "num_position_embeddings": 2304,
        },
    }


class Qwen35(Qwen3):
    """`qwen3_5`."""

    model_type = "qwen3_5"
    title = "Qwen3.5"
    banned_tokens = (*QwenVL.banned_tokens, "<think>", "</think>")
    chat_arguments: ClassVar = {"enable_thinking": False}
    engine_fused = (
        *QwenVL.engine_fused,
        (r"\.in_proj_(qkv|z)\.", ".in_proj_qkvz."),
        (r"\.in_proj_(b|a)\.", ".in_proj_ba."),
    )
    is_recurrent = True
    float32 = r".*\.A_log"
    left_out = r"mtp\..*"
    quantisable = (
        r"model\.language_model\.layers\.\d+\."
        r"((self_attn|mlp)\.\w+_proj|linear_attn\.(in_proj_qkv|in_proj_z|out_proj))\.weight"
    )
    unquantised = ("lm_head", "re:.*visual.*", r"re:.*linear_attn\.in_proj_[ab]$")
    published: ClassVar = {
        "Qwen/Qwen3.5-0.8B": _published(1024, 24, 3584, (8, 2), 16, (12, 768, 3072)),
        "Qwen/Qwen3.5-2B": _published(2048, 24, 6144, (8, 2), 16, (24, 1024, 4096)),
        "Qwen/Qwen3.5-4B": _published(2560, 32, 9216, (16, 4), 32, (24, 1024, 4096)),
        "Qwen/Qwen3.5-9B": _published(4096, 32, 12288, (16, 4), 32, (27, 1152, 4304)),
    }

    def shape(self, config: Mapping[str, Any]) -> ModelShape:
        """See `Family`."""
        text = {**_DEFAULTS, **text_of(config)}
        shape = super().shape({**config, "text_config": text})
        recurrent = layer_types(text).count("linear_attention")
        attending = replace(
            _attending_blocks(text, shape.language), count=shape.language.count - recurrent
        )
        return replace(
            shape, language=attending, recurrent=_recurrent_blocks(text, shape.language, recurrent)
        )

    def model_class(self) -> type[PreTrainedModel]:
        """See `Family`."""
        from transformers import Qwen3_5ForConditionalGeneration  # noqa: PLC0415

        # read as it is stored, whatever the dtype of the rest
        Qwen3_5ForConditionalGeneration._keep_in_fp32_modules_strict = ["A_log"]
        return Qwen3_5ForConditionalGeneration

    def norm_types(self) -> tuple[type[nn.Module], ...]:
        """See `Family`."""
        from torch import nn  # noqa: PLC0415
        from transformers.models.qwen3_5 import modeling_qwen3_5  # noqa: PLC0415

        return (
            nn.LayerNorm,
            modeling_qwen3_5.Qwen3_5RMSNorm,
            modeling_qwen3_5.Qwen3_5RMSNormGated,
        )

    def treatment(self, module: nn.Module, name: str) -> Treatment:
        """See `Family`; decays and the taps of the short convolution take no weight decay."""
        from torch import nn  # noqa: PLC0415

        if name in ("A_log", "dt_bias") or isinstance(module, nn.Conv1d):
            return "exempt"
        return super().treatment(module, name)

    def quicken(self, model: Any, normalisation: Normalisation) -> None:
        """See `Family`."""
        from olmrl.models.delta_net import PackedDeltaNet  # noqa: PLC0415

        super().quicken(model, normalisation)
        for layer in self._recurrent_layers(model):
            PackedDeltaNet.take_over(layer)

    def float32_units(self, model: Any) -> list[nn.Module]:
        """See `Family`; a rounded decay compounds over the length of a page."""
        return [layer.olmrl_decay for layer in self._recurrent_layers(model)]

    def _recurrent_layers(self, model: Any) -> list[Any]:
        blocks = self.language(model).layers
        return [block.linear_attn for block in blocks if hasattr(block, "linear_attn")]

    def recurrence(self, config: Any, spans: Sequence[Span], device: Any) -> RecurrencePlan:
        """See `Family`."""
        from olmrl.models.delta_net import RecurrencePlan  # noqa: PLC0415

        return RecurrencePlan(spans, config.text_config.linear_conv_kernel_dim - 1, device)

    def remarks(self, on_gpu: bool) -> list[str]:
        """See `Family`."""
        from olmrl.models import delta_net  # noqa: PLC0415

        return delta_net.remarks(on_gpu)

    def language_arguments(self, features: ImageFeatures, image_at_F: Tensor) -> dict[str, Any]:
        """See `Family`."""
        return {"attention_mask": {"full_attention": None, "linear_attention": None}}

    def _tiny_text(self, size: TinySize) -> dict[str, Any]:
        """The last layer attends, as in the published sizes."""
        keys = max(1, size.hidden // (2 * _TINY_HEAD))
        kinds = ["full_attention" if (n + 1) % 4 == 0 else "linear_attention"
                 for n in range(size.layers - 1)]  # fmt: skip
        return {
            "head_dim": _TINY_HEAD,
            "linear_key_head_dim": _TINY_HEAD,
            "linear_value_head_dim": _TINY_HEAD,
            "linear_num_key_heads": keys,
            "linear_num_value_heads": 2 * keys,
            "layer_types": [*kinds, "full_attention"],
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.25,
                "mrope_interleaved": True,
                "mrope_section": [4, 2, 2],
            },
        }


def layer_types(text: Mapping[str, Any]) -> list[str]:
    """`linear_attention` or `full_attention` for each language layer."""
    known = text.get("layer_types")
    if known is not None:
        return list(known)
    every = text.get("full_attention_interval", _DEFAULTS["full_attention_interval"])
    layers = range(1, text["num_hidden_layers"] + 1)
    return ["full_attention" if n % every == 0 else "linear_attention" for n in layers]


def _attending_blocks(text: Mapping[str, Any], plain: Blocks) -> Blocks:
    """Qwen3's blocks, whose query projection also makes the output's gate."""
    hidden, queries, keys = plain.width, plain.queries, plain.keys
    first = {"q_proj": (hidden, 2 * queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys)}
    return replace(
        plain,
        stages=(first, *plain.stages[1:]),
        saved={
            4: 20.0 * hidden + 42 * queries + 8 * keys + 16 * plain.inner,
            2: 20.0 * hidden + 24 * queries + 6 * keys + 8 * plain.inner,
        },
    )


def _recurrent_blocks(text: Mapping[str, Any], plain: Blocks, count: int) -> Blocks:
    """Gated DeltaNet in the place of attention; the MLP is that of the other blocks."""
    hidden, inner, heads = plain.width, plain.inner, text["linear_num_value_heads"]
    key, value = text["linear_key_head_dim"], text["linear_value_head_dim"]
    keys, values = text["linear_num_key_heads"] * key, heads * value
    channels, taps = 2 * keys + values, text["linear_conv_kernel_dim"]
    first = {
        "in_proj_qkv": (hidden, channels),
        "in_proj_z": (hidden, values),
        "in_proj_b": (hidden, heads),
        "in_proj_a": (hidden, heads),
    }
    # Within a chunk keys meet keys and queries, and what they weigh meets values; across chunks
    # the state is read twice and written once.
    chunk = heads * (_CHUNK * (2 * key + value) + 3 * key * value)
    # measured over widths and heads, with the recurrence in torch: in float32 whatever the dtype,
    # it keeps products within each chunk and a state per chunk; fused kernels keep less
    pairs, state = heads * _CHUNK, heads * key * value / _CHUNK
    return replace(
        plain,
        count=count,
        queries=0,
        keys=0,
        stages=(first, {"out_proj": (values, hidden)}, *plain.stages[2:]),
        small=channels * taps + 2 * heads + value + 2 * hidden,
        saved={
            4: 20.0 * hidden + 16 * inner + 8.2 * channels + 40 * values + 50 * pairs + 19 * state,
            2: 20.0 * hidden + 8 * inner + 4.1 * channels + 32 * values + 41 * pairs + 14 * state,
        },
        scan=channels * taps + chunk,
        state=heads * key * value + channels * (taps - 1),
    )
