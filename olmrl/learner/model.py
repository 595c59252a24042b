"""The policy network: a vision-language model of transformers, made ready for training.

Reads weights by name or folder, freezes parts, adds adapters, and replaces what is slow in
transformers: the patch embedding (`Family.quicken`) and attention (attention.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from olmrl.config.schema import FreezeConfig, LoraConfig, ModelConfig
from olmrl.errors import first_line
from olmrl.learner.attention import use_packed_attention
from olmrl.models import adapters
from olmrl.models.files import image_settings
from olmrl.models.loading import load_network
from olmrl.models.patches import Normalisation
from olmrl.models.registry import family_of

TORCH_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def load_policy(
    config: ModelConfig,
    *,
    device: torch.device | str = "cpu",
    activation_checkpointing: bool = False,
    compile_blocks: bool = False,
    key: str = "model.path",
) -> Any:
    """Load the policy in training mode, its weights in `config.master_dtype`.

    Args:
        config: path, precision, attention, frozen parts and adapters.
        device: where the weights go.
        activation_checkpointing: recompute block activations in the backward pass.
        compile_blocks: torch.compile each language block (attention itself stays eager).
        key: where the configuration names the path, for messages.

    Raises:
        ValueError: the path is not a readable model of a known family, its weights do not cover the
            model (names tensors), or peft is missing for LoRA.
    """
    model = load_network(
        config.path,
        key,
        dtype=TORCH_DTYPES[config.master_dtype],
        trust_remote_code=config.trust_remote_code,
        trainable=True,
    )
    nn.Module.to(model, device)
    return prepare_policy(
        model,
        config,
        normalisation=image_settings(config.path).normalisation,
        activation_checkpointing=activation_checkpointing,
        compile_blocks=compile_blocks,
    )


def prepare_policy(
    model: Any,
    config: ModelConfig,
    *,
    normalisation: Normalisation | None = None,
    activation_checkpointing: bool = False,
    compile_blocks: bool = False,
) -> Any:
    """Make a loaded model ready for training, in place; see `load_policy`.

    Its vision tower takes patches as bytes from then on and applies `normalisation` to them (None:
    the one that its family publishes).
    """
    known = family_of(model.config)
    known.check(model)
    known.quicken(model, normalisation or known.image_settings.normalisation)
    freeze(model, config.freeze)
    if config.lora is not None:
        add_adapters(model, config.lora)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("model.freeze: vision, projector and language are all frozen; train one")
    use_packed_attention(model)
    model.config.use_cache = False
    model.train()
    if activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if compile_blocks:
        for block in known.language(model).layers:
            # the forward pass alone: if FSDP's hooks are compiled too, the first step takes minutes
            block.forward = torch.compile(block.forward, dynamic=True)
    return model


def freeze(model: Any, parts: FreezeConfig) -> None:
    """Switch off the gradients of the chosen parts.

    The projector joins vision tower and language model; the output head counts as language model.
    """
    known = family_of(model.config)
    frozen = {
        "tower": parts.vision,
        "projector": parts.projector,
        "language": parts.language,
        "head": parts.language,
    }
    for name, parameter in model.named_parameters():
        if frozen[known.part_of(name)]:
            parameter.requires_grad_(False)


def add_adapters(model: Any, lora: LoraConfig) -> None:
    """Freeze all weights and put peft LoRA adapters on the target linear layers.

    Raises:
        ValueError: peft is missing or refuses, or the model has no layer of a target's name.
    """
    try:
        import peft  # noqa: PLC0415  the `lora` extra is optional
    except ImportError as error:
        raise ValueError(
            "model.lora: peft is not installed; install olmrl[lora] or set model.lora to null"
        ) from error
    _check_targets(model, lora.target_modules)
    try:
        model.add_adapter(
            peft.LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,  # type: ignore[arg-type]
                lora_dropout=lora.dropout,
                target_modules=list(lora.target_modules),
                exclude_modules=["patch_embed.proj"],  # `quicken` multiplies by its weight alone
                bias="none",
            )
        )
    except ValueError as error:
        raise ValueError(f"model.lora.target_modules: {first_line(error)}") from error


def _check_targets(model: Any, targets: tuple[str, ...]) -> None:
    known = family_of(model.config)
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    # the learner computes with the head's weight alone, and engines may tie it to the embedding
    fit = [name for name in linear if known.part_of(f"{name}.weight") != "head"]
    unknown = [t for t in targets if not any(f".{name}".endswith(f".{t}") for name in fit)]
    if unknown or not targets:
        names = sorted({name.rpartition(".")[2] for name in fit})
        raise ValueError(
            f"model.lora.target_modules: no linear layer that can be adapted is called "
            f"{', '.join(unknown) or '()'}; allowed: "
            + ", ".join(name for name in names if not name.isdigit())
        )


def vision_is_frozen(model: Any) -> bool:
    """Whether training never changes a page's features (tower and merger frozen)."""
    tower = family_of(model.config).tower(model)
    return not any(p.requires_grad for p in tower.parameters())


def plain_weights(
    model: Any,
    materialise: Callable[[Tensor, torch.dtype | None], Tensor],
    changing_only: bool = False,
    dtype: torch.dtype | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Stream (name, full tensor) under transformers' own names, adapters merged, in model order.

    A tied output head is named too, because engines may keep their own copy.

    Args:
        model: the policy, sharded or not.
        materialise: turns a parameter into its full tensor in a dtype (a collective where it is
            sharded).
        changing_only: leave out what no step changes: frozen parameters without an adapter, unless
            engines fuse them with others (q, k and v; gate and up) and can only load them together.
    """
    known = family_of(model.config)
    adapted = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    parameters = [
        (name, parameter)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not adapters.is_adapter(name)
    ]
    pieces = {
        known.engine_name(adapters.plain_name(name))
        for name, parameter in parameters
        if parameter.requires_grad or adapters.is_adapted(name)
    }
    for name, parameter in parameters:
        plain = adapters.plain_name(name)
        if changing_only and known.engine_name(plain) not in pieces:
            continue
        rounded = None if re.fullmatch(known.float32, plain) else dtype
        if adapters.is_adapted(name):
            # merged before it is rounded
            whole = materialise(parameter, None)
            merged = _with_adapter(whole, adapted[adapters.layer_of(name)], materialise)
            yield plain, merged.to(dtype=rounded)
        else:
            yield plain, materialise(parameter, rounded)


def adapter_weights(
    model: Any,
    materialise: Callable[[Tensor, torch.dtype | None], Tensor],
    dtype: torch.dtype | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Stream (`adapters.matrix_name`, full tensor) of the adapters' matrices, in model order.

    B is scaled by alpha / rank, so that an adapted layer adds B @ A as it stands.

    Args:
        model: the policy, sharded or not.
        materialise: turns a parameter into its full tensor in a dtype (a collective where it is
            sharded).
        dtype: of the matrices.
    """
    for name, layer in model.named_modules():
        if not hasattr(layer, "lora_A"):
            continue
        (adapter,) = layer.lora_A.keys()
        down = materialise(layer.lora_A[adapter].weight, dtype)
        up = materialise(layer.lora_B[adapter].weight, None)
        plain = adapters.plain_name(name)
        yield adapters.matrix_name(plain, "A"), down
        yield adapters.matrix_name(plain, "B"), (up * layer.scaling[adapter]).to(dtype=dtype)


def _with_adapter(
    weight: Tensor, layer: Any, materialise: Callable[[Tensor, torch.dtype | None], Tensor]
) -> Tensor:
    """A layer's weight with its only adapter merged."""
    (adapter,) = layer.lora_A.keys()
    down = materialise(layer.lora_A[adapter].weight, None)
    up = materialise(layer.lora_B[adapter].weight, None)
    return adapters.merged(weight, down, up, layer.scaling[adapter])
