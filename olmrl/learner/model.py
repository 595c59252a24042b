"""The policy network: a Qwen2.5-VL-class model of transformers, made ready for training.

Reads weights by name or folder, freezes parts, adds adapters, and swaps in the two things that the
family's own code does slowly: its patch embedding and its attention (see attention.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

from olmrl.config.schema import MODEL_TYPES, FreezeConfig, LoraConfig, ModelConfig
from olmrl.learner.attention import use_packed_attention
from olmrl.models.files import image_settings
from olmrl.models.patches import PUBLISHED, Normalisation
from olmrl.models.pixels import normalise
from olmrl.weight_sync.checksum import engine_name

TORCH_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_ADAPTER_INFIX = re.compile(r"\.base_layer\.")
_ADAPTER_PART = re.compile(r"\.lora_[AB]\.")


class MatmulPatchEmbed(nn.Module):
    """Qwen's patch embedding as one matrix product, which takes patches as bytes.

    Its Conv3d kernel covers its whole input, so both give the same numbers; the product is about
    five times faster on CPUs. The weight keeps its name (`patch_embed.proj.weight`) and shape.
    """

    def __init__(self, proj: nn.Conv3d, normalisation: Normalisation) -> None:
        super().__init__()
        self.proj = proj
        self._normalisation = normalisation

    def forward(self, patches_VK: Tensor) -> Tensor:
        """Normalise [V, K] bytes and embed them to [V, hidden]."""
        weight = self.proj.weight
        return F.linear(normalise(patches_VK, self._normalisation, weight.dtype), weight.flatten(1))


def load_policy(
    config: ModelConfig,
    *,
    device: torch.device | str = "cpu",
    activation_checkpointing: bool = False,
    compile_blocks: bool = False,
) -> Qwen2_5_VLForConditionalGeneration:
    """Load the policy in training mode, its weights in `config.master_dtype`.

    Args:
        config: path, precision, attention, frozen parts and adapters.
        device: where the weights go.
        activation_checkpointing: recompute block activations in the backward pass.
        compile_blocks: torch.compile each language block (attention itself stays eager).

    Raises:
        ValueError: the path is no readable Qwen2.5-VL-class model, or peft is missing for LoRA.
    """
    try:
        described = AutoConfig.from_pretrained(
            config.path, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model.path: {config.path!r} is neither a folder with a transformers config.json "
            f"nor a model that could be fetched by name ({_first_line(error)})"
        ) from error
    if described.model_type not in MODEL_TYPES:
        raise ValueError(
            f"model.path: {config.path!r} is a {described.model_type!r} model; "
            f"allowed are vision-language models of type {', '.join(MODEL_TYPES)}"
        )
    try:
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            config.path, dtype=TORCH_DTYPES[config.master_dtype], attn_implementation="sdpa"
        )
    except OSError as error:
        raise ValueError(
            f"model.path: the weights of {config.path!r} cannot be read ({_first_line(error)})"
        ) from error
    nn.Module.to(model, device)
    return prepare_policy(
        model,
        config,
        normalisation=image_settings(config.path).normalisation,
        activation_checkpointing=activation_checkpointing,
        compile_blocks=compile_blocks,
    )


def prepare_policy(
    model: Qwen2_5_VLForConditionalGeneration,
    config: ModelConfig,
    *,
    normalisation: Normalisation = PUBLISHED,
    activation_checkpointing: bool = False,
    compile_blocks: bool = False,
) -> Qwen2_5_VLForConditionalGeneration:
    """Make a loaded model ready for training, in place; see `load_policy`.

    Its vision tower takes patches as bytes from then on, which `normalisation` turns into numbers.
    """
    visual = model.model.visual
    visual.patch_embed = MatmulPatchEmbed(visual.patch_embed.proj, normalisation)
    freeze(model, config.freeze)
    if config.lora is not None:
        add_adapters(model, config.lora)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("model.freeze: vision, projector and language are all frozen: no training")
    use_packed_attention(model)
    model.config.use_cache = False
    model.train()
    if activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if compile_blocks:
        for block in model.model.language_model.layers:
            block.compile(dynamic=True)
    return model


def freeze(model: Qwen2_5_VLForConditionalGeneration, parts: FreezeConfig) -> None:
    """Switch off the gradients of the chosen parts.

    The projector is the merger between vision tower and language model; `vision` is the tower
    without it. The output head belongs to the language model.
    """
    merger = {id(p) for p in model.model.visual.merger.parameters()}
    tower = {id(p) for p in model.model.visual.parameters()} - merger
    for parameter in model.parameters():
        if id(parameter) in tower:
            frozen = parts.vision
        elif id(parameter) in merger:
            frozen = parts.projector
        else:
            frozen = parts.language
        if frozen:
            parameter.requires_grad_(False)


def add_adapters(model: Qwen2_5_VLForConditionalGeneration, lora: LoraConfig) -> None:
    """Freeze all weights and put peft LoRA adapters on the target linear layers."""
    try:
        import peft  # noqa: PLC0415  the `lora` extra is optional
    except ImportError as error:
        raise ValueError(
            "model.lora: peft is not installed; install olmrl[lora] or set model.lora to null"
        ) from error
    try:
        model.add_adapter(
            peft.LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,  # type: ignore[arg-type]
                lora_dropout=lora.dropout,
                target_modules=list(lora.target_modules),
                bias="none",
            )
        )
    except ValueError as error:
        raise ValueError(f"model.lora.target_modules: {_first_line(error)}") from error


def vision_is_frozen(model: Qwen2_5_VLForConditionalGeneration) -> bool:
    """Whether the features of a page stay the same over training (tower and merger frozen)."""
    return not any(p.requires_grad for p in model.model.visual.parameters())


def plain_weights(
    model: nn.Module, materialise: Callable[[Tensor], Tensor], changing_only: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Stream (name, full tensor) under transformers' own names, adapters merged, in model order.

    A tied output head is named too (`lm_head.weight`), because engines may keep their own copy.

    Args:
        model: the policy, sharded or not.
        materialise: turns a parameter into its full tensor (a collective where it is sharded).
        changing_only: leave out what no step changes: frozen parameters without an adapter, unless
            engines keep them in one piece with others (q, k and v; gate and up), which they can
            only load whole.
    """
    adapted = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    parameters = [
        (name, parameter)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not _ADAPTER_PART.search(name)
    ]
    pieces = {_piece(n) for n, p in parameters if p.requires_grad or _is_adapted(n)}
    for name, parameter in parameters:
        if changing_only and _piece(name) not in pieces:
            continue
        tensor = materialise(parameter)
        if _is_adapted(name):
            layer = adapted[name.split(".base_layer.")[0]]
            tensor = tensor + _adapter_delta(layer, materialise).to(tensor.dtype)
        yield _ADAPTER_INFIX.sub(".", name), tensor


def _is_adapted(name: str) -> bool:
    """Whether an adapter changes what is sent under this parameter's name."""
    return ".base_layer." in name and name.endswith(".weight")


def _piece(name: str) -> str:
    """The parameter of an engine that a parameter is part of."""
    return engine_name(_ADAPTER_INFIX.sub(".", name))


def _adapter_delta(layer: Any, materialise: Callable[[Tensor], Tensor]) -> Tensor:
    """scaling * B @ A of the single adapter on a layer."""
    (adapter,) = layer.lora_A.keys()
    down = materialise(layer.lora_A[adapter].weight)
    up = materialise(layer.lora_B[adapter].weight)
    return (up @ down) * layer.scaling[adapter]


def _first_line(error: BaseException) -> str:
    """The first non-empty line of an error's text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
