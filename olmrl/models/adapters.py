"""Names inside a prepared model, and LoRA adapters: peft's names, and the rule of merging."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_BASE = ".base_layer."
_INSERTED = re.compile(r"\.(base_layer|olmrl_\w+)\.")
"""Modules that peft and olmrl put around parameters; olmrl's begin with its name."""
_ADAPTER = re.compile(r"(?P<layer>.+)\.lora_(?P<part>[AB])\.[^.]+\.weight")


def is_adapter(name: str) -> bool:
    """Whether a parameter is a matrix of an adapter."""
    return _ADAPTER.fullmatch(name) is not None


def adapter_part(name: str) -> tuple[str, str]:
    """Layer that an adapter's matrix belongs to, and which of the two it is, `A` or `B`."""
    match = _ADAPTER.fullmatch(name)
    assert match is not None, name
    return match["layer"], match["part"]


def is_adapted(name: str) -> bool:
    """Whether an adapter changes the parameter of this name."""
    return name.endswith(f"{_BASE}weight")


def layer_of(name: str) -> str:
    """The adapted layer that an adapted weight belongs to."""
    return name.removesuffix(f"{_BASE}weight")


def plain_name(name: str) -> str:
    """A parameter's name in the model of transformers, from its name in a prepared one."""
    return _INSERTED.sub(".", name)


def merged(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """W + scale * B @ A (Hu et al., arXiv 2106.09685), summed in float32, in W's dtype.

    Args:
        weight: W, [outputs, inputs].
        down: A, [rank, inputs].
        up: B, [outputs, rank].
        scale: alpha / rank.
    """
    return (weight.float() + scale * (up.float() @ down.float())).to(weight.dtype)


def matrix_name(layer: str, part: str) -> str:
    """Name under which an adapter's matrix is sent, from its layer's name in transformers."""
    return f"{layer}.lora_{part}.weight"


def adapted_layer(name: str) -> str:
    """The layer in a `matrix_name`."""
    return name.rsplit(".lora_", 1)[0]


def peft_name(name: str) -> str:
    """Name of a sent matrix in an adapter's file, as peft and vLLM read it."""
    return f"base_model.model.{name}"
