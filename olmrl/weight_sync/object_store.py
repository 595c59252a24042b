"""Weights through Ray's object store: written once, read in place by every engine.

The published weights stay there until the next ones come, so an engine that joins between two sends
reads them itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import ray
import torch

from olmrl.config.schema import WeightSyncConfig
from olmrl.metrics import Measurements, Sum
from olmrl.types import PolicyVersion
from olmrl.weight_sync import checksum
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.publication import NamedTensor, pack
from olmrl.weight_sync.transport import Transport, WeightSender

_MIB = 2**20
_PUTS_UNDER_WAY = 2


class ObjectStore(Transport):
    """For any machine and any engine."""

    def sender(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, wire: torch.dtype
    ) -> WeightSender:
        """See `Transport`."""
        return ObjectStoreSender(config, fleet, rank, wire)


class ObjectStoreSender:
    """Puts flat buckets of weights into the store and tells the engines."""

    serves_joiners = False

    def __init__(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, wire: torch.dtype
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._rank = rank
        self._wire = wire

    def send(self, named: Iterable[NamedTensor], version: PolicyVersion) -> Measurements:
        """Put buckets while later tensors are gathered, then let engines read them."""
        if self._rank != 0:
            for _ in named:
                pass
            return {}
        started = time.monotonic()
        sums: checksum.Checksums | None = {} if self._config.checksum else None
        store = self._fleet.store
        store.begin.remote()
        adding: list[Any] = []
        stream = checksum.cast_and_count(named, self._wire, sums, self._fleet.family)
        for bucket in pack(stream, int(self._config.bucket_mb * _MIB)):
            adding.append(store.add.remote(replace(bucket, data=None), bucket.data))
            if len(adding) > _PUTS_UNDER_WAY:
                ray.get(adding.pop(0))
        ray.get(adding)
        publication = ray.get(store.commit.remote(version))
        published = time.monotonic()
        self._fleet.refresh()
        self._fleet.call("sync", lambda _: (publication, self._fleet.in_flight))
        self._fleet.mark_synced(version)
        if sums is not None:
            self._fleet.verify(sums)
        seconds = time.monotonic() - started
        return self._fleet.measurements(publication.num_bytes, seconds) | {
            "time/weight_publish": Sum(published - started),
            "time/weight_load": Sum(time.monotonic() - published),
        }

    def pending(self) -> bool:
        """Engines that join late read the store's publication themselves."""
        return False

    def close(self) -> None:
        """Nothing to release."""
