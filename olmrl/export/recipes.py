"""The 8-bit recipes, and their names in compressed-tensors, the format that vLLM reads.

Only the linear layers of the language tower are quantised. The vision tower reads the page and the
output head decides between look-alike tokens, so both keep their precision
(docs/formats.md#8-bit-recipes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from olmrl.checkpoint.manifest import CheckpointError
from olmrl.models.family import Family

BLOCK = 128


@dataclass(frozen=True, slots=True)
class Recipe:
    """Precision of weights, activations and the key/value cache."""

    number: Literal["float", "int"]
    """FP8 (e4m3) or int8."""
    blocks: bool = False
    """Weight scales per 128 x 128 block; else per output channel."""
    activations: Literal["none", "token", "tensor"] = "token"
    """Not quantised; dynamic scales per token (or per 128 values of one); static, from pages."""
    kv_cache: bool = False
    """FP8 key/value cache with static scales from pages."""

    @property
    def needs_pages(self) -> bool:
        """Whether it needs calibration pages."""
        return self.kv_cache or self.activations == "tensor"


RECIPES = {
    "w8a8_dynamic": Recipe("float"),
    "w8a8_block": Recipe("float", blocks=True),
    "w8a16": Recipe("float", activations="none"),
    "kv8": Recipe("float", kv_cache=True),
    "int8": Recipe("int", activations="tensor"),
    "int8_dynamic": Recipe("int"),
}
"""w8a8_dynamic is what the released olmOCR-2 FP8 model uses."""


def recipe_of(name: str) -> Recipe:
    """Look up a recipe.

    Raises:
        CheckpointError: unknown (lists the known ones).
    """
    if name not in RECIPES:
        raise CheckpointError(f"recipe {name!r}: unknown; allowed: {', '.join(RECIPES)}")
    return RECIPES[name]


def quantization_config(recipe: Recipe, family: Family) -> dict[str, Any]:
    """The `quantization_config` entry of config.json.

    Raises:
        CheckpointError: compressed-tensors, which owns the format, is not installed.
    """
    try:
        from compressed_tensors.quantization import (  # noqa: PLC0415  the `fp8` extra is optional
            QuantizationArgs,
            QuantizationConfig,
            QuantizationScheme,
        )
    except ImportError as error:
        raise CheckpointError("fp8: needs compressed-tensors; install olmrl[fp8]") from error
    kind: dict[str, Any] = {"num_bits": 8, "type": recipe.number, "symmetric": True}
    static = {**kind, "strategy": "tensor", "dynamic": False}
    weights = {**kind, "dynamic": False, "strategy": "block" if recipe.blocks else "channel"}
    dynamic = {**kind, "dynamic": True, "strategy": "group" if recipe.blocks else "token"}
    if recipe.blocks:
        weights["block_structure"] = [BLOCK, BLOCK]
        dynamic["group_size"] = BLOCK
    inputs = {"none": None, "token": dynamic, "tensor": static}[recipe.activations]
    scheme = QuantizationScheme(
        targets=["Linear"],
        weights=QuantizationArgs(**weights),
        input_activations=QuantizationArgs(**inputs) if inputs else None,
    )
    described = QuantizationConfig(
        config_groups={"group_0": scheme},
        ignore=list(family.unquantised),
        format=f"{recipe.number}-quantized",
        quantization_status="compressed",
        kv_cache_scheme=QuantizationArgs(**static) if recipe.kv_cache else None,
    )
    return dict(described.model_dump(mode="json", exclude_none=True))
