"""Reads a checkpoint into vLLM whose names carry the prefix of a wrapper, as the learner does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import torch
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from olmrl.models.weight_files import WRAPPED

LOAD_FORMAT = "olmrl_unwrapped"
"""Its name among vLLM's load formats."""


@register_model_loader(LOAD_FORMAT)
class UnwrappedLoader(DefaultModelLoader):
    """vLLM's own loader, with the names of the model itself."""

    def __init__(self, load_config: LoadConfig) -> None:
        super().__init__(dataclasses.replace(load_config, load_format="auto"))

    def _get_weights_iterator(self, source: Any) -> Iterator[tuple[str, torch.Tensor]]:  # type: ignore[override]
        for name, tensor in super()._get_weights_iterator(source):
            yield re.sub(WRAPPED, "", name), tensor
