"""All living engines as one: calls fan out, and an engine that fails drops out of the send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

from olmrl.types import PolicyVersion
from olmrl.weight_sync import checksum
from olmrl.weight_sync.errors import EngineBroken, WeightMismatch
from olmrl.weight_sync.store import EngineEntry


class Fleet:
    """The engines registered in a WeightStore.

    Args:
        store: The WeightStore actor.
        in_flight: What running requests do at an update.
        timeout_s: Longest wait for one call.
    """

    def __init__(self, store: Any, in_flight: str, timeout_s: float) -> None:
        self.store = store
        self.in_flight = in_flight
        self._timeout_s = timeout_s
        self.engines: list[EngineEntry] = []
        self.membership = -1
        self.failed: list[str] = []

    def refresh(self) -> None:
        """Ask who is there now."""
        self.failed = []
        self.membership, self.engines = ray.get(self.store.engines.remote())

    def start(
        self, method: str, arguments: Callable[[EngineEntry], Sequence[Any]]
    ) -> dict[Any, EngineEntry]:
        """Call a method on every engine at once, without waiting."""
        return {
            getattr(engine.handle, method).remote(*arguments(engine)): engine
            for engine in self.engines
        }

    def collect(self, calls: dict[Any, EngineEntry]) -> dict[str, Any]:
        """Wait for calls; engines that are dead, broken or too slow drop out.

        Returns:
            Results by worker id, of those that answered.

        Raises:
            Exception: whatever else an engine raised (a weight it does not have).
        """
        ray.wait(list(calls), num_returns=len(calls), timeout=self._timeout_s)
        results: dict[str, Any] = {}
        for reference, engine in calls.items():
            try:
                results[engine.worker_id] = ray.get(reference, timeout=0)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError, EngineBroken):
                self.failed.append(engine.worker_id)
        self.engines = [engine for engine in self.engines if engine.worker_id in results]
        return results

    def call(
        self, method: str, arguments: Callable[[EngineEntry], Sequence[Any]] = lambda _: ()
    ) -> dict[str, Any]:
        """Start and collect."""
        return self.collect(self.start(method, arguments)) if self.engines else {}

    def mark_synced(self, version: PolicyVersion) -> None:
        """Tell the store which engines have the version."""
        ray.get([self.store.mark_synced.remote(e.worker_id, version) for e in self.engines])

    def verify(self, expected: checksum.Checksums) -> None:
        """Compare every engine's weights with the learner's.

        Raises:
            WeightMismatch: naming the engine and the first differing weights.
        """
        for worker_id, found in self.call("checksums").items():
            different = checksum.differences(expected, found)
            if different:
                raise WeightMismatch(
                    f"engine {worker_id}: {len(different)} of {len(expected)} weights differ from "
                    f"the learner's after the sync, first {', '.join(different[:3])}"
                )
