"""The Ray actor that knows every engine and owns the latest publication.

It outlives learners: objects that a learner `ray.put`s are lost with it (OwnerDiedError), but an
engine that joins late still needs the weights. It does no work; bytes stay in Ray's object store.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ray

from olmrl.types import PolicyVersion, UInt8Array
from olmrl.weight_sync.bucket import Bucket, Publication
from olmrl.weight_sync.plan import EngineEntry

BEFORE_ANY = PolicyVersion(-1, 0)
"""Older than any version sent."""


class WeightStore:
    """The current engines and the latest publication. Create it with `start_store`."""

    def __init__(self) -> None:
        self._engines: dict[str, EngineEntry] = {}
        self._synced: dict[str, PolicyVersion] = {}
        """The newest version that each engine is known to have."""
        self._coming: list[Bucket] = []
        self._latest: Publication | None = None
        self._version: PolicyVersion | None = None

    def register(self, worker_id: str, handle: Any, ranks: int) -> None:
        """Add an engine; it counts as unsynced once any version has been sent."""
        self._engines[worker_id] = EngineEntry(worker_id, handle, ranks)

    def unregister(self, worker_id: str) -> None:
        """Forget an engine (dead, stalled or leaving)."""
        self._engines.pop(worker_id, None)
        self._synced.pop(worker_id, None)

    def engines(self) -> list[EngineEntry]:
        """All registered engines."""
        return list(self._engines.values())

    def unsynced(self) -> list[str]:
        """Registered engines that do not have the current weights yet."""
        wanted = self._version
        if wanted is None:
            return []
        return sorted(w for w in self._engines if self._synced.get(w, BEFORE_ANY) < wanted)

    def mark_synced(self, worker_id: str, version: PolicyVersion) -> None:
        """Record that an engine loaded a version."""
        if worker_id in self._engines:
            self._synced[worker_id] = version

    def begin(self) -> None:
        """Start a publication; one that was started but never committed is dropped."""
        self._coming = []

    def add(self, bucket: Bucket, data: UInt8Array) -> None:
        """Add a bucket; the copy made here is owned by the store."""
        self._coming.append(replace(bucket, data=ray.put(data)))

    def commit(self, version: PolicyVersion) -> Publication:
        """Make the added buckets the latest publication and free the previous one."""
        buckets = tuple(self._coming)
        self._latest = Publication(version, buckets, sum(bucket.num_bytes for bucket in buckets))
        self._coming = []
        self._version = version
        return self._latest

    def announce(self, version: PolicyVersion) -> None:
        """Record the engines' version if the transport keeps no publication."""
        self._version = version

    def latest(self) -> Publication | None:
        """The latest publication, for an engine that joins late."""
        return self._latest

    def version(self) -> PolicyVersion | None:
        """The version engines must have before they generate; None before the first send."""
        return self._version


def start_store(**options: Any) -> Any:
    """Start the store actor; `options` are Ray's (placement, name).

    Returns:
        Its handle. The actor lives as long as the handle or, if named, as its `lifetime` says.
    """
    return ray.remote(WeightStore).options(**{"num_cpus": 0, **options}).remote()
