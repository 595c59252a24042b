"""The families that olmrl trains: one line each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub

from olmrl.models.family import Family
from olmrl.models.qwen2_5_vl import Qwen25VL
from olmrl.models.qwen2_vl import Qwen2VL
from olmrl.models.qwen3_5 import Qwen35
from olmrl.models.qwen3_vl import Qwen3VL
from olmrl.redaction import leaves

FAMILIES: dict[str, Family] = {
    known.model_type: known for known in (Qwen25VL(), Qwen2VL(), Qwen3VL(), Qwen35())
}
"""By `model_type`."""

_OTHERS = (
    "Qwen3.6", "Qwen3.8", "Qwen2-Audio", "Qwen2.5-Omni", "Qwen3-Omni",
    "InternVL", "Molmo", "SmolVLM", "Idefics", "PaliGemma", "gemma-3", "gemma-4", "Llama-3.2",
    "llava", "MiniCPM-V", "Pixtral", "Phi-3.5-vision", "Phi-4-multimodal", "GLM-4", "GLM-OCR",
    "DeepSeek-OCR", "DeepSeek-VL", "dots.ocr", "PaddleOCR-VL", "LightOnOCR", "HunyuanOCR",
)  # fmt: skip
"""Names on the Hub that tell of a family olmrl cannot train, so that it is refused unseen."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_MOST_PARAMETERS = 10**13
_SIZES = ("_size", "_layers", "_heads", ".depth")
_EXPERTS = re.compile(r"-A\d+B\b")
"""How a mixture of experts gives its active parameters in its name."""
_UNTRAINED = {"_moe": ", a mixture of experts", "_text": ", a language model without vision"}
"""What a model type is by its ending."""


def supported() -> str:
    """The families, for messages."""
    return ", ".join(f"{f.title} ({f.model_type})" for f in FAMILIES.values())


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
    kind = next((k for end, k in _UNTRAINED.items() if str(model_type).endswith(end)), "")
    raise ValueError(
        f"{where}: the model's type is {model_type!r}{kind}, which olmrl cannot train; "
        f"it trains {supported()}"
    )


def family_in(config: Mapping[str, Any], where: str) -> Family:
    """The family of the model that a config.json describes.

    Args:
        config: the config.json.
        where: key or path to begin an error with.

    Raises:
        ValueError: not one that olmrl trains, or a model without a vision part.
    """
    kind = config.get("model_type") if isinstance(config, Mapping) else None
    known = family(kind if isinstance(kind, str) else None, where)
    if not config.get("vision_config"):
        raise ValueError(
            f"{where}: its config.json has no vision_config, and olmrl trains models that read "
            "images"
        )
    return known


def _sized(config: Mapping[str, Any], where: str) -> Family:
    """The family of a model whose sizes the config.json tells.

    Raises:
        ValueError: as for `family_in`, or they cannot be those of a model.
    """
    known = family_in(config, where)
    try:
        parameters = float(known.shape(config).parameters)
    except Exception as error:  # a value of another kind, or none: whatever that leads to
        raise ValueError(
            f"{where}: its config.json lacks a value, or has one that cannot be read "
            f"({type(error).__name__}: {error})"
        ) from error
    below = [
        key for key, n in leaves(config) if key.endswith(_SIZES) and isinstance(n, int) and n < 0
    ]
    if below:
        raise ValueError(f"{where}: {below[0]} in its config.json is below 0")
    if not 0 < parameters < _MOST_PARAMETERS:
        raise ValueError(
            f"{where}: its config.json tells of a model of {parameters:.3g} parameters"
        )
    return known


def family_of(config: Any) -> Family:
    """The family of a loaded model, by its configuration of transformers."""
    return family(config.model_type, "model.path")


def described(path: str) -> tuple[Family, Mapping[str, Any]] | None:
    """Family and sizes of a model, from its folder or its name alone; nothing is fetched.

    Args:
        path: folder, or name of a repository, whose config.json may have been fetched before.

    Returns:
        The family and the config.json, or None for a name that says nothing.

    Raises:
        ValueError: a model that olmrl cannot train, or a config.json that is not JSON.
    """
    file = Path(path) / "config.json"
    if file.is_file():
        try:
            config = json.loads(file.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: not JSON ({error})") from error
        return _sized(config, path), config
    for one in FAMILIES.values():
        tuned = next((base for part, base in one.fine_tunes.items() if part in path), path)
        if tuned in one.published:
            return one, one.published[tuned]
    fetched = _fetched(path)
    if fetched is not None:
        return _sized(fetched, path), fetched
    reason = None if Path(path).exists() else _untrainable(path)
    if reason is not None:
        raise ValueError(f"{path}: {reason} that olmrl cannot train; it trains {supported()}")
    return None


def _fetched(name: str) -> Mapping[str, Any] | None:
    """The config.json of a model on the Hub, if it has been fetched before."""
    if Path(name).exists() or not _HUB_NAME.fullmatch(name):
        return None
    found = huggingface_hub.try_to_load_from_cache(name, "config.json")
    if not isinstance(found, str):
        return None
    config: Mapping[str, Any] = json.loads(Path(found).read_text("utf-8"))
    return config


def _untrainable(name: str) -> str | None:
    """What a model's name tells of it that olmrl cannot train."""
    for other in _OTHERS:
        if other.lower() in name.lower():
            return f"{other} models are of a family"
    return "by its name a mixture of experts" if _EXPERTS.search(name) else None
