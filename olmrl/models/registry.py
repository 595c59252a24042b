"""The families that olmrl trains: one line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmrl.models.family import Family
from olmrl.models.qwen2_5_vl import Qwen25VL
from olmrl.models.qwen2_vl import Qwen2VL

FAMILIES: dict[str, Family] = {f.model_type: f for f in (Qwen25VL(), Qwen2VL())}
"""By `model_type`."""

_OTHERS = (
    "Qwen3-VL", "Qwen3.5", "Qwen3.6", "Qwen3.8", "Qwen2-Audio", "Qwen2.5-Omni", "Qwen3-Omni",
    "InternVL", "Molmo", "SmolVLM", "Idefics", "PaliGemma", "gemma-3", "gemma-4", "Llama-3.2",
    "llava", "MiniCPM-V", "Pixtral", "Phi-3.5-vision", "Phi-4-multimodal", "GLM-4", "GLM-OCR",
    "DeepSeek-OCR", "DeepSeek-VL", "dots.ocr", "PaddleOCR-VL", "LightOnOCR", "HunyuanOCR",
)  # fmt: skip
"""Names on the Hub that tell of a family olmrl cannot train, so that it is refused unseen."""


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
    raise ValueError(
        f"{where}: the model's type is {model_type!r}, which olmrl cannot train; "
        f"it trains {supported()}"
    )


def family_of(config: Any) -> Family:
    """The family of a loaded model, by its configuration of transformers."""
    return family(config.model_type, "model.path")


def described(path: str) -> tuple[Family, Mapping[str, Any]] | None:
    """Family and sizes of a model, from its folder or its name alone; nothing is fetched.

    Args:
        path: folder, or name of a repository.

    Returns:
        The family and the config.json, or None for a name that says nothing.

    Raises:
        ValueError: a model that olmrl cannot train, or a config.json that is not JSON.
    """
    file = Path(path) / "config.json"
    if file.is_file():
        try:
            config = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: not JSON ({error})") from error
        return family(config.get("model_type"), path), config
    for one in FAMILIES.values():
        tuned = next((base for part, base in one.fine_tunes.items() if part in path), path)
        if tuned in one.published:
            return one, one.published[tuned]
    other = next((name for name in _OTHERS if name.lower() in path.lower()), None)
    if other is not None and not Path(path).exists():
        raise ValueError(
            f"{path}: {other} models are of a family that olmrl cannot train; "
            f"it trains {supported()}"
        )
    return None
