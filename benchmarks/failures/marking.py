"""The object store's transport, leaving a mark while it sends: the moment `sync` can be seen.

It does what the product's own does, no slower.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch

from olmrl.config.schema import WeightSyncConfig
from olmrl.metrics import Measurements
from olmrl.types import PolicyVersion
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.object_store import ObjectStore, ObjectStoreSender
from olmrl.weight_sync.publication import NamedTensor

MARK = "CHAOS_SYNC_MARK"
"""Environment variable: the file that exists while weights are sent."""


class MarkedStore(ObjectStore):
    """Sends as `object_store` does."""

    def sender(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, wire: torch.dtype
    ) -> ObjectStoreSender:
        return MarkedSender(config, fleet, rank, wire)


class MarkedSender(ObjectStoreSender):
    """The product's sender between a mark's birth and its end."""

    def send(self, named: Iterable[NamedTensor], version: PolicyVersion) -> Measurements:
        mark = Path(os.environ[MARK])
        mark.touch()
        try:
            return super().send(named, version)
        finally:
            mark.unlink(missing_ok=True)
