"""The families that olmrl trains: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from olmrl.models.family import Family
from olmrl.models.qwen2_5_vl import Qwen25VL
from olmrl.models.qwen2_vl import Qwen2VL

FAMILIES: dict[str, Family] = {f.model_type: f for f in (Qwen25VL(), Qwen2VL())}
"""By `model_type`."""


def family(model_type: str | None, where: str) -> Family:
    """The family of a model type.

    Args:
        model_type: of a config.json.
        where: key or path to begin an error with.

    Raises:
        ValueError: not one that olmrl trains (lists those it does).
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    supported = ", ".join(f"{f.title} ({f.model_type})" for f in FAMILIES.values())
    raise ValueError(
        f"{where}: the model's type is {model_type!r}, which olmrl cannot train; "
        f"it trains {supported}"
    )


def family_of(config: Any) -> Family:
    """The family of a loaded model, by its configuration of transformers."""
    return family(config.model_type, "model.path")


def published_family(name: str) -> tuple[Family, Mapping[str, Any]] | None:
    """Family and published sizes of a model by its name on the Hub; None where it is not known."""
    for one in FAMILIES.values():
        tuned = next((base for part, base in one.fine_tunes.items() if part in name), name)
        if tuned in one.published:
            return one, one.published[tuned]
    return None
