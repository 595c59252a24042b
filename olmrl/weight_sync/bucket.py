"""What the store keeps of a publication. Without torch: the store's process does not need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from olmrl.types import PolicyVersion, UInt8Array


@dataclass(frozen=True, slots=True)
class Bucket:
    """Some named tensors, packed one after the other, each at a multiple of 64 bytes."""

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    """torch dtype names, e.g. `bfloat16`."""
    shapes: tuple[tuple[int, ...], ...]
    data: Any
    """uint8 [bytes], or a Ray ObjectRef of it."""
    num_bytes: int
    """Bytes of the tensors, without padding."""

    def info(self, data: UInt8Array) -> dict[str, Any]:
        """The bucket as `Engine.update_weights` takes it, with these bytes."""
        return {"names": self.names, "dtypes": self.dtypes, "shapes": self.shapes, "data": data}


@dataclass(frozen=True, slots=True)
class Publication:
    """All weights of one policy version."""

    version: PolicyVersion
    buckets: tuple[Bucket, ...]
    num_bytes: int
    """Bytes of all tensors, without padding."""
