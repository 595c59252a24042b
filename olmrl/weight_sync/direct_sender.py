"""Weights that go straight from the learner to the engines, without an intermediate copy.

They are sent in buckets: rank 0 tells every engine what is coming, then the bytes follow over a
link, so no rank holds more than one bucket of gathered weights. An engine that joins between two
sends can only get the weights from the learner, which looks for such engines while it waits
(`pending`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

import ray
import torch

from olmrl.config.schema import WeightSyncConfig
from olmrl.metrics import Measurements
from olmrl.types import PolicyVersion
from olmrl.weight_sync import checksum
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.publication import NamedTensor, groups


class Link(Protocol):
    """How the bytes of a bucket reach all engines of the fleet."""

    def connect(self) -> None:
        """On the sending rank: let the current engines join."""

    def send(self, group: Sequence[NamedTensor], sender: bool) -> None:
        """Move one bucket; every rank calls this, rank 0 with `sender`."""

    def close(self) -> None:
        """Release communicators."""


class DirectSender:
    """A `WeightSender` over a link.

    Args:
        config: In-flight mode, checksum mode.
        fleet: The engines.
        rank: This learner rank; 0 talks to engines.
        wire: dtype in transfer.
        link: Moves the bytes.
        bucket_bytes: Maximum bytes of a bucket with more than one tensor.
    """

    serves_joiners = True

    def __init__(
        self,
        config: WeightSyncConfig,
        fleet: Fleet,
        rank: int,
        wire: torch.dtype,
        link: Link,
        bucket_bytes: int,
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._rank = rank
        self._wire = wire
        self._link = link
        self._bucket_bytes = bucket_bytes

    def send(self, named: Iterable[NamedTensor], version: PolicyVersion) -> Measurements:
        """Gather, send and load, one bucket after the other."""
        started = time.monotonic()
        sender = self._rank == 0
        sums: checksum.Checksums | None = {} if self._config.checksum and sender else None
        if sender:
            self._fleet.refresh()
            self._link.connect()
            self._fleet.call("start_weight_update")
        sent = 0
        stream = checksum.cast_and_count(named, self._wire, sums, self._fleet.family)
        for group in groups(stream, self._bucket_bytes):
            sent += sum(tensor.numel() * tensor.element_size() for _, tensor in group)
            self._link.send(group, sender)
        if not sender:
            return {}
        self._fleet.call("finish_weight_update", lambda _: (version, self._fleet.in_flight))
        ray.get(self._fleet.store.announce.remote(version))
        self._fleet.mark_synced(version)
        if sums is not None:
            self._fleet.verify(sums)
        seconds = time.monotonic() - started
        return self._fleet.measurements(sent, seconds)

    def pending(self) -> bool:
        """See `WeightSender`; engines that failed in the last send are left to the pool."""
        if self._rank != 0:
            return False
        waiting = ray.get(self._fleet.store.unsynced.remote())
        return bool(set(waiting) - set(self._fleet.failed))

    def close(self) -> None:
        """Close the link."""
        self._link.close()
