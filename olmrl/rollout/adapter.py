"""The policy's adapter on its way into an engine: received in buckets, used as a whole.

The same names and the same scaling as the learner's `adapter_weights`; vLLM reads it from a folder
in peft's form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from olmrl.config.schema import LoraConfig
from olmrl.models import adapters
from olmrl.models.family import Family
from olmrl.scratch import Scratch
from olmrl.weight_sync.checksum import Checksums, checksums
from olmrl.weight_sync.publication import unpack


class IncomingAdapter:
    """The matrices of the newest adapter.

    Args:
        lora: What the learner trains.
    """

    def __init__(self, lora: LoraConfig) -> None:
        self._lora = lora
        self.matrices: dict[str, torch.Tensor] = {}
        """By `adapters.matrix_name`; B is scaled."""
        self._folder = Scratch("adapter")

    @property
    def path(self) -> str:
        """Folder that `write` fills."""
        return self._folder.name

    def begin(self) -> None:
        """Forget the last adapter."""
        self.matrices = {}

    def take(self, info: Mapping[str, Any]) -> None:
        """Add one bucket (`Bucket.info`)."""
        self.matrices |= {name: tensor.clone() for name, tensor in unpack(dict(info))}

    def write(self) -> None:
        """Write it in peft's form; alpha equals the rank, as B is scaled already."""
        folder = Path(self.path)
        named = {adapters.peft_name(name): tensor for name, tensor in self.matrices.items()}
        save_file(named, folder / "adapter_model.safetensors")
        described = {
            "peft_type": "LORA",
            "r": self._lora.rank,
            "lora_alpha": self._lora.rank,
            "target_modules": list(self._lora.target_modules),
            "bias": "none",
        }
        (folder / "adapter_config.json").write_text(json.dumps(described))

    def pairs(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """(A, B) by the name of the weight that they change."""
        layers = {adapters.adapted_layer(name) for name in self.matrices}
        return {
            f"{layer}.weight": (
                self.matrices[adapters.matrix_name(layer, "A")],
                self.matrices[adapters.matrix_name(layer, "B")],
            )
            for layer in sorted(layers)
        }

    def checksums(self, family: Family) -> Checksums:
        """Of the matrices as they arrived."""
        return checksums(self.matrices.items(), family)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()
